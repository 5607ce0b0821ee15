"""Tensors that ONNX stores otherwise than element by element: several to a byte, or as varints."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from porting.checkpoint.dtypes import DType
from porting.checkpoint.storage import Array, Box, MappedFile

CHUNK = 1 << 20
"""Encoded bytes decoded at a time, which bounds the temporaries."""


@dataclass(frozen=True, slots=True)
class SubByte:
    """Elements of 2 or 4 bits in a mapped file, the first in the low bits; read one to a byte.

    Source: onnx.proto, TensorProto.raw_data: "two 4-bit values are packed into one byte, the first in the
    four least significant bits".
    """

    file: MappedFile
    offset: int
    shape: tuple[int, ...]
    dtype: DType

    @property
    def extent(self) -> int:
        """Bytes in the file."""
        return packed_size(prod(self.shape), self.dtype)

    def read(self, box: Box = ()) -> Array:
        """Unpacks only the rows of the leading axis that the box asks for."""
        if not self.shape:
            return self._flat(0, 1).reshape(())
        row = prod(self.shape[1:])
        start, stop, _ = (box[0] if box else slice(None)).indices(self.shape[0])
        rows = max(0, stop - start)
        return self._flat(start * row, rows * row).reshape(rows, *self.shape[1:])[(slice(None), *box[1:])]

    def _flat(self, first: int, count: int) -> Array:
        begin, skip = divmod(first, 8 // self.dtype.bits)
        raw = self.file.array(self.offset + begin, packed_size(skip + count, self.dtype), "packed tensor")
        return unpack(raw, self.dtype)[skip : skip + count]

    def release(self) -> None:
        self.file.release(self.offset, self.extent)


def packed_size(count: int, dtype: DType) -> int:
    """Bytes that `count` elements take in raw_data; 0 for strings, which are never there."""
    return -(-count * dtype.bits // 8) if dtype.bits < 8 else count * dtype.itemsize


def unpack(raw: Array, dtype: DType) -> Array:
    """All elements of packed bytes, one to a byte as ml_dtypes holds them (in the low bits, not sign-extended)."""
    per_byte = 8 // dtype.bits
    wide = np.empty((raw.size, per_byte), np.uint8)
    for k in range(per_byte):
        np.right_shift(raw, k * dtype.bits, out=wide[:, k])
    values = wide.reshape(-1)
    return (values & (1 << dtype.bits) - 1).view(dtype.numpy())


@dataclass(frozen=True, slots=True)
class Varints:
    """A tensor in int32_data, int64_data or uint64_data: varints, each holding a value or its bit pattern.

    Elements below 8 bits lie there as the bytes of raw_data would, one byte to a varint.

    runs: (offset, length) of the packed fields, in order.
    kept: the decoded array between the first `read` and `release`.
    """

    file: MappedFile
    runs: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]
    dtype: DType
    kept: list[Array] = field(default_factory=list, compare=False, repr=False)

    def read(self, box: Box = ()) -> Array:
        if not self.kept:
            parts = [part for offset, length in self.runs for part in self._decode(offset, length)]
            flat = np.concatenate(parts) if parts else np.empty(0, np.uint64)
            self.kept.append(self._carry(flat).reshape(self.shape))
        return self.kept[0][box]

    def _decode(self, offset: int, length: int) -> list[Array]:
        raw = self.file.array(offset, length, "packed integers")
        parts, at = [], 0
        width = np.uint64 if self.dtype.itemsize == 8 else np.uint32
        while at < length:
            ends = np.flatnonzero(raw[at : at + CHUNK] < 0x80)
            chunk = raw[at : at + int(ends[-1]) + 1]
            parts.append(decode_varints(chunk, ends).astype(width))
            at += chunk.size
        return parts

    def _carry(self, flat: Array) -> Array:
        if self.dtype.bits < 8:
            return unpack(flat.astype(np.uint8), self.dtype)[: prod(self.shape)]
        return flat.astype(f"u{self.dtype.itemsize}").view(self.dtype.numpy())

    def release(self) -> None:
        self.kept.clear()


def decode_varints(raw: Array, ends: Array) -> Array:
    """The uint64 values of a run of varints; `ends` are the indices of their last bytes.

    Varints of more than 10 bytes keep their low 64 bits, as protobuf's own parsers do.
    """
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = np.minimum(ends - starts + 1, 10)
    values = np.zeros(ends.size, np.uint64)
    for k in range(int(lengths.max(initial=0))):
        longer = lengths > k
        payload = (raw[starts[longer] + k] & 0x7F).astype(np.uint64)
        values[longer] |= payload << np.uint64(7 * k)
    return values


def count_varints(raw: Array) -> int | None:
    """How many varints a run of bytes holds; None if the last one is cut off or one is longer than 10 bytes."""
    if not raw.size:
        return 0
    count = longest = 0
    for at in range(0, raw.size, CHUNK):
        last = raw[at : at + CHUNK] < 0x80
        ends = np.flatnonzero(last)
        gaps = np.diff(ends, prepend=-1)
        longest = max(longest, int(gaps.max(initial=last.size - (int(ends[-1]) if ends.size else 0))))
        count += ends.size
    return None if raw[-1] >= 0x80 or longest > 10 else count
