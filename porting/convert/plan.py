"""The plan of a conversion: every target tensor with its rule and its sources, before a byte moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, product

from porting.checkpoint.entry import TensorEntry
from porting.convert.arrange import Arranged, Part
from porting.convert.match import Found, Model, Values
from porting.convert.notation import Cell, size_label
from porting.convert.rule import Rule, derive
from porting.convert.sizes import Bound, field_ranges, fill, spellings
from porting.convert.table import Dialect, Group, Row, Variant
from porting.convert.zeros import Zeroed, implied, zeroed
from porting.errors import TableError


Lookup = Callable[[str], TensorEntry]


@dataclass(frozen=True, slots=True)
class Share:
    """One source tensor's share of a target: its name, sizes per label, element taken per label, label order."""

    name: str
    dims: tuple[int, ...]
    index: tuple[int | None, ...]
    order: tuple[int, ...]


@dataclass(frozen=True)
class Planned:
    """A target tensor.

    layer: its layer, None if it belongs to none. dims: size per label; shape: as written; stacked: dims that
    run over the shares. equal: pairs of sources that must hold the same bits. tied: it is a copy of another target.
    """

    name: str
    group: str
    layer: int | None
    rule: Rule
    shares: tuple[Share, ...]
    dims: tuple[int, ...]
    shape: tuple[int, ...]
    stacked: tuple[int, ...]
    equal: tuple[tuple[str, str], ...] = ()
    tied: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors that its bytes come from."""
        return tuple(dict.fromkeys(share.name for share in self.shares))

    @property
    def all_sources(self) -> tuple[str, ...]:
        """The same, and those that had to be equal to them."""
        return tuple(dict.fromkeys([*self.sources, *(other for _, other in self.equal)]))

    def entry(self, lookup: Lookup, name: str | None = None) -> TensorEntry:
        """The lazy tensor; with another lookup and name, the same rule on an optimizer's slot."""
        found = [lookup(share.name) for share in self.shares]
        parts = tuple(
            Part(e.storage, e.shape, s.dims, s.index, s.order) for e, s in zip(found, self.shares, strict=True)
        )
        dtype = found[0].dtype
        if self.is_copy and found[0].shape == self.shape:
            return TensorEntry(name or self.name, self.shape, dtype, found[0].storage, found[0].place)
        return TensorEntry(
            name or self.name,
            self.shape,
            dtype,
            Arranged(parts, self.dims, self.shape, self.stacked, dtype),
            found[0].place,
        )

    @property
    def steps(self) -> tuple[str, ...]:
        """The operations in words: those of the rule, and layers that are chosen from an axis."""
        taken = sum(at is not None for at in self.shares[0].index)
        if taken == len(self.rule.split):
            return self.rule.steps
        return ("choose layers", *(step for step in self.rule.steps if step != "copy"))

    @property
    def is_copy(self) -> bool:
        """One whole source tensor, its bytes as they are, under the same shape."""
        share = self.shares[0]
        same = share.dims == self.dims == self.shape and all(at is None for at in share.index)
        return len(self.shares) == 1 and not self.stacked and same and share.order == tuple(range(len(self.dims)))


@dataclass(frozen=True, slots=True)
class Dropped:
    """A source tensor that is not carried over, and why. zero: it may be left out only because it is zero."""

    name: str
    reason: str
    zero: bool = False


@dataclass(frozen=True)
class Plan:
    """What becomes of one model. problems: why it cannot be done, all of them."""

    bound: Bound
    dialect: Dialect
    tensors: tuple[Planned, ...]
    zeros: tuple[Zeroed, ...]
    dropped: tuple[Dropped, ...]
    absent: tuple[str, ...]
    prefixes: Mapping[str, str]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """How the target is to be named.

    prefix: of a level, with everything that stands before it. variables: values of free name fields.
    settings: booleans that choose variants (`untie_r`). layers: source layers in target order, None for all.
    wanted: full names a reference lists, None without a reference; it decides about tied copies and spellings.
    untied: source tensors that a row calls tied but whose bits differ from their partner's.
    """

    dialect: Dialect
    prefix: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, bool] = field(default_factory=dict)
    layers: tuple[int, ...] | None = None
    wanted: frozenset[str] | None = None
    untied: frozenset[str] = frozenset()


