"""Finds the first place where a target differs from its source, and the known mistake that explains it.

The levels are gone through from the weights up. Within the forward pass each module of the target is fed with the
source's values (teacher forcing), so a tap that deviates then was computed wrongly, and nothing before it is to blame.
Each mistake of the catalogue is made in a reference, the kit's own port in PyTorch, forced in the same way; the one
that takes the deviation away is named. It is kept, and the search goes on, up to `DEPTH` mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from porting.errors import UsageError
from porting.parity.bench import Bench, Chosen, Open, reference_session
from porting.parity.catalogue import CATALOGUE
from porting.parity.diagnosis import Diagnosis, Explanation, Mode, Place
from porting.parity.early import Explained, explain_config, explain_recipe, explain_weights
from porting.parity.explain import Search, merged, undetectable
from porting.parity.mistakes.mistake import Mistake
from porting.parity.noise import LIMIT, ROUNDED, Noise, noise_of
from porting.parity.stage import Question, Stage
from porting.parity.state import Level
from porting.parity.variation import Case, Tensors

if TYPE_CHECKING:
    from porting.parity.observe import Observed

DEPTH = 3
"""Mistakes that are looked for one after the other."""


@dataclass(slots=True)
class _Found:
    """What is known so far. kept: the explanations' variations, which the reference has from then on.

    chance: whether one of them is of rounding or chance.
    """

    explanations: list[Explanation] = field(default_factory=list)
    kept: Chosen = ()
    unexplained: Place | None = None
    not_judged: list[tuple[Level, str]] = field(default_factory=list)
    chance: bool = False

    @property
    def searching(self) -> bool:
        """Whether to look on."""
        return self.unexplained is None and len(self.explanations) < DEPTH and not self.chance

    def take(self, place: Place | None, explained: Explained | None) -> None:
        """Note a place, and what explains it."""
        if explained is not None:
            self.explanations.append(explained[0])
            self.kept = (*self.kept, explained[1])
        elif place is not None:
            self.unexplained = place


def diagnose(
    case: Case,
    source: Observed,
    target: Observed,
    *,
    catalogue: Sequence[Mistake] = CATALOGUE,
    detectable: bool = True,
    open_session: Open = reference_session,
) -> Diagnosis:
    """What target does otherwise than source.

    case: what both were to run, by the reference's names. source, target: what they showed; `target.forced` is made
    with the source's taps given. detectable: whether to find out which mistakes cannot show here. The floor is
    measured on the reference: see `porting.parity.noise`.
    Raises: UsageError for a case that the reference cannot run.
    """
    bench, search, found = Bench(case, source.free, target.forced, open_session), Search(case, catalogue), _Found()
    for early in (explain_config, explain_recipe, explain_weights):
        if found.searching:
            found.take(*early(case, source, target, catalogue))
    if target.refused:
        found.not_judged.append((Level.FORWARD, "the target does not take the weights"))
    elif found.searching:
        _forward(bench, search, found, target)
    return Diagnosis(
        model=case.spec.name,
        task=case.build.task,
        explanations=tuple(found.explanations),
        unexplained=found.unexplained,
        tried=search.tried,
        undetectable=tuple(undetectable(_stages(bench, target), case, catalogue)) if detectable else (),
        not_judged=tuple(found.not_judged),
        wavers=_wavers(_free(bench, target), target),
    )


def _forward(bench: Bench, search: Search, found: _Found, target: Observed) -> None:
    """The taps, forced and then free; and what follows from them if they agree in the end."""
    _searched(replace(_forced(bench, target), wavers=_wavers(_free(bench, target), target)), search, found)
    if found.chance:
        _not_trained(found, target, "rounding and chance cannot be made again: mend it, and run again")
    if not found.searching:
        return
    free = _free(bench, target)
    if not all(one.whole for one in found.kept):
        _not_trained(found, target, "an explanation was made module by module: mend it, and run again")
    elif found.kept and free.deviating(free.run(found.kept)):
        _not_trained(found, target, "what explains single modules does not explain the whole: mend it, and run again")
    else:
        _searched(free, search, found)
        _trained(bench, search, found, target)


def _not_trained(found: _Found, target: Observed, reason: str) -> None:
    found.not_judged += [(level, reason) for level in (Level.BACKWARD, Level.STEP) if target.gradients]


def _trained(bench: Bench, search: Search, found: _Found, target: Observed) -> None:
    """Gradients and steps, with what explains the forward pass in the reference."""
    try:
        for stage in _training(bench, target, found.kept):
            if found.searching:
                _searched(stage, search, found)
    except UsageError as error:  # what is kept has none
        found.not_judged.append((Level.STEP, str(error)))


def _searched(stage: Stage, search: Search, found: _Found) -> None:
    """Look for mistakes until the stage agrees, or one place stays unexplained."""
    held = stage.run(found.kept)
    while found.searching:
        deviating = stage.deviating(held)
        if not deviating:
            break
        explained = search.explain(Question(stage, held, found.kept, deviating))
        if explained is None:
            found.take(stage.place(*next(iter(deviating.items()))), None)
            break
        explanation, trial = explained
        found.take(None, (explanation, trial.variation))
        if trial.mistake.rounding:  # cannot be made again to the bit, so nothing that follows can be judged
            found.chance = True
            break
        if stage.mode == "forced":
            held = merged(stage, held, trial)
        else:  # rounding is that of the reference as it is now: a gradient that is not clipped as it was has another
            held, stage = trial.result, replace(stage, noise=_noise(stage.run, found.kept))


def _wavers(free: Stage, target: Observed) -> str:
    """The first tap in which two equal runs of the target are further apart than an honest port from its source."""
    both = ((tap, free.noise.floors(tap, target.free.get(tap), target.again.get(tap))) for tap in free.order)
    return next((tap for tap, floors in both if floors > LIMIT), "")


def _stages(bench: Bench, target: Observed) -> tuple[Stage, ...]:
    return (_forced(bench, target), *_training(bench, target))


def _forced(bench: Bench, target: Observed) -> Stage:
    return _stage(Level.FORWARD, "forced", bench.forced, target.forced, (), (Level.FORWARD,))


def _free(bench: Bench, target: Observed) -> Stage:
    return _stage(Level.FORWARD, "free", bench.free, target.free, (), (Level.FORWARD,))


def _training(bench: Bench, target: Observed, kept: Chosen = ()) -> Iterator[Stage]:
    """Gradients in the order in which they are computed, and what steps make of them."""
    if target.gradients:
        levels: tuple[Level, ...] = (Level.BACKWARD,)
        stage = _stage(Level.BACKWARD, "", bench.gradients, target.gradients, kept, levels)
        yield replace(stage, order=stage.order[::-1])
    if target.steps:
        levels = (Level.BACKWARD, Level.STEP)
        yield _stage(Level.STEP, "", bench.steps, target.steps, kept, levels)


def _stage(
    level: Level,
    mode: Mode,
    run: Callable[[Chosen], Tensors],
    target: Tensors,
    kept: Chosen,
    levels: tuple[Level, ...],
) -> Stage:
    """With the noise of the reference as it is kept."""
    noise = _noise(run, kept)
    return Stage(level, mode, run, noise, target, tuple(noise.source), levels)


def _noise(run: Callable[[Chosen], Tensors], kept: Chosen) -> Noise:
    return noise_of(run(kept), [run((*kept, one)) for one in ROUNDED])
