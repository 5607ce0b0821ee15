"""String tensors of a TensorFlow bundle: lengths as varints, the masked crc32c of the lengths, the bytes.

Both crcs cover each length as 4 bytes (8 where it needs them), not the varint.
Reference: tensorflow, core/util/tensor_bundle/tensor_bundle.cc, WriteStringTensor and ReadStringTensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from math import prod
from typing import NamedTuple

from porting.checkpoint.checksum import crc32c
from porting.checkpoint.storage import Array, Box, MappedFile
from porting.checkpoint.tensorflow.leveldb import masked
from porting.checkpoint.wire import WireError, encode_varint, varint
from porting.errors import FormatError


def _checked(lengths: Iterable[int]) -> bytes:
    """The lengths as the crcs see them."""
    return b"".join(length.to_bytes(4 if length < 1 << 32 else 8, "little") for length in lengths)


def encode_strings(values: Sequence[bytes]) -> tuple[bytes, int]:
    """The stored form of a string tensor and its crc32c (not masked)."""
    plain = _checked(map(len, values))
    crc = masked(crc32c(plain)).to_bytes(4, "little")
    body = b"".join(values)
    return b"".join(encode_varint(len(value)) for value in values) + crc + body, crc32c(body, crc32c(plain + crc))


class Strings(NamedTuple):
    """A string tensor in a data file: `size` bytes at `offset`."""

    file: MappedFile
    offset: int
    size: int
    shape: tuple[int, ...]
    name: str

    def read(self, box: Box = ()) -> Array:
        """The values as bytes objects in an object array.

        Raises: FormatError if the lengths do not add up or their crc is wrong.
        """
        import numpy as np

        lengths, at = self._lengths()
        data = self.file.bytes(self.offset, self.size, self.name)
        ends = list(accumulate(lengths, initial=at))
        out = np.empty(len(lengths), object)
        out[:] = [bytes(data[start:stop]) for start, stop in pairwise(ends)]
        whole = out.reshape(self.shape)
        return whole[box] if box else whole  # an empty box would make a 0-d array a plain bytes object

    def release(self) -> None:
        """Strings are copied when they are read; the pages go with the file."""

    def crc(self) -> int:
        """The crc32c (not masked) that the stored bytes come to.

        Raises: FormatError as `read` does.
        """
        lengths, at = self._lengths()
        values = self.file.still(self.offset + at - 4, self.size - at + 4, self.name)
        return crc32c(values, crc32c(_checked(lengths)))

    def _lengths(self) -> tuple[list[int], int]:
        """Each value's length, and where in the tensor the first value begins."""
        data = self.file.bytes(self.offset, self.size, self.name)
        count = prod(self.shape)
        if count + 4 > self.size:
            raise FormatError(self.file.path, self.name, f"{count} strings cannot be in {self.size} bytes")
        lengths: list[int] = []
        at = 0
        try:
            for _ in range(count):
                length, at = varint(data, at, self.size - 4)
                lengths.append(length)
        except WireError as error:
            raise FormatError(self.file.path, self.name, f"string lengths, {error}") from None
        if at + 4 + sum(lengths) != self.size:
            raise FormatError(
                self.file.path, self.name, f"wanted {at + 4 + sum(lengths)} bytes of strings, got {self.size}"
            )
        stored, found = int.from_bytes(data[at : at + 4], "little"), masked(crc32c(_checked(lengths)))
        if stored != found:
            raise FormatError(self.file.path, self.name, f"lengths: wanted crc32c {stored:08x}, they give {found:08x}")
        return lengths, at + 4