def plan_model(bound: Bound, target: Target, entries: Mapping[str, TensorEntry]) -> Plan:
    """Plan one model into the target's names."""
    model = bound.model
    tensors: list[Planned] = []
    dropped: list[Dropped] = []
    problems: list[str] = []
    zeros: list[Zeroed] = []
    layered = dict(bound.sizes)
    if target.layers is not None:
        layered["layer"] = len(target.layers)
    for group in model.family.groups:
        planned: list[Planned] = []
        for row in group.rows:
            found = model.found.get(row.key)
            if found is None and implied(bound, target.dialect, group, row):
                prefix = target.prefix.get(group.at, "")
                made, wrong = zeroed(bound, target.dialect, prefix, layered, group, row)
                zeros += made
            elif found is None and (partner := _copied(bound, target, group, row)) is not None:
                rows, wrong = _plan_row(bound, target, layered, group, row, partner, entries)
                planned += [replace(one, tied=True) for one in rows]
            elif found is None:
                wrong = list(_lacking(bound, target, group, row))
            elif row.tie is not None and not _tie_written(bound, target, group, row, found):
                gone, wrong = _tied(bound, target, row, found)
                dropped += gone
            elif (reason := _left_out(model, target.dialect, group, row)) is not None:
                dropped += [Dropped(name, reason, row.zeros) for name in found.names.values()]
                continue
            else:
                rows, wrong = _plan_row(bound, target, layered, group, row, found, entries)
                planned += rows
            problems += wrong
        tensors += _by_layer(planned)
    absent = tuple(g.name for g in model.family.groups if g.name not in model.groups and not g.incidental)
    return Plan(
        bound, target.dialect, tuple(tensors), tuple(zeros), tuple(dropped), absent, target.prefix, tuple(problems)
    )


def _left_out(model: Model, dialect: Dialect, group: Group, row: Row) -> str | None:
    """Why a row has no place in the target: no cell there, or a cell whose name another group has taken."""
    if dialect.name not in row.cells:
        return row.drop or f"{dialect.name} has no such tensor"
    name = row.cells[dialect.name][0].cell.template
    for other in model.family.groups:
        if other.name == group.name:
            return None
        if other.name in model.groups and group.may_share(other):
            names = [line.cells[dialect.name][0].cell.template for line in other.rows if dialect.name in line.cells]
            if name in names:
                return f"{dialect.name} has one {name} for {other.name} and {group.name}, and {other.name} took it"
    return None


def _lacking(bound: Bound, target: Target, group: Group, row: Row) -> Iterator[str]:
    """A row that the target needs and the source's dialect does not have."""
    there = group.name in bound.model.groups and target.dialect.name in row.cells
    if there and bound.model.dialect.name not in row.cells and not row.optional and row.tie is None:
        yield f"{row.cells[target.dialect.name][0].cell.template}: {bound.model.dialect.name} has no such tensor"


def tie_pairs(bound: Bound) -> Iterator[tuple[str, str]]:
    """Pairs of source tensors of which the first is a tied copy of the second, by the table."""
    for found in bound.model.found.values():
        partner = _partner(bound, found.row) if found.row.tie is not None else None
        if partner is not None:
            for values, name in found.names.items():
                if values in partner.names:
                    yield name, partner.names[values]


def _partner(bound: Bound, row: Row) -> Found | None:
    other = bound.model.family.tied_row(row, bound.model.dialect.name)
    return bound.model.found.get(other.key) if other else None


def _tie_written(bound: Bound, target: Target, group: Group, row: Row, found: Found) -> bool:
    """A tied copy is written if the target wants it, if its bits differ, or if it has no partner here."""
    if target.dialect.name not in row.cells:
        return False
    if target.wanted is not None or target.dialect.stores_ties:
        return any(_copy_wanted(target, group, row, values) for values in found.names)
    return _partner(bound, row) is None or not target.untied.isdisjoint(found.names.values())


