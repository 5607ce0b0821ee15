"""Tensors whose elements are four bits wide, two to a byte in the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from porting.checkpoint.dtypes import DType
from porting.checkpoint.storage import Array, Box, MappedFile


@dataclass(frozen=True, slots=True)
class Nibbles:
    """A row-major tensor of a four-bit dtype, the first element of a byte in its low half.

    Reads into one element per byte, as ml_dtypes holds them (in the low half, not sign-extended).
    """

    file: MappedFile
    offset: int
    shape: tuple[int, ...]
    dtype: DType

    def read(self, box: Box = ()) -> Array:
        """The elements of the box, unpacked; only the run of bytes that holds them is touched."""
        import numpy as np

        carrier = self.dtype.numpy()
        if not all(self.shape):
            return np.empty(self.shape, carrier)[box]
        first, lead = self._span(box)
        rest = self.shape[len(lead) :]
        values = self._flat(first, prod(lead) * prod(rest))
        whole = values.view(carrier).reshape(*lead, *rest)
        return whole[(*(slice(None) for _ in lead), *box[len(lead) :])]

    def _span(self, box: Box) -> tuple[int, list[int]]:
        """Flat index of the box's first element, and the box's sizes on the leading axes that it cuts in one run."""
        first, inner = 0, prod(self.shape)
        lead: list[int] = []
        for size, part in zip(self.shape, box, strict=False):
            inner //= size
            start, stop, _ = part.indices(size)
            first += start * inner
            lead.append(max(0, stop - start))
            if lead[-1] != 1:
                break
        return first, lead

    def _flat(self, first: int, count: int) -> Array:
        """`count` elements from the flat index `first`, one to a byte."""
        import numpy as np

        low, high = first // 2, (first + count + 1) // 2
        pairs = self.file.array(self.offset + low, high - low, f"tensor at offset {self.offset}")
        out = np.empty(2 * pairs.size, np.uint8)
        out[0::2] = pairs & 0x0F
        out[1::2] = pairs >> 4
        return out[first % 2 : first % 2 + count]

    def release(self) -> None:
        """Give the pages back."""
        self.file.release(self.offset, (prod(self.shape) + 1) // 2)


def packed(pieces: Iterable[memoryview]) -> Iterator[memoryview]:
    """Elements of one byte each to two in a byte, the first in the low half (ONNX's int4)."""
    import numpy as np

    odd = np.empty(0, np.uint8)
    for piece in pieces:
        data = np.frombuffer(piece, np.uint8)
        if odd.size:
            data = np.concatenate([odd, data])
        even = data.size - data.size % 2
        pairs = data[:even] & 0x0F
        odd = data[even:].copy()
        if even:
            yield (pairs[0::2] | pairs[1::2] << 4).data
    if odd.size:
        yield (odd & 0x0F).data
