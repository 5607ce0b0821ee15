"""Tensors that one dialect stores and another implies: all zeros."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

from porting.checkpoint.dtypes import DType
from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.pieces import entry_pieces
from porting.checkpoint.storage import Array, Box
from porting.convert.sizes import Bound, axis_size, field_ranges, fill
from porting.convert.table import Dialect, Group, Row


class Zeros(NamedTuple):
    """A storage of zeros; one piece at a time exists."""

    shape: tuple[int, ...]
    dtype: DType

    def read(self, box: Box = ()) -> Array:
        """Zeros of the box's shape."""
        import numpy as np

        return np.broadcast_to(np.zeros((), self.dtype.numpy()), self.shape)[box]

    def release(self) -> None:
        """Nothing is resident."""


def is_zero(entry: TensorEntry) -> bool:
    """Are all bits zero? Reads the tensor; a negative zero is not one, for it would not come back."""
    import numpy as np

    return not any(np.frombuffer(piece, np.uint8).any() for piece in entry_pieces(entry))


class Zeroed(NamedTuple):
    """A target tensor of zeros, which the source's dialect implies. like: a source tensor whose dtype it takes."""

    name: str
    group: str
    shape: tuple[int, ...]
    like: str

    def entry(self, dtype: DType) -> TensorEntry:
        """The tensor."""
        return TensorEntry(self.name, self.shape, dtype, Zeros(self.shape, dtype), "zeros")


def implied(bound: Bound, target: Dialect, group: Group, row: Row) -> bool:
    """Is the row one of zeros that the source's dialect leaves out and the target's stores?"""
    there = group.name in bound.model.groups and target.name in row.cells
    return row.zeros and there and bound.model.dialect.name not in row.cells


def zeroed(
    bound: Bound, target: Dialect, prefix: str, sizes: Mapping[str, int], group: Group, row: Row
) -> tuple[list[Zeroed], list[str]]:
    """The target's tensors of such a row, and problems. A size that nothing tells is the family's usual one."""
    cell = row.cells[target.name][0].cell
    known = {**bound.model.family.evidence, **sizes}
    shape = [size for axis in cell.axes if (size := axis_size(axis, known)) is not None]
    spans = field_ranges(cell, known)
    if spans is None or len(shape) < cell.rank:
        return [], [f"{cell}: a size cannot be told from shapes: pass --config"]
    like = next(name for found in bound.model.found.values() for name in found.names.values())
    names = [prefix + fill(cell, values, {}) for values in product(*spans)]
    return [Zeroed(name, group.name, tuple(shape), like) for name in names], []
