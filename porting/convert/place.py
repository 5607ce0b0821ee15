"""From a row to its target tensors: which sources, which share of each, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

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


@dataclass(frozen=True)
class _Placement:
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
        fixed = dict(zip(self._fields, values, strict=True))
        shares: list[Share] = []
        equal: list[tuple[str, str]] = []
        for at in product(*(range(self.sizes[size_label(label)]) for label in self._stack)):
            place = {**fixed, **dict(zip(self._stack, at, strict=True))}
            names = self._names(place)
            if not names:
                return None
            shares.append(self._share(names[0], place))
            equal += [(names[0], other) for other in names[1:]]
        dims = self._dims(self._target_labels, shares[0].name, self.sizes)
        shape = self._shape(cell, dims)
        name = wanted_name(self.target, self.group, cell, values)
        if name is None:
            name = self.target.prefix.get(self.group.at, "") + fill(cell, values, self.target.variables)
        layer = fixed.get("layer")
        return Planned(name, self.group.name, layer, self.rule, tuple(shares), dims, shape, self._stacked, tuple(equal))

    @cached_property
    def _fields(self) -> list[str]:
        """The target's fields that have values, in order."""
        return [part.name for part in self.rule.target.fields if part.kind != "free"]

    @cached_property
    def _stack(self) -> tuple[str, ...]:
        """Labels that run over shares: stacked fields, and the layer axis if layers are chosen from it."""
        chosen = self.target.layers is not None and "layer" in self.rule.kept
        return tuple(
            label for label in self._target_labels if label in self.rule.stack or (chosen and label == "layer")
        )

    @cached_property
    def _stacked(self) -> tuple[int, ...]:
        """Where these labels stand."""
        return tuple(i for i, label in enumerate(self._target_labels) if label in self._stack)

    @cached_property
    def _source_labels(self) -> tuple[str, ...]:
        return self._labels(self.rule.source)

    @cached_property
    def _target_labels(self) -> tuple[str, ...]:
        return self._labels(self.rule.target)

    def _labels(self, cell: Cell) -> tuple[str, ...]:
        """What dims count: labels where all their sizes are needed, whole axes where folds stay as they are."""
        return tuple(label for axis in cell.axes for label in (axis if self._open(axis) else ("\0".join(axis),)))

    @cached_property
    def _whole(self) -> dict[str, int]:
        """Folds that stay whole, and which axes of the source they are."""
        axes = enumerate(self.rule.source.axes)
        return {"\0".join(axis): i for i, axis in axes if not self._open(axis)}

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

    def _share(self, name: str, at: Mapping[str, int]) -> Share:
        labels = self._source_labels
        dims = self._dims(labels, name, self.bound.sizes)
        index = tuple(self._old(label, at[label]) if label in self._taken else None for label in labels)
        return Share(name, dims, index, self._order)

    @cached_property
    def _taken(self) -> frozenset[str]:
        """Labels of the source of which a share takes one element."""
        return frozenset(self.rule.split) | frozenset(self._stack).intersection(self._source_labels)

    @cached_property
    def _order(self) -> tuple[int, ...]:
        """Where the labels of the target stand among those of the source that a share takes whole."""
        left = [label for label in self._source_labels if label not in self._taken]
        return tuple(left.index(label) for label in self._target_labels if label in left)

    def _dims(self, labels: Sequence[str], name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Sizes of labels; a fold that stays whole has that of the source tensor."""
        return tuple(
            self.entries[name].shape[self._whole[label]] if label in self._whole else sizes[size_label(label)]
            for label in labels
        )

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
