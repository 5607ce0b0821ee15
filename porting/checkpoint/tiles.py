"""Copies a strided array into row-major order at memory speed.

numpy's own transposing copy falls to below 1 GB/s when the strides are powers of two, because the
lines of a column land in the same cache sets. So the plane of the two axes that matter is cut into
tiles; each is gathered row by row into a scratch whose rows are padded by 16 elements, and written
out from there.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from porting.checkpoint.storage import Array

TILE = 256
PAD = 16
_CARRIERS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def raw(array: Array) -> Array:
    """The same elements as unsigned integers of the same width: bits move, values are never interpreted."""
    if array.dtype.itemsize in _CARRIERS:
        return array.view(_CARRIERS[array.dtype.itemsize])
    return array


def pack(source: Array, out: memoryview | None = None) -> memoryview:
    """The bytes of the elements in row-major order: those of the array if they already lie so, else copied into `out`.

    out: at least source.nbytes long; made if absent.
    """
    if source.flags.c_contiguous:
        return source.reshape(-1).view(np.uint8).data
    flat = np.empty(source.nbytes, np.uint8) if out is None else np.frombuffer(out, np.uint8, source.nbytes)
    carried = raw(source)
    target = flat.view(carried.dtype).reshape(carried.shape)
    copy(target, carried)
    return flat.data


def copy(target: Array, source: Array) -> None:
    """target[...] = source, tiled where the source's fastest axis is not the target's last."""
    strides = [abs(s) if n > 1 else 1 << 62 for s, n in zip(source.strides, source.shape, strict=True)]
    fast = int(np.argmin(strides)) if strides else 0
    last = max((i for i, n in enumerate(source.shape) if n > 1), default=0)
    if source.ndim < 2 or fast == last or source.shape[fast] * source.shape[last] < TILE * PAD:
        target[...] = source
        return
    others = [range(n) if i not in (fast, last) else (slice(None),) for i, n in enumerate(source.shape)]
    scratch = np.empty((TILE, TILE + PAD), source.dtype)
    index: Any
    for index in product(*others):
        plane = source[index] if fast < last else source[index].T
        into = target[index] if fast < last else target[index].T
        _plane(into, plane, scratch)


def _plane(target: Array, source: Array, scratch: np.ndarray[Any, np.dtype[Any]]) -> None:
    """Both are (fast, last): the source is contiguous along the first axis, the target along the second."""
    rows, columns = source.shape
    for i in range(0, rows, TILE):
        for j in range(0, columns, TILE):
            block = source[i : i + TILE, j : j + TILE]
            height, width = block.shape
            tile = scratch[:width, :height]
            tile[...] = block.T
            target[i : i + height, j : j + width] = tile.T
