"""Explains deviations: makes each known mistake in the reference and sees whether it takes them away.

What explains: at the place the deviation falls back within what an honest port may show, and at least `GAIN` times.
Of several that do, the one counts that explains most other places and spoils fewest; others that do as well are named
with it, as nothing here tells them apart. Of rounding the falling must do. What chance makes can only be matched by
the sizes of its deviations, and comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, log
from typing import TYPE_CHECKING

import numpy as np

from porting.errors import PortError
from porting.parity.bench import Chosen
from porting.parity.catalogue import forms
from porting.parity.diagnosis import Explanation
from porting.parity.mistakes.mistake import Mistake
from porting.parity.mistakes.weights import layer_of
from porting.parity.noise import LIMIT
from porting.parity.stage import Question, Stage, Trial
from porting.parity.variation import Case, Tensors, Variation

if TYPE_CHECKING:
    from porting.backends.protocol import Array

GAIN = 10.0
"""Times that an explanation must lessen the deviation."""

ALIKE = 2.0
"""Factor within which the sizes of two deviations agree, where only sizes can be compared."""

LEANING, DEVIATIONS = 0.3, 3.0
"""A cosine with the values, or with a constant, that rounding may show: its errors repeat where values do. And beside
it what so many elements show by chance, in standard deviations of it. A wrong factor or constant shows 1.
"""


@dataclass(slots=True)
class Search:
    """The catalogue against one case. tried: how many variations were run."""

    case: Case
    catalogue: Sequence[Mistake]
    tried: int = 0

    def explain(self, question: Question) -> tuple[Explanation, Trial] | None:
        """What explains the first place; None if nothing does."""
        found = [trial for trial in self._trials(question) if _explains(question, trial)]
        if not found:
            return self._similar(question)
        found = [trial for trial in found if trial.after <= LIMIT] or found
        found = [trial for trial in found if trial.score == max(one.score for one in found)]
        best = [trial for trial in found if len(trial.spoiled) == min(len(one.spoiled) for one in found)]
        first = self._narrowed(question, best[0])
        alike = dict.fromkeys(trial.mistake.name for trial in best if trial.mistake.name != first.mistake.name)
        return _explanation(question, first, tuple(alike)), first

    def _trials(self, question: Question) -> Iterator[Trial]:
        for mistake, variation in self._forms(question.stage):
            for chosen in ((*question.kept, variation), (variation,)) if question.kept else ((variation,),):
                trial = self._trial(question, mistake, chosen)
                if trial is not None:
                    yield trial

    def _forms(self, stage: Stage) -> Iterator[tuple[Mistake, Variation]]:
        for mistake in self.catalogue:
            if mistake.level in stage.levels:
                yield from ((mistake, variation) for variation in forms(mistake, self.case))

    def _run(self, stage: Stage, chosen: Chosen) -> Tensors | None:
        """None for what the model cannot be run with."""
        self.tried += 1
        try:
            return stage.run(chosen)
        except PortError:
            return None

    def _trial(self, question: Question, mistake: Mistake, chosen: Chosen) -> Trial | None:
        """None where the first place stays as far off as it was."""
        stage, result = question.stage, self._run(question.stage, chosen)
        if result is None:
            return None
        after = stage.floors(question.what, result)
        if after >= question.before:
            return None
        now = stage.deviating(result)
        fall = GAIN if mistake.rounding else inf
        fallen = (name for name, before in question.deviating.items() if now.get(name, 0.0) <= before / fall)
        explained = frozenset(fallen)
        spoiled = frozenset(name for name in now if name not in question.deviating)
        forced = stage.mode == "forced"
        elsewhere = frozenset(name for name in spoiled if forced and not _beside(name, explained))
        return Trial(mistake, chosen[-1], result, after, explained, spoiled, elsewhere)

    def _narrowed(self, question: Question, trial: Trial) -> Trial:
        """The same in those layers only in which it explains something, if it spoils others."""
        change = trial.variation.weights
        layers = {layer_of(name) for name in trial.explained}
        if change is None or not trial.spoiled or None in layers:
            return trial

        def narrow(weights: Tensors) -> Tensors:
            changed = change(weights)
            return {name: changed[name] if layer_of(name) in layers else value for name, value in weights.items()}

        numbers = ", ".join(str(layer) for layer in sorted(layer for layer in layers if layer is not None))
        form = f"{trial.variation.form}, layer {numbers}"
        variation = replace(trial.variation, form=form, weights=narrow)
        made = self._trial(question, trial.mistake, (*question.kept, variation))
        return made if made is not None and made.score > trial.score else trial

    def _similar(self, question: Question) -> tuple[Explanation, Trial] | None:
        """A mistake of rounding or chance whose deviations have the sizes of the target's, wherever it has any."""
        best: tuple[float, Trial] | None = None
        for mistake, variation in self._forms(question.stage):
            found = self._of_size(question, mistake, variation) if mistake.rounding else None
            if found is not None and (best is None or found[0] < best[0]):
                best = found
        if best is None:
            return None
        return replace(_explanation(question, best[1], ()), similar=True), best[1]

    def _of_size(self, question: Question, mistake: Mistake, variation: Variation) -> tuple[float, Trial] | None:
        """How far sizes are apart, as the largest logarithm of their ratios and 1 for each place spoiled; the trial."""
        stage, held = question.stage, question.held
        result = self._run(stage, (*question.kept, variation))
        if result is None:
            return None
        made = {name: stage.noise.floors(name, held.get(name), result.get(name)) for name in stage.order}
        beyond = {name for name, floors in made.items() if floors > LIMIT * ALIKE}
        if mistake.chance:
            return self._by_chance(question, mistake, variation, result, made)
        if stage.wavers == question.what:  # rounding is the same in every run
            return None
        spoiled = frozenset(beyond - question.deviating.keys())
        apart = max(_ratio(made[name], floors) for name, floors in question.deviating.items())
        if apart > log(ALIKE) or not all(
            _random(held.get(name), stage.target.get(name)) for name in question.deviating
        ):
            return None
        after = stage.floors(question.what, result)
        explained = frozenset(question.deviating)
        return apart + len(spoiled), Trial(mistake, variation, result, after, explained, spoiled, frozenset())

    @staticmethod
    def _by_chance(
        question: Question, mistake: Mistake, variation: Variation, result: Tensors, made: dict[str, float]
    ) -> tuple[float, Trial] | None:
        """Chance differs from run to run: two equal runs of the target must first be apart at the very place."""
        stage, what = question.stage, question.what
        if stage.wavers != what or made[what] <= LIMIT:
            return None
        explained = frozenset(name for name in question.deviating if made[name] > LIMIT)
        spoiled = frozenset(name for name, floors in made.items() if floors > LIMIT) - explained
        left = len(question.deviating) - len(explained)
        after = stage.floors(what, result)
        return float(left + len(spoiled)), Trial(mistake, variation, result, after, explained, spoiled, frozenset())


