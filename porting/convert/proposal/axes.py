"""In which orders can the axes of one tensor become those of another, and in which do the values agree?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import prod

from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.equal import equal_bits
from porting.convert.arrange import Arranged, Part

MOST_AXES = 6
"""Tensors of more axes are left to the user: their orders are too many to try."""


@dataclass(frozen=True, slots=True)
class Order:
    """How two shapes correspond; axes of size 1 are left out on both sides.

    groups: for each axis of the coarse side the axes of the fine side that it folds, outer first; one each where
    both have as many. fine_is_a: which of the two is the fine side.
    """

    groups: tuple[tuple[int, ...], ...]
    fine_is_a: bool

    @property
    def flat(self) -> tuple[int, ...]:
        """The fine axes in the coarse side's memory order."""
        return tuple(axis for group in self.groups for axis in group)


def squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """The sizes other than 1."""
    return tuple(size for size in shape if size != 1)


def orders(a: Sequence[int], b: Sequence[int]) -> Iterator[Order]:
    """Every way in which the axes of one shape can be those of the other, whatever the values."""
    one, two = squeezed(a), squeezed(b)
    if prod(one) != prod(two) or max(len(one), len(two)) > MOST_AXES:
        return
    fine, coarse = (one, two) if len(one) >= len(two) else (two, one)
    for flat in permutations(range(len(fine))):
        groups = _grouped([fine[i] for i in flat], flat, coarse)
        if groups is not None:
            yield Order(groups, len(one) >= len(two))


def _grouped(sizes: Sequence[int], axes: Sequence[int], coarse: Sequence[int]) -> tuple[tuple[int, ...], ...] | None:
    """Runs of the axes whose sizes multiply to the coarse ones, in order."""
    groups: list[tuple[int, ...]] = []
    at = 0
    for size in coarse:
        start, have = at, 1
        while at < len(sizes) and have < size:
            have *= sizes[at]
            at += 1
        if have != size:
            return None
        groups.append(tuple(axes[start:at]))
    return tuple(groups) if at == len(sizes) else None


def arranged(
    entry: TensorEntry, dims: Sequence[int], order: Sequence[int], index: Sequence[int | None] = ()
) -> TensorEntry:
    """The tensor with its axes (of these sizes) in another order, and without those of which one element is taken."""
    taken = tuple(index) or (None,) * len(dims)
    left = [size for size, at in zip(dims, taken, strict=True) if at is None]
    shape = tuple(left[i] for i in order)
    part = Part(entry.storage, entry.shape, tuple(dims), taken, tuple(order))
    storage = Arranged((part,), shape, shape, (), entry.dtype)
    return TensorEntry(entry.name, shape, entry.dtype, storage, entry.place)


def reshaped(entry: TensorEntry, shape: Sequence[int]) -> TensorEntry:
    """The same bytes under another shape."""
    return arranged(entry, tuple(shape), range(len(shape)))


def agrees(a: TensorEntry, b: TensorEntry, order: Order) -> bool:
    """Do the values agree in this order, bit for bit?"""
    fine, coarse = (a, b) if order.fine_is_a else (b, a)
    view = arranged(fine, squeezed(fine.shape), order.flat)
    return equal_bits(view, reshaped(coarse, view.shape))
