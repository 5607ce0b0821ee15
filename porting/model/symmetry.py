"""Which units of a model may stand in any order: declared by a family, in the notation of its table.

The table's labels say which axes belong together. What they cannot say, a family adds: that `hidden'` of a query is
heads by units, that heads and inner units are each layer's own while the hidden axis is one for the whole model.
`porting.parity.replica` permutes a model by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from porting.convert.notation import Cell


@dataclass(frozen=True, slots=True)
class Part:
    """A model of a net. sizes: units by label, of the labels that may be reordered. name: its scope's (`teacher`)."""

    sizes: Mapping[str, int]
    name: str = ""


@dataclass(frozen=True)
class Symmetry:
    """The reorderings that leave a model's function as it is.

    dialect: whose names `cells` use. parts: the models of the net, one or several.
    cells: rows in which a label of the table means more than itself, without a scope's prefix, axes in the order of
        that dialect: `pooler.dense.weight : pooled hidden`. A prime marks a second axis in the same order.
    throughout: labels that have one order in all of a part; others have one per layer, where names have a layer.
    fixed: labels that no reordering may touch, and why.
    taps, features: their axes, where not those that the spec gives: `pooled : batch pooled`.
    same: orders that must be another's (`fit` of a student that of the teacher's hidden axis), by full name: the
        part's name, the layer and the label, as `teacher.layer.3.head`.
    """

    dialect: str
    parts: tuple[Part, ...]
    cells: tuple[str, ...]
    fixed: Mapping[str, str]
    throughout: tuple[str, ...] = ("hidden",)
    taps: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    same: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def parsed(self) -> tuple[Cell, ...]:
        """The cells. Raises: TableError."""
        return tuple(Cell.parse(cell) for cell in self.cells)

    @cached_property
    def parsed_taps(self) -> tuple[Cell, ...]:
        """The taps' own axes. Raises: TableError."""
        return tuple(Cell.parse(cell) for cell in self.taps)

    @cached_property
    def parsed_features(self) -> tuple[Cell, ...]:
        """The features' own axes. Raises: TableError."""
        return tuple(Cell.parse(cell) for cell in self.features)

    def part(self, name: str) -> Part:
        """The part of a scope's name: a net of one part is read whatever its scope is called."""
        return next((part for part in self.parts if part.name == name), self.parts[-1])

    def order(self, part: Part, label: str, layer: str) -> str:
        """The full name of a label's order. layer: a number, or empty where there is none."""
        place = f"layer.{layer}." if layer and label not in self.throughout else ""
        full = f"{part.name}.{place}{label}" if part.name else f"{place}{label}"
        return self.same.get(full, full)