def _beside(name: str, explained: frozenset[str]) -> bool:
    """Whether a tensor is of a layer in which something is explained, or of none as something that is explained."""
    return layer_of(name) in {layer_of(one) for one in explained}


def _explains(question: Question, trial: Trial) -> bool:
    """Where all is computed of all it must mend more than it spoils."""
    mended = trial.after * GAIN <= question.before and (trial.after <= LIMIT or trial.mistake.rounding)
    return mended and (question.stage.mode == "forced" or trial.score > 0)


def _explanation(question: Question, trial: Trial, alike: tuple[str, ...]) -> Explanation:
    return Explanation(
        mistake=trial.mistake.name,
        what=trial.mistake.what,
        form=trial.variation.form,
        place=question.stage.place(question.what, question.before),
        before=question.before,
        after=trial.after,
        explains=len(trial.explained),
        alike=alike,
    )


def _ratio(one: float, two: float) -> float:
    """The size of the logarithm of a ratio; of what is not finite, 0 if both are not."""
    if not (isfinite(one) and isfinite(two)):
        return 0.0 if isfinite(one) == isfinite(two) else inf
    return abs(log(max(one, 1.0) / max(two, 1.0)))


def _random(ours: Array | None, theirs: Array | None) -> bool:
    """Whether a deviation leans neither one way nor along the values, as far as so few elements can show it."""
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return True
    a, b = np.asarray(ours, np.float64).ravel(), np.asarray(theirs, np.float64).ravel()
    shown = np.isfinite(a) & np.isfinite(b) & (np.abs(a) < 1 / np.finfo(np.float32).eps)
    values, apart = a[shown], b[shown] - a[shown]
    size = float(np.linalg.norm(apart))
    if not size:
        return True
    leaning = abs(float(apart.sum())) / size / apart.size**0.5
    along = abs(float(apart @ values)) / size / (float(np.linalg.norm(values)) or 1.0)
    return bool(max(leaning, along) < LEANING + DEVIATIONS / apart.size**0.5)


def merged(stage: Stage, held: Tensors, trial: Trial) -> Tensors:
    """What the reference holds with an explanation: at each place the value that is nearer to the target.

    Each module was fed for itself, so that a mistake may be in some of them only.
    """
    found: dict[str, Array] = {}
    for name in stage.order:
        nearer = stage.floors(name, trial.result) <= stage.floors(name, held)
        value = (trial.result if nearer else held).get(name)
        if value is not None:
            found[name] = value
    return found


def undetectable(stages: Iterable[Stage], case: Case, catalogue: Sequence[Mistake]) -> Iterator[str]:
    """Mistakes that can be made in this model, and of which none shows in any tensor of this batch."""
    known = tuple(stages)
    shown: dict[str, bool] = {}
    for mistake in catalogue:
        for variation in forms(mistake, case):
            if shown.get(mistake.name):
                break
            shown[mistake.name] = any(_shows(stage, variation) for stage in known if mistake.level in stage.levels)
    return (name for name, shows in shown.items() if not shows)


def _shows(stage: Stage, variation: Variation) -> bool:
    try:
        plain, changed = stage.run(()), stage.run((variation,))
    except PortError:
        return False
    return any(stage.noise.floors(name, plain.get(name), changed.get(name)) > LIMIT for name in stage.order)
