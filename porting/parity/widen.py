"""Stored elements as numbers to calculate with."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def float_of(elements: Array) -> Array:
    """Flat elements as float32 where that holds them exactly, else as float64; float32 and float64 are not copied.

    bfloat16 is the upper half of a float32: shifting it there is many times faster than ml_dtypes' conversion.
    int64 beyond 2^53 is rounded.
    """
    kind = elements.dtype
    if kind.kind == "f" and kind.itemsize >= 4:
        return elements.astype(kind.newbyteorder("="), copy=False)
    if kind.name == "bfloat16":
        result: Array = np.left_shift(elements.view(np.uint16), 16, dtype=np.uint32).view(np.float32)
        return result
    return elements.astype(np.float64 if kind.kind in "iu" and kind.itemsize > 2 else np.float32)
