"""Distances in units of the last place."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def is_floating(kind: np.dtype[Any]) -> bool:
    """Whether elements are floating point numbers whose first bit is a sign: IEEE's, bfloat16 and two of float8."""
    return kind.kind == "f" or kind.name in ("bfloat16", "float8_e5m2", "float8_e4m3fn")


def distances(
    source: Array, target: Array, good: Array | None = None, *, every: int = 1, scratch: Array | None = None
) -> tuple[float, int]:
    """Sum and largest of the distances: how many representable numbers lie between two elements, plus one.

    source, target: flat, of one floating dtype; 0 and -0 are equal. good: which elements count; all by default.
    every: the sum is that of each so many-th element, times as many. scratch: as many float64, which are overwritten.
    """
    whole = np.dtype(f"i{source.dtype.itemsize}")
    a: Array = source.view(whole)
    b: Array = target.view(whole)
    apart = np.empty(a.size, whole) if scratch is None else scratch.view(whole)[: a.size]
    crossed: Array = np.empty(0, np.intp)
    if int(np.bitwise_xor(a, b, out=apart).min(initial=0)) < 0:
        crossed = np.flatnonzero(apart < 0)
    # Patterns of one sign are in the order of the numbers, so their distance is the difference of the integers.
    np.subtract(a, b, out=apart)
    apart[crossed] = 0
    if good is not None:
        apart[~good] = 0
        crossed = crossed[good[crossed]]
    np.abs(apart, out=apart)
    total = float(apart[::every].sum(dtype=np.int64 if whole.itemsize < 8 else np.float64)) * every
    most = int(apart.max(initial=0))
    if crossed.size:
        magnitude = np.iinfo(whole).max
        through_zero = (a[crossed] & magnitude).astype(np.uint64) + (b[crossed] & magnitude).astype(np.uint64)
        total += float(through_zero.sum(dtype=np.float64))
        most = max(most, int(through_zero.max()))
    return total, most
