"""The reference on a bench: runs of the kit's own port in PyTorch under any variation, each made once.

Everything comes back as numpy. Sessions of one config are opened once; the weights are loaded anew where they change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from porting.backends import training
from porting.errors import UsageError
from porting.parity.mistakes.settings import unmasked
from porting.parity.reading import Reading
from porting.parity.variation import Case, Seen, Tensors, Variation, varied

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Session

Open = Callable[..., "Session"]
Chosen: TypeAlias = tuple[Variation, ...]

STEPS = 3
"""Updates that are compared: the first of a warm-up from 0 changes nothing, and beta2's powers need a few."""


def reference_session(*args: Any) -> Session:
    """PyTorch's session on the CPU, which the reference runs in. Imports PyTorch."""
    return import_module("porting.backends.torch.run").open_session(*args)  # type: ignore[no-any-return]


class Bench:
    """Runs of one case.

    source, target: what the two sides' taps were, with the source's given; `forced` gives the source's.
    """

    def __init__(self, case: Case, source: Tensors, target: Tensors, open_session: Open = reference_session) -> None:
        self.case, self.source, self.target = case, source, target
        self._open = open_session
        self._sessions: dict[str, Session] = {}
        self._loaded: dict[str, Tensors] = {}
        self._known: dict[tuple[str, tuple[int, ...]], Mapping[str, Array]] = {}
        self._kept: list[Chosen] = []  # so that an id stands for one variation

    def forced(self, chosen: Chosen = ()) -> Tensors:
        """Every tap, each module fed with what the source gave it."""
        return self._once("forced", chosen, self._forced)

    def free(self, chosen: Chosen = ()) -> Tensors:
        """Every tap of a run from end to end."""
        return self._once("free", chosen, lambda: self._forward(chosen, {}))

    def gradients(self, chosen: Chosen = ()) -> Tensors:
        """Of every trainable parameter."""
        return self._once("gradients", chosen, lambda: self._gradients(chosen))

    def steps(self, chosen: Chosen = ()) -> Tensors:
        """What the first updates made, by the names of `step_tensors`."""
        return self._once("steps", chosen, lambda: self._steps(chosen))

    def _once(self, what: str, chosen: Chosen, make: Callable[..., Tensors]) -> Tensors:
        key = what, tuple(id(one) for one in chosen)
        if key not in self._known:
            self._kept.append(chosen)
            self._known[key] = make() if what != "forced" else make(chosen)
        return self._known[key]

    def _forced(self, chosen: Chosen) -> Tensors:
        given = self.source
        for one in chosen:
            given = given if one.given is None else one.given(given)
        taps = self._forward(chosen, given)
        for one in chosen:
            if one.outputs is not None:
                others = tuple(other for other in chosen if other is not one)
                seen = Seen(self.case, taps, self.source, self.target, partial(self._unmasked, others))
                taps = one.outputs(seen)
        return taps

    def _unmasked(self, chosen: Chosen) -> Tensors:
        """Without masks; with the others' config, weights and batch."""
        plain = tuple(one for one in chosen if one.whole)
        if not hasattr(self, "_maskless"):
            self._maskless = unmasked(self.case)
        return self._once("forced", (*plain, self._maskless), self._forced)

    def _forward(self, chosen: Chosen, given: Tensors) -> Tensors:
        with self._session(chosen) as (session, case):
            taps = [tap for tap in self.case.taps if tap != "loss"]
            found = _forwarded(session, case.batch, taps, given)
        factor = np.float32(np.prod([one.loss for one in chosen]))
        if "loss" in found and factor != 1:
            found["loss"] = found["loss"] * factor
        return {name: found[name] for name in self.case.taps if name in found}

    def _gradients(self, chosen: Chosen) -> Tensors:
        with self._session(chosen) as (session, case):
            _, made = session.gradients(case.batch)
        found: Tensors = made
        factor = np.float32(np.prod([one.loss * one.slope for one in chosen]))
        if factor != 1:
            found = {name: value * factor for name, value in found.items()}
        return Reading(self.case, chosen).gradients(found)

    def _steps(self, chosen: Chosen) -> Tensors:
        case = varied(self.case, chosen)
        factor = float(np.prod([one.loss * one.slope for one in chosen]))
        with entered(chosen), slopes_times(factor):
            session = self._open(case.spec, case.config, case.build, case.recipe)
            session.load(case.weights)
            return Reading(self.case, chosen).steps(step_tensors(session, case.batch))

    @contextmanager
    def _session(self, chosen: Chosen) -> Iterator[tuple[Session, Case]]:
        case = varied(self.case, chosen)
        key = repr((case.config, case.build))
        with entered(chosen):
            if key not in self._sessions:
                self._sessions[key] = self._open(case.spec, case.config, case.build)
            session = self._sessions[key]
            if key not in self._loaded or not _same(self._loaded[key], case.weights):
                session.load(case.weights)
                self._loaded[key] = case.weights
            yield session, case


def _forwarded(session: Session, batch: Tensors, taps: list[str], given: Tensors) -> dict[str, Array]:
    """Taps of a run; where a variation gives a tap another shape, nothing is given in its place."""
    if not given:
        return session.forward(batch, taps)
    try:
        return session.forward(batch, taps, given)
    except UsageError:
        free = session.forward(batch, taps)
        fitting = {name: v for name, v in given.items() if name in free and free[name].shape == v.shape}
        if len(fitting) == len(given):
            raise
        return session.forward(batch, taps, fitting)


def _same(one: Tensors, two: Tensors) -> bool:
    return one is two or (all(one[name] is two[name] for name in one) if one.keys() == two.keys() else False)


@contextmanager
def entered(chosen: Chosen) -> Iterator[None]:
    """Within the patches of variations."""
    with ExitStack() as stack:
        for one in chosen:
            if one.patch is not None:
                stack.enter_context(one.patch())
        yield


@contextmanager
def slopes_times(factor: float) -> Iterator[None]:
    """Every step's gradients times a factor."""
    original = training.Training.step

    def step(self: Any, differentiate: Any, finite: Any, change: Any) -> Any:
        return original(self, lambda scale: differentiate(scale * factor), finite, change)

    if factor != 1:
        training.Training.step = step  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        training.Training.step = original  # type: ignore[method-assign]


def step_tensors(session: Session, batch: Tensors, steps: int = STEPS) -> dict[str, Array]:
    """What the first updates of a session make: for each its rate, norm, moments and changes of weights.

    Named `1.lr`, `1.grad_norm`, `1.m/…`, `1.v/…` and `1.change/…`, in that order, by the number of the update. A change
    is that of all updates so far, in float64.
    """
    before = session.weights()
    found: dict[str, Array] = {}
    for number in range(1, steps + 1):
        made = session.step(batch)
        slots, after = session.slots(), session.weights()
        found |= {f"{number}.lr": np.array([made.lr]), f"{number}.grad_norm": np.array([made.grad_norm])}
        found |= {f"{number}.{role}/{name}": value for role in ("m", "v") for name, value in slots[role].items()}
        changes = {name: after[name].astype(np.float64) - before[name] for name in session.trainable}
        found |= {f"{number}.change/{name}": value for name, value in changes.items()}
    return found
