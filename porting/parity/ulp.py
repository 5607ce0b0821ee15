"""Distances in units of the last place."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def is_floating(kind: np.dtype[Any]) -> bool:
    """Whether elements are floating point numbers whose first bit is a sign: IEEE's, bfloat16 and two of float8."""
    return kind.kind == "f" or kind.name in ("bfloat16", "float8_e5m2", "float8_e4m3fn")


def distances(source: Array, target: Array, good: Array | None = None) -> tuple[float, int]:
    """Sum and largest of the distances: how many representable numbers lie between two elements, plus one.

    source, target: flat, of one floating dtype; 0 and -0 are equal. good: which elements count; all by default.
    """
    whole = np.dtype(f"i{source.dtype.itemsize}")
    a: Array = source.view(whole)
    b: Array = target.view(whole)
    # Patterns of one sign are in the order of the numbers, so their distance is the difference of the integers.
    apart = a - b
    crossed = np.flatnonzero((a ^ b) < 0)
    apart[crossed] = 0
    if good is not None:
        apart[~good] = 0
        crossed = crossed[good[crossed]]
    np.abs(apart, out=apart)
    total = float(apart.sum(dtype=np.int64 if whole.itemsize < 8 else np.float64))
    most = int(apart.max(initial=0))
    if crossed.size:
        magnitude = np.iinfo(whole).max
        through_zero = (a[crossed] & magnitude).astype(np.uint64) + (b[crossed] & magnitude).astype(np.uint64)
        total += float(through_zero.sum(dtype=np.float64))
        most = max(most, int(through_zero.max()))
    return total, most
