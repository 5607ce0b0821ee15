"""Parameters under the names and axes of their family's first dialect, and back, through the family's table.

A port names its parameters as its framework's users do. A capture holds weights, gradients and moments in one dialect
for all, the family's first, so that captures of two frameworks compare name by name and axis by axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from porting.checkpoint.dtypes import from_numpy
from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.checkpoint.equal import equal_bits
from porting.checkpoint.storage import InMemory
from porting.convert.match import Found, Match, Model, match_as
from porting.convert.names import collapse
from porting.convert.naming import Wishes, reference, target_of
from porting.convert.plan import plan_model
from porting.convert.planned import Plan, Planned
from porting.convert.registry import family_named, target_dialect
from porting.convert.sizes import bind
from porting.convert.table import Dialect, Family
from porting.convert.ties import tie_pairs
from porting.errors import MismatchError
from porting.model.spec import Config, Framework, ModelSpec

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Build

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Naming:
    """One net's parameters in two dialects. native: shapes by the names that its port gives them.

    A gradient or a moment goes the way of its parameter, so both ways take any of them, and any part of them that
    lacks no share of a stacked tensor. What a dialect holds once for all layers (XLNet's biases without untie_r) a
    port may name in one layer or in all of them; in all, the bits must be the same.
    """

    title: str
    native: Shapes
    _forth: tuple[Planned, ...]
    _back: tuple[Planned, ...]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by canonical name, in the order of the family's table, layer by layer."""
        return {one.name: one.shape for one in self._forth}

    def sources(self, name: str) -> tuple[str, ...]:
        """The port's names of what a canonical tensor is made of."""
        return next(one.all_sources for one in self._forth if one.name == name)

    def canonical(self, arrays: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        """Names and values in the first dialect, one after the other, of arrays by the port's names.

        Raises: MismatchError for a name that the port does not have, a part of a tensor without the rest, copies that
        differ.
        """
        return self._carried(self._forth, arrays, self.native)

    def to_native(self, arrays: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        """The way back. Raises: MismatchError likewise."""
        return self._carried(self._back, arrays, self.shapes)

    def _carried(
        self, plan: Iterable[Planned], arrays: Mapping[str, Array], known: Shapes
    ) -> Iterator[tuple[str, Array]]:
        entries = {name: _entry(name, np.asarray(array)) for name, array in arrays.items()}
        _check_shapes(self.title, entries, known)
        for one in plan:
            lacking = [name for name in one.all_sources if name not in entries]
            if len(lacking) == len(one.all_sources):
                continue
            if lacking:
                raise MismatchError(f"{self.title}: {one.name} is made of more", _missing(lacking))
            unequal = [two for first, two in one.equal if not equal_bits(entries[first], entries[two])]
            if unequal:
                lines = [f"{name}  differs from {one.equal[0][0]}" for name in collapse(unequal)]
                raise MismatchError(f"{self.title}: {one.name} is one for all of them", lines)
            yield one.name, one.entry(entries.__getitem__).read()


def naming_of(spec: ModelSpec, config: Config, build: Build, framework: Framework, native: Shapes) -> Naming:
    """How the parameters of a task's port are called and laid out in the family's first dialect.

    native: all of them, as `Session.parameters` has them.
    Raises: MismatchError for a parameter that the table does not know, or that one of the dialects has no place for.
    """
    return naming_between(
        spec, config, build.task, spec.dialects[framework], family_named(spec.family).dialects[0].name, native
    )


def naming_between(spec: ModelSpec, config: Config, task: str, source: str, target: str, native: Shapes) -> Naming:
    """The same for any two dialects of the family: the first is whose names `native` has. Raises: MismatchError."""
    family = family_named(spec.family)
    theirs, ours = target_dialect(family, source), target_dialect(family, target)
    title = f"{spec.name}: {theirs.name} to {ours.name}"
    settings = {name: value for name, value in config.to_dict().items() if isinstance(value, bool)}
    forth = _planned(title, _read(title, native, family, theirs, task), ours, native, settings)
    canonical = {one.name: one.shape for one in forth}
    match = _read(title, canonical, family, ours, task)
    back = _planned(title, match, theirs, canonical, settings, like=native)
    _check_covered(title, native, forth, back)
    return Naming(title, native, forth, tuple(one for one in back if one.name in native))


def _read(title: str, shapes: Shapes, family: Family, dialect: Dialect, task: str) -> Match:
    """Names read as a dialect. Raises: MismatchError for names that the table does not know."""
    match = match_as(tuple(shapes), family, dialect)
    if match.unknown:
        raise MismatchError(title, [f"{name}  not known to the table" for name in collapse(match.unknown)])
    return match._replace(models=tuple(of_task(model, task) for model in match.models))


def of_task(model: Model, task: str) -> Model:
    """The model with names that two heads share read as those of the task's.

    transformers calls what gives XLNet's classes and what gives its score alike; the original does not.
    """
    head = next((group for group in model.family.groups if group.name == task and group.shares), None)
    if head is None:
        return model
    rows = {
        str(row.cells[name][0].cell.template): row for row in head.rows if (name := model.dialect.name) in row.cells
    }
    found = []
    for one in model.found.values():
        row = rows.get(str(one.forms[0].cell.template)) if one.group.name == head.shares else None
        found.append(one if row is None else Found(head, row, row.cells[model.dialect.name], one.names))
    return model._replace(found={one.row.key: one for one in found})


def _planned(
    title: str,
    match: Match,
    target: Dialect,
    shapes: Shapes,
    settings: Mapping[str, bool],
    like: Shapes | None = None,
) -> tuple[Planned, ...]:
    """What each tensor of the target is made of. like: names to follow; without them the dialect's own scopes."""
    entries = {name: _entry(name, _shaped(shape)) for name, shape in shapes.items()}
    plans = _plans(match, target, entries, settings, like)
    problems = [line for plan in plans for line in (*plan.bound.problems, *plan.problems)]
    if problems:
        raise MismatchError(title, problems)
    # Models stand in the order of their prefixes: that of their names differs between dialects.
    return tuple(one for plan in sorted(plans, key=lambda plan: sorted(plan.prefixes.items())) for one in plan.tensors)


def _plans(
    match: Match,
    target: Dialect,
    entries: Mapping[str, TensorEntry],
    settings: Mapping[str, bool],
    like: Shapes | None,
) -> list[Plan]:
    # What is not there is no error here: a port names what is tied once, and not every task has every head.
    bounds = [bind(model, entries, settings, allow_missing=("*",)) for model in match.models]
    followed = None
    if like is not None:
        theirs = {name: _entry(name, _shaped(shape)) for name, shape in like.items()}
        followed = reference(Checkpoint(Path("port"), "memory", theirs), match, target)
    # A port has what is tied once, so two that a table ties are two parameters where both are there.
    untied = frozenset(one for bound in bounds for one, _ in tie_pairs(bound))
    wishes = Wishes(variables=None if like else target.scopes[0].variables, config=settings)
    several = len(bounds) > 1
    targets = [target_of(bound, target, wishes, several=several, like=followed, untied=untied) for bound in bounds]
    return [plan_model(bound, into, entries) for bound, into in zip(bounds, targets, strict=True)]


def _check_covered(title: str, native: Shapes, forth: Iterable[Planned], back: Iterable[Planned]) -> None:
    carried = {name for one in forth for name in one.all_sources}
    returned = {one.name: one.shape for one in back}
    problems = [f"{name}  has no place there" for name in collapse(name for name in native if name not in carried)]
    problems += [f"{name}  does not come back" for name in collapse(name for name in native if name not in returned)]
    problems += [
        f"{name}: wanted {shape}, comes back as {returned[name]}"
        for name, shape in native.items()
        if returned.get(name, shape) != shape
    ]
    if problems:
        raise MismatchError(title, problems)


def _check_shapes(title: str, entries: Mapping[str, TensorEntry], known: Shapes) -> None:
    problems = [f"{name}  unexpected" for name in collapse(name for name in entries if name not in known)]
    problems += [
        f"{name}: wanted {known[name]}, got {entry.shape}"
        for name, entry in entries.items()
        if name in known and entry.shape != known[name]
    ]
    if problems:
        raise MismatchError(title, problems)


def _missing(names: Iterable[str]) -> list[str]:
    return [f"{name}  missing" for name in collapse(names)]


def _entry(name: str, array: Array) -> TensorEntry:
    return TensorEntry(name, array.shape, from_numpy(array.dtype), InMemory(array))


def _shaped(shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """An array of a shape that takes no memory: plans look at shapes only."""
    return np.broadcast_to(np.zeros((), np.float32), shape)
