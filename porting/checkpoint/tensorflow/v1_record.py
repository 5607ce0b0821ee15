"""One slice of a tensor in a V1 checkpoint: a TensorProto, of which only the values' field is set.

Reference: tensorflow, core/framework/tensor.proto, core/util/saved_tensor_slice_util.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from porting.checkpoint.dtypes import DType
from porting.checkpoint.storage import Array, Box
from porting.checkpoint.tensorflow.leveldb import Table
from porting.checkpoint.wire import WireError, scan
from porting.errors import FormatError

if TYPE_CHECKING:
    import numpy as np

_RAW = {"float32": 5, "float64": 6, "complex64": 9, "complex128": 12}
_VARINT = dict.fromkeys(("int32", "int16", "int8", "uint8", "uint16"), 7)
_VARINT |= {"int64": 10, "bool": 11, "float16": 13, "bfloat16": 13, "uint32": 16, "uint64": 17}
FIELDS = _RAW | _VARINT | {"string": 8}
"""The field of TensorProto that holds a dtype's values: little-endian, as varints, or one string per field."""


@dataclass(slots=True)
class Record:
    """The storage of one slice.

    Little-endian values of an uncompressed block are read as a view; the others are decoded whole and
    kept until `release`, because their elements have no fixed places.
    """

    table: Table
    key: bytes
    name: str
    shape: tuple[int, ...]
    dtype: DType
    decoded: Array | None = None

    def read(self, box: Box = ()) -> Array:
        """The box of elements.

        Raises: FormatError if the record is missing, damaged or of another size.
        """
        if self.decoded is not None:
            return self.decoded[box] if box else self.decoded
        found = self.table.find(self.key)
        if found is None:
            raise FormatError(self.table.file.path, self.name, "its values are missing")
        try:
            chunks = _values(found[0], FIELDS[self.dtype.name])
            whole = self._assemble(chunks)
        except WireError as error:
            raise FormatError(self.table.file.path, self.name, str(error)) from None
        if self.dtype.name not in _RAW:
            self.decoded = whole
        return whole[box] if box else whole

    def _assemble(self, chunks: Sequence[memoryview]) -> Array:
        import numpy as np

        carrier = self.dtype.numpy()
        count = prod(self.shape)
        if self.dtype.kind == "string":
            if len(chunks) != count:
                raise WireError(0, f"wanted {count} strings, got {len(chunks)}")
            strings = np.empty(count, object)
            strings[:] = [bytes(chunk) for chunk in chunks]
            return strings.reshape(self.shape)
        data = chunks[0] if len(chunks) == 1 else memoryview(b"".join(chunks))
        if self.dtype.name in _VARINT:
            return _unpack(data, count, carrier).reshape(self.shape)
        if len(data) != count * carrier.itemsize:
            raise WireError(0, f"wanted {count * carrier.itemsize} bytes, got {len(data)}")
        return np.ndarray(self.shape, carrier, buffer=data) if count else np.empty(self.shape, carrier)

    def release(self) -> None:
        """Give back the pages, and what has been decoded."""
        self.decoded = None
        found = self.table.find(self.key)
        if found is not None and found[1] >= 0:
            self.table.file.release(found[1], len(found[0]))


def _values(record: memoryview, number: int) -> list[memoryview]:
    """The payloads of TensorProto's field `number` in a SavedTensorSlices record.

    Raises: WireError.
    """
    found: list[memoryview] = []
    for outer in scan(record):
        if outer.number != 2:
            continue
        piece = outer.bytes(record)
        for part in scan(piece):
            if part.number == 3:
                tensor = part.bytes(piece)
                found += [value.bytes(tensor) for value in scan(tensor) if value.number == number]
    return found


_PIECE = 4 << 20


def _unpack(data: memoryview, count: int, carrier: np.dtype[Any]) -> Array:
    """`count` packed varints, cut to the width of their type.

    Raises: WireError if there are more or fewer, or one is longer than 10 bytes.
    """
    import numpy as np

    if count > len(data):
        raise WireError(0, f"wanted {count} numbers, got {len(data)} bytes")
    raw = np.frombuffer(data, np.uint8)
    bits = np.empty(count, f"u{carrier.itemsize}")
    at = done = 0
    while at < raw.size:
        piece = raw[at : at + _PIECE]
        ends = np.flatnonzero(piece < 0x80)
        if not ends.size:
            raise WireError(at, "a number is cut off")
        starts = np.concatenate(([0], ends[:-1] + 1))
        widths = ends - starts + 1
        if widths.max() > 10 or done + ends.size > count:
            raise WireError(at, f"wanted {count} numbers of at most 10 bytes")
        values = np.zeros(ends.size, np.uint64)
        for k in range(int(widths.max())):
            held = np.flatnonzero(widths > k)
            values[held] |= (piece[starts[held] + k] & 0x7F).astype(np.uint64) << np.uint64(7 * k)
        bits[done : done + ends.size] = values != 0 if carrier.kind == "b" else values
        at += int(ends[-1]) + 1
        done += ends.size
    if done != count:
        raise WireError(0, f"wanted {count} numbers, got {done}")
    return bits.view(carrier)
