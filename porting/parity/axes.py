"""Which order each axis of a parameter, a tap or a feature stands in: from a family's table and a model's symmetry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from porting.convert.match import Found, Model, match_as
from porting.convert.notation import Axis, Cell
from porting.convert.registry import family_named, target_dialect
from porting.convert.sizes import fill
from porting.convert.table import Dialect
from porting.errors import MismatchError, UsageError
from porting.model.spec import ModelSpec
from porting.model.symmetry import Part, Symmetry

_LAYER = "layer"

BATCH = "batch"
"""The label of examples, whose order no model knows: gradients are sums over them."""

Meaning = Mapping[str, Axis]
"""By label of a row of the table, the labels of the symmetry that it stands for: one, or several folded."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One label of an axis. size: None where only the shape says how many: of examples, and of what is fixed."""

    label: str
    size: int | None

    @property
    def free(self) -> bool:
        """Whether it may be reordered."""
        return self.size is not None or self.label == BATCH


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of one tensor, each of one unit, or of several folded, outer first.

    part: whose sizes these are. layer: of its orders, empty where it has none. stacked: the axis along which the
    layers of a tensor over all layers lie, each in its own orders.
    """

    part: Part
    axes: tuple[tuple[Unit, ...], ...]
    layer: str = ""
    stacked: int | None = None

    @property
    def free(self) -> bool:
        """Whether anything of it may be reordered."""
        return any(moves(axis) for axis in self.axes)


def moves(axis: tuple[Unit, ...]) -> bool:
    """Whether anything of one axis may be reordered."""
    return any(unit.free for unit in axis)


def parameter_axes(
    spec: ModelSpec, symmetry: Symmetry, dialect: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Axes]:
    """The axes of every parameter, by its name in a dialect of the spec's family.

    Raises: MismatchError listing names that the table does not know; UsageError listing the labels for which the
    symmetry does not account.
    """
    family = family_named(spec.family)
    match = match_as(tuple(shapes), family, target_dialect(family, dialect))
    if match.unknown:
        raise MismatchError(f"{spec.name}: not {dialect} names of family {family.name}", match.unknown)
    other = target_dialect(family, symmetry.dialect)
    problems: list[str] = []
    found = {name: axes for model in match.models for name, axes in _of_model(model, other, symmetry, shapes, problems)}
    if problems:
        raise UsageError(
            f"{spec.name}: its symmetry leaves axes open; declare a cell, a size or a fixed label",
            *(f"  {line}" for line in dict.fromkeys(problems)),
        )
    return {name: found[name] for name in shapes}


def _of_model(
    model: Model, other: Dialect, symmetry: Symmetry, shapes: Mapping[str, tuple[int, ...]], problems: list[str]
) -> Iterator[tuple[str, Axes]]:
    part = symmetry.part(model.scope.name)
    for found in model.found.values():
        for values, name in found.names.items():
            cell = _form(found, len(values), len(shapes[name]))
            told = dict(zip(cell.numbered, values, strict=True))
            meaning = _meaning(found, other, symmetry, {**told}, model.variables)
            layer = str(told.get(_LAYER, ""))
            yield name, _read(found, cell, meaning, part, symmetry, layer, problems)


def _form(found: Found, fields: int, rank: int) -> Cell:
    """The variant with as many fields as the name has values, and as many axes as the tensor."""
    cells = [form.cell for form in found.forms if len(form.cell.numbered) == fields]
    return next((cell for cell in cells if cell.rank == rank), cells[0])


def _meaning(
    found: Found, other: Dialect, symmetry: Symmetry, told: Mapping[str, int], variables: Mapping[str, str]
) -> Meaning:
    """What the symmetry's cell for this parameter says; nothing where it has none."""
    if other.name not in found.row.cells:
        return {}
    theirs = found.row.cells[other.name][0].cell
    free = {field.name: field.name for field in theirs.fields if field.kind == "free"}
    name = fill(theirs, tuple(told.get(field, 0) for field in theirs.numbered), {**free, **variables})
    declared = next((cell for cell in symmetry.parsed if cell.match(name) is not None), None)
    if declared is None:
        return {}
    if declared.rank != theirs.rank or any(len(axis) > 1 for axis in theirs.axes):
        raise UsageError(f"symmetry of {name}: the table has {theirs}, the symmetry {declared}")
    pairs = zip(theirs.axes, declared.axes, strict=True)
    return {axis[0]: tuple(label.rstrip("'") for label in meant) for axis, meant in pairs if axis}


def _read(
    found: Found,
    cell: Cell,
    meaning: Meaning,
    part: Part,
    symmetry: Symmetry,
    layer: str,
    problems: list[str],
) -> Axes:
    """A parameter's axes. problems: gets a line for each label that means nothing."""
    axes: list[tuple[Unit, ...]] = []
    stacked = None
    for place, axis in enumerate(cell.axes):
        if axis == (_LAYER,):
            stacked = place
            axes.append((Unit(_LAYER, None),))
            continue
        labels = [label for one in axis for label in meaning.get(one, (one,))]
        open_ = [label for label in labels if label not in part.sizes and label not in symmetry.fixed]
        problems += [f"{found.row.key}: {label}" for label in open_]
        axes.append(_units(labels, part))
    return Axes(part, tuple(axes), layer, stacked)


def _units(labels: Sequence[str], part: Part) -> tuple[Unit, ...]:
    return tuple(Unit(label, part.sizes.get(label)) for label in labels)


def tap_axes(spec: ModelSpec, symmetry: Symmetry, name: str, rank: int) -> Axes:
    """The axes of a tap of so many axes; labels that the symmetry has no size for are fixed.

    Raises: UsageError for a tap that the spec does not list, or none of whose forms has that rank.
    """
    cells = [*symmetry.parsed_taps, *_cells((tap.name, tap.axes) for tap in spec.taps)]
    return _named(spec, symmetry, cells, "tap", name, rank)


def feature_axes(spec: ModelSpec, symmetry: Symmetry, name: str, rank: int) -> Axes:
    """The axes of a feature: memories of a former segment stand in the order of the hidden axis.

    Raises: UsageError as `tap_axes`.
    """
    cells = [*symmetry.parsed_features, *_cells((feature.name, feature.axes) for feature in spec.features)]
    return _named(spec, symmetry, cells, "feature", name, rank)


def _cells(named: Iterator[tuple[str, str]]) -> list[Cell]:
    return [Cell.parse(f"{name} : {axes}".rstrip()) for name, forms in named for axes in forms.split("|")]


def _named(spec: ModelSpec, symmetry: Symmetry, cells: Sequence[Cell], kind: str, name: str, rank: int) -> Axes:
    hits = [(cell, values) for cell in cells if (values := cell.match(name)) is not None]
    if not hits:
        raise UsageError(f"{spec.name}: no {kind} {name}")
    scope = name.partition(".")[0]
    part = symmetry.part(scope if any(part.name == scope for part in symmetry.parts) else "")
    fits = [(cell, values) for cell, values in hits if cell.rank == rank]
    if not fits:
        if any(label in part.sizes for cell, _ in hits for label in cell.labels):
            raise UsageError(f"{spec.name}: {kind} {name} has {rank} axes, wanted {hits[0][0]}")
        return Axes(part, ((),) * rank)
    cell, values = fits[0]
    return Axes(part, tuple(_units(axis, part) for axis in cell.axes), values.get(_LAYER, ""))
