"""From a row to its target tensors: which sources, which share of each, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

from porting.checkpoint.entry import TensorEntry
from porting.convert.match import Found, Values
from porting.convert.notation import Cell, size_label
from porting.convert.planned import Planned, Share, Target
from porting.convert.rule import Rule, derive
from porting.convert.sizes import Bound, field_ranges, fill
from porting.convert.table import Group, Row, Variant
from porting.convert.ties import wanted_name
from porting.errors import TableError


def _choose(forms: tuple[Variant, ...], settings: Mapping[str, bool]) -> Variant:
    for form in forms:
        if form.when and settings.get(form.when[0]) is form.when[1]:
            return form
    return forms[0]


def plan_row(
    bound: Bound,
    target: Target,
    sizes: Mapping[str, int],
    group: Group,
    row: Row,
    found: Found,
    entries: Mapping[str, TensorEntry],
) -> tuple[list[Planned], list[str]]:
    """All target tensors of a row, and why there are none.

    sizes: elements per label in the target, where layers may have been chosen.
    """
    source = bound.forms[found.row.key].cell
    cell = _choose(row.cells[target.dialect.name], target.settings).cell
    try:
        rule = derive(source, cell)
    except TableError as error:  # two variants of one dialect, which tables need not make derivable
        return [], [f"{cell}: cannot be made of {source}: {error}"]
    unknown = _unknown(rule, sizes)
    if unknown:
        return [], [f"{cell.template}: {', '.join(unknown)} cannot be told from shapes: pass --config"]
    free = [part.name for part in cell.fields if part.kind == "free" and part.name not in target.variables]
    if free:
        return [], [f"{cell.template}: needs a value for {free[0]}: pass --set {free[0]}=NAME"]
    placement = _Placement(bound, target, sizes, group, found, rule, entries)
    spans = field_ranges(cell, sizes) or []
    made = [placement.tensor(values) for values in product(*spans)]
    return [one for one in made if one is not None], []


def _unknown(rule: Rule, sizes: Mapping[str, int]) -> list[str]:
    """Labels whose size must be known: those of axes that change, and of fields that are made."""
    plain = {axis for axis in rule.source.axes if axis in rule.target.axes}
    need = [label for axis in (*rule.source.axes, *rule.target.axes) if axis not in plain for label in axis]
    need += [*rule.split, *rule.stack, *rule.replicate]
    return sorted({size_label(label) for label in need if size_label(label) not in sizes})


class _Placement(NamedTuple):
    """One row of one model on its way: from field values to the tensor that they name."""

    bound: Bound
    target: Target
    sizes: Mapping[str, int]
    group: Group
    found: Found
    rule: Rule
    entries: Mapping[str, TensorEntry]

    def tensor(self, values: Values) -> Planned | None:
        """The target tensor of these field values; None if its sources are allowed to be missing and are."""
        cell = self.rule.target
        fields = [part.name for part in cell.fields if part.kind != "free"]
        fixed = dict(zip(fields, values, strict=True))
        stack = self._stacked()
        shares: list[Share] = []
        equal: list[tuple[str, str]] = []
        for at in product(*(range(self.sizes[size_label(label)]) for label in stack)):
            names = self._names({**fixed, **dict(zip(stack, at, strict=True))})
            if not names:
                return None
            shares.append(self._share(names[0], {**fixed, **dict(zip(stack, at, strict=True))}, stack))
            equal += [(names[0], other) for other in names[1:]]
        dims = self._dims(cell, shares[0].name, self.sizes)
        shape = self._shape(cell, dims)
        name = wanted_name(self.target, self.group, cell, values)
        if name is None:
            name = self.target.prefix.get(self.group.at, "") + fill(cell, values, self.target.variables)
        stacked = tuple(i for i, label in enumerate(self._labels(cell)) if label in stack)
        layer = fixed.get("layer")
        return Planned(name, self.group.name, layer, self.rule, tuple(shares), dims, shape, stacked, tuple(equal))

    def _stacked(self) -> tuple[str, ...]:
        """Labels that run over shares: stacked fields, and the layer axis if layers are chosen from it."""
        chosen = self.target.layers is not None and "layer" in self.rule.kept
        return tuple(
            label
            for label in self._labels(self.rule.target)
            if label in self.rule.stack or (chosen and label == "layer")
        )

    def _labels(self, cell: Cell) -> tuple[str, ...]:
        """What dims count: labels where all their sizes are needed, whole axes where folds stay as they are."""
        return tuple(label for axis in cell.axes for label in (axis if self._open(axis) else ("\0".join(axis),)))

    def _open(self, axis: tuple[str, ...]) -> bool:
        """Must the axis be taken apart? Not if it stands in the same fold on both sides."""
        return len(axis) < 2 or not (axis in self.rule.source.axes and axis in self.rule.target.axes)

    def _old(self, label: str, value: int) -> int:
        return self.target.layers[value] if label == "layer" and self.target.layers is not None else value

    def _names(self, at: Mapping[str, int]) -> list[str]:
        """Source tensors for a place: one, or all that have to be equal."""
        spans = []
        for part in self.rule.source.fields:
            if part.kind == "free":
                continue
            if part.name in at:
                spans.append([self._old(part.name, at[part.name])])
            elif part.name == "layer" and self.target.layers is not None:
                spans.append(list(self.target.layers))
            else:
                spans.append(list(range(self.sizes[part.name] if part.kind == "digits" else len(part.words))))
        return [self.found.names[values] for values in product(*spans) if values in self.found.names]

    def _share(self, name: str, at: Mapping[str, int], stack: Sequence[str]) -> Share:
        labels = self._labels(self.rule.source)
        dims = self._dims(self.rule.source, name, self.bound.sizes)
        taken = set(self.rule.split) | {label for label in stack if label in labels}
        index = tuple(self._old(label, at[label]) if label in taken else None for label in labels)
        left = [label for label in labels if label not in taken]
        wanted = [label for label in self._labels(self.rule.target) if label in left]
        return Share(name, dims, index, tuple(left.index(label) for label in wanted))

    def _dims(self, cell: Cell, name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Sizes of `_labels(cell)`; a fold that stays whole has that of the source tensor."""
        whole = {"\0".join(axis): axis for axis in cell.axes if not self._open(axis)}
        dims: list[int] = []
        for label in self._labels(cell):
            if label in whole:
                axes, shape = self.rule.source.axes, self.entries[name].shape
                dims.append(shape[axes.index(whole[label])])
            else:
                dims.append(sizes[size_label(label)])
        return tuple(dims)

    def _shape(self, cell: Cell, dims: tuple[int, ...]) -> tuple[int, ...]:
        """The shape as written: folded, with the axes of size 1."""
        left = iter(dims)
        shape: list[int] = []
        for axis in cell.axes:
            size = 1
            for _ in axis if self._open(axis) else (axis,):
                size *= next(left)
            shape.append(size)
        return tuple(shape)
