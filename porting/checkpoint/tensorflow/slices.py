"""Partitioned variables: a tensor that is stored as slices, presented as the one tensor it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from porting.checkpoint.dtypes import DType
from porting.checkpoint.storage import Array, Box, Storage
from porting.checkpoint.tensorflow.proto import Extent, Slice

Bounds = tuple[tuple[int, int], ...]
"""Start and stop per axis."""


def bounds(part: Slice, shape: tuple[int, ...]) -> Bounds:
    """A slice's place in the full tensor.

    Raises: ValueError if it has another rank or reaches out of the tensor.
    """
    if len(part) != len(shape):
        raise ValueError(f"a slice of {len(part)} axes in a tensor of shape {shape}")
    placed = tuple(
        (0, n) if length < 0 else (start, start + length) for (start, length), n in zip(part, shape, strict=True)
    )
    if any(start < 0 or stop > n for (start, stop), n in zip(placed, shape, strict=True)):
        raise ValueError(f"slice {placed} reaches out of shape {shape}")
    return placed


def check_tiling(parts: Sequence[Bounds], shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the parts cover the tensor, each element once."""
    volume = sum(prod(stop - start for start, stop in part) for part in parts)
    if volume != prod(shape):
        raise ValueError(f"the slices hold {volume} elements of {prod(shape)}")
    if not shape or not volume:
        return
    import numpy as np

    edges = np.array([part for part in parts if all(start < stop for start, stop in part)], np.int64)
    starts, stops = edges[..., 0], edges[..., 1]
    for i in range(len(edges) - 1):
        later = slice(i + 1, None)
        if ((starts[later] < stops[i]) & (starts[i] < stops[later])).all(axis=1).any():
            raise ValueError(f"slice {tuple(map(tuple, edges[i].tolist()))} overlaps another")


class Tiled(NamedTuple):
    """A tensor whose slices are stored apart; they tile it.

    parts: each slice's place in the tensor and its own storage.
    """

    shape: tuple[int, ...]
    dtype: DType
    parts: tuple[tuple[Bounds, Storage], ...]

    def read(self, box: Box = ()) -> Array:
        """Copied together from the slices; a view where one slice holds the whole box."""
        import numpy as np

        whole = (*box, *[slice(None)] * (len(self.shape) - len(box)))
        want = [part.indices(n)[:2] for part, n in zip(whole, self.shape, strict=True)]
        out: Array | None = None
        for place, storage in self.parts:
            common = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(want, place, strict=True)]
            if any(start >= stop for start, stop in common):
                continue
            inner = tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(common, place, strict=True))
            if common == want:
                return storage.read(inner)
            if out is None:
                out = np.empty([stop - start for start, stop in want], self.dtype.numpy())
            out[tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(common, want, strict=True))] = storage.read(inner)
        return np.empty([max(0, stop - start) for start, stop in want], self.dtype.numpy()) if out is None else out

    def release(self) -> None:
        """Release the slices."""
        for _, storage in self.parts:
            storage.release()


def slice_key(name: bytes, extents: Sequence[Extent]) -> bytes:
    r"""The key of one slice: OrderedCode of 0, name, rank, and start and length along each axis.

    Reference: tensorflow, core/util/saved_tensor_slice_util.cc, core/lib/strings/ordered_code.cc.

    >>> slice_key(b"w", [(0, 2), (0, -1)])
    b'\x00w\x00\x01\x01\x02\x80\x82\x80\x7f'
    """
    escaped = re.sub(rb"[\0\xff]", lambda match: match[0] + (b"\xff" if match[0] == b"\0" else b"\0"), name)
    out = _unsigned(0) + escaped + b"\0\1" + _unsigned(len(extents))
    return out + b"".join(_signed(number) for extent in extents for number in extent)


def _unsigned(value: int) -> bytes:
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def _signed(value: int) -> bytes:
    """The number of leading bits that are alike is the number of bytes; set ones mean that it is not negative."""
    size = (value if value >= 0 else ~value).bit_length() // 7 + 1
    return ((((1 << size) - 1) << 7 * size) ^ (value & ((1 << 8 * size) - 1))).to_bytes(size, "big")