def _copy_wanted(target: Target, group: Group, row: Row, values: Values = ()) -> bool:
    """Does the reference list the tied copy, or without a reference, do all files of the dialect hold it?"""
    if target.wanted is None:
        return target.dialect.stores_ties
    return _wanted_name(target, group, row.cells[target.dialect.name][0].cell, values) is not None


def _wanted_name(target: Target, group: Group, cell: Cell, values: Values) -> str | None:
    """The full name in the spelling that the reference uses, None if it lists none or there is no reference."""
    prefix = target.prefix.get(group.at, "")
    names = (prefix + name for name in spellings(cell, values, target.variables))
    return next((name for name in names if target.wanted is not None and name in target.wanted), None)


def _copied(bound: Bound, target: Target, group: Group, row: Row) -> Found | None:
    """What a tied copy is made from that the target wants and the source does not hold."""
    there = group.name in bound.model.groups and target.dialect.name in row.cells
    if row.tie is None or not there or not _copy_wanted(target, group, row):
        return None
    return _partner(bound, row)


def _tied(bound: Bound, target: Target, row: Row, found: Found) -> tuple[list[Dropped], list[str]]:
    """Tied copies that are left out, and those that cannot be because they are copies no longer."""
    dropped: list[Dropped] = []
    problems: list[str] = []
    pairs = dict(tie_pairs(bound))
    for name in found.names.values():
        if name in target.untied:
            problems.append(
                f"{name}: differs from {pairs[name]}, and {target.dialect.name} has room for one of them only"
            )
        elif name in pairs:
            dropped.append(Dropped(name, f"tied: equal to {pairs[name]} bit for bit"))
        else:
            dropped.append(Dropped(name, f"{target.dialect.name} ties it to {row.tie}"))
    return dropped, problems


def _choose(forms: tuple[Variant, ...], settings: Mapping[str, bool]) -> Variant:
    for form in forms:
        if form.when and settings.get(form.when[0]) is form.when[1]:
            return form
    return forms[0]


def _plan_row(
    bound: Bound,
    target: Target,
    sizes: Mapping[str, int],
    group: Group,
    row: Row,
    found: Found,
    entries: Mapping[str, TensorEntry],
) -> tuple[list[Planned], list[str]]:
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
    job = _Job(bound, target, sizes, group, row, found, rule, entries)
    spans = field_ranges(cell, sizes) or []
    made = [job.tensor(values) for values in product(*spans)]
    return [one for one in made if one is not None], []


def _unknown(rule: Rule, sizes: Mapping[str, int]) -> list[str]:
    """Labels whose size must be known: those of axes that change, and of fields that are made."""
    plain = {axis for axis in rule.source.axes if axis in rule.target.axes}
    need = [label for axis in (*rule.source.axes, *rule.target.axes) if axis not in plain for label in axis]
    need += [*rule.split, *rule.stack, *rule.replicate]
    return sorted({size_label(label) for label in need if size_label(label) not in sizes})


@dataclass(frozen=True)
class _Job:
    bound: Bound
    target: Target
    sizes: Mapping[str, int]
    group: Group
    row: Row
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
        name = _wanted_name(self.target, self.group, cell, values)
        if name is None:
            name = self.target.prefix.get(self.group.at, "") + fill(cell, values, self.target.variables)
        stacked = tuple(i for i, label in enumerate(self._labels(cell)) if label in stack)
        layer = fixed.get("layer")
        return Planned(name, self.group.name, layer, self.rule, tuple(shares), dims, shape, stacked, tuple(equal))

    def _stacked(self) -> tuple[str, ...]:
        """Labels that run over shares: stacked fields, and the layer axis if layers are chosen from it."""
        chosen = self.target.layers is not None and "layer" in self.rule.kept
        return tuple(l for l in self._labels(self.rule.target) if l in self.rule.stack or (chosen and l == "layer"))

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


def _by_layer(planned: list[Planned]) -> Iterator[Planned]:
    """Rows that run over layers, layer by layer instead of row by row, as models list their parameters."""
    for _, run in groupby(planned, lambda one: one.layer is None):
        yield from sorted(run, key=lambda one: one.layer or 0)
