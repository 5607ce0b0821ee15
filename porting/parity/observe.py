"""What a backend shows of a model to a diagnosis: every level once, under the reference's names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from porting.errors import MismatchError, UsageError
from porting.parity.bench import step_tensors
from porting.parity.taps import candidates

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Batch, Session
    from porting.model.spec import Config, ModelSpec
    from porting.parity.variation import Case, Tensors

Carry = Callable[[Mapping[str, "Array"]], "Tensors"]
"""From the names and axes of a backend's port to those of the reference."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One side.

    config: its values; recipe: its values, None without one. weights, gradients, steps: by the reference's names. free:
    taps from end to end, again: of a second run of the same. forced: taps with the other side's values given.
    refused: why it could not take the weights. failures: what else it could not do, by section, in a line.
    """

    config: Mapping[str, Any]
    recipe: Mapping[str, Any] | None = None
    weights: Tensors = field(default_factory=dict)
    free: Tensors = field(default_factory=dict)
    again: Tensors = field(default_factory=dict)
    forced: Tensors = field(default_factory=dict)
    gradients: Tensors = field(default_factory=dict)
    steps: Tensors = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)


def observe(
    session: Session, case: Case, weights: Mapping[str, Array], given: Tensors | None, carry: Carry = dict
) -> Observed:
    """Run a session through all levels; its weights are other ones afterwards.

    case: its batch, taps and recipe are run. weights: in the session's dialect. given: the source's taps; None of
    the source itself. The taps that it lacks are not there, and what it cannot do is told.
    """
    config, recipe = case.config.to_dict(), case.recipe.to_dict() if case.recipe else None
    try:
        session.load(weights)
    except MismatchError as error:
        return Observed(config, recipe, refused=error.problems)
    batch = case.batch
    taps = available(session, batch, case.taps)
    free = _in_order(session.forward(batch, taps), case.taps)
    again = _in_order(session.forward(batch, taps), case.taps)
    forced = free
    if given is not None:
        fitting = {name: value for name, value in given.items() if name in free and free[name].shape == value.shape}
        forced = _in_order(session.forward(batch, taps, fitting), case.taps)
    held = carry(session.weights())
    gradients: Tensors = {}
    steps: Tensors = {}
    failures: dict[str, str] = {}
    if "loss" in free:
        try:
            gradients = carry(session.gradients(batch)[1])
            steps = _carried(step_tensors(session, batch), carry) if case.recipe else {}
        except UsageError as error:
            failures["gradients"] = str(error)
    return Observed(config, recipe, held, free, again, forced, gradients, steps, failures=failures)


def with_parameters(seen: Observed, carry: Carry) -> Observed:
    """The same with the names of parameters carried elsewhere, of weights, gradients and steps."""
    return replace(
        seen, weights=carry(seen.weights), gradients=carry(seen.gradients), steps=_carried(seen.steps, carry)
    )


def _in_order(found: Mapping[str, Array], taps: Collection[str]) -> Tensors:
    return {name: found[name] for name in taps if name in found}


def _carried(tensors: Mapping[str, Array], carry: Carry) -> Tensors:
    """Moments and changes under the names of their parameters, each kind for itself."""
    kinds: dict[str, dict[str, Array]] = {}
    for name, value in tensors.items():
        kind, slash, parameter = name.partition("/")
        kinds.setdefault(kind, {})[parameter if slash else ""] = value
    found: dict[str, Array] = {}
    for kind, values in kinds.items():
        found |= {kind: values[""]} if "" in values else {f"{kind}/{n}": v for n, v in carry(values).items()}
    return found


def taps_of(session: Session, spec: ModelSpec, config: Config, batch: Batch) -> tuple[str, ...]:
    """Every tap of a session's task, in the order of computation."""
    return available(session, batch, candidates(spec, config))


def available(session: Session, batch: Batch, taps: Collection[str]) -> tuple[str, ...]:
    """Those of the taps that a session gives, found by halves: most often all are there."""
    names = list(taps)
    if not names:
        return ()
    try:
        found = session.forward(batch, names)
    except UsageError:
        if len(names) == 1:
            return ()
        middle = len(names) // 2
        return available(session, batch, names[:middle]) + available(session, batch, names[middle:])
    return tuple(name for name in names if name in found)
