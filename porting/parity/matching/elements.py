"""A hash of values that depends neither on their order, nor on names, axes or the width of the dtype.

Ports of one model lay their tensors out differently, and their batches too (NCHW and NHWC). What two captures of a
user's own model have in common is the set of values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xxhash

from porting.convert.proposal.fingerprint import mixed

Array = np.ndarray[Any, np.dtype[Any]]

PIECE = 1 << 20
"""Elements taken at a time: 8 MB in the widest dtype."""

_SEED = 0x9E3779B97F4A7C15


def elements_hash(array: Array) -> str:
    """Count, and sum of the mixed bit patterns modulo 2^64, in float64 or, of whole numbers, int64.

    >>> matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    >>> elements_hash(matrix) == elements_hash(matrix.T.astype(np.float16))
    True
    """
    flat = np.asarray(array).reshape(-1)
    wide = np.int64 if flat.dtype.kind in "iub" else np.float64
    total = 0
    for at in range(0, flat.size, PIECE):
        bits = flat[at : at + PIECE].astype(wide).view(np.uint64)
        total += int(mixed(bits, _SEED).sum(dtype=np.uint64))
    return f"{flat.size:x}.{total % 2**64:016x}"


def set_hash(hashes: Iterable[str]) -> str:
    """One hash over those of several tensors, in any order; `` of none."""
    known = sorted(hashes)
    return xxhash.xxh3_128_hexdigest(" ".join(known).encode()) if known else ""
