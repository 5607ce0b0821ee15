"""Shapes that files claim, checked before anything is made of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from math import prod
from pathlib import Path

from porting.errors import FormatError

MAX_RANK = 32
"""Axes of a numpy array at most (NPY_MAXDIMS of numpy 1; numpy 2 has 64, which no checkpoint needs)."""


def checked_shape(dims: Iterable[int], itemsize: int, path: Path, place: str) -> tuple[int, ...]:
    """The dims as a shape that numpy can hold; takes no more of them than it must to refuse them.

    itemsize: bytes per element in memory.
    Raises: FormatError naming `path` and `place`: too many axes, a negative one, or a size beyond 64 bits.
    """
    shape = tuple(islice(dims, MAX_RANK + 1))
    if len(shape) > MAX_RANK:
        raise FormatError(path, place, f"wanted at most {MAX_RANK} axes, got more")
    if any(size < 0 for size in shape):
        raise FormatError(path, place, f"wanted axes of 0 or more elements, got {shape}")
    # numpy checks the product of the axes that are not 0, even where the array has no element.
    if prod(size or 1 for size in shape) * max(itemsize, 1) >= 1 << 63:
        raise FormatError(path, place, f"shape {shape} is larger than any memory")
    return shape
