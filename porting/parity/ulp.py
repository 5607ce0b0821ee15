"""Distances in units of the last place."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def is_floating(kind: np.dtype[Any]) -> bool:
    """Whether elements are floating point numbers whose first bit is a sign: IEEE's, bfloat16 and two of float8."""
    return kind.kind == "f" or kind.name in ("bfloat16", "float8_e5m2", "float8_e4m3fn")


def distances(source: Array, target: Array) -> Array:
    """How many representable numbers lie between the elements, plus one; 0 for equals, -0 and 0 among them.

    source, target: flat, of one floating dtype. NaN counts as a number beyond infinity. Exact as float64 up to 2^53,
    and for all dtypes of 32 bits or less.
    """
    a, b = _ordered(source), _ordered(target)
    if a.dtype.itemsize < 8:
        near: Array = np.abs(np.subtract(a, b, dtype=np.float64))
        return near
    apart = np.abs(a - b).astype(np.float64)
    return np.where((a < 0) == (b < 0), apart, np.abs(a.astype(np.float64)) + np.abs(b.astype(np.float64)))


def _ordered(values: Array) -> Array:
    """Bit patterns as integers in the order of the numbers: sign and magnitude become two's complement."""
    whole = np.dtype(f"i{values.dtype.itemsize}")
    bits: Array = values.view(whole)
    sign = bits >> (8 * whole.itemsize - 1)
    magnitude: Array = bits & np.iinfo(whole).max
    np.bitwise_xor(magnitude, sign, out=magnitude)
    return np.subtract(magnitude, sign, out=magnitude)
