"""One TensorProto of an ONNX model: where its elements are, without reading them.

Reference: github.com/onnx/onnx, onnx/onnx.proto, messages TensorProto and StringStringEntryProto.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PurePosixPath

import numpy as np

from porting.checkpoint.dtypes import DTYPES, DType
from porting.checkpoint.onnx.storage import SubByte, Varints, count_varints, packed_size
from porting.checkpoint.storage import InMemory, Mapped, MappedFile, Segments, Storage
from porting.checkpoint.wire import BYTES, FIXED32, FIXED64, VARINT, Field, WireError, packed, scan
from porting.errors import FormatError

DIMS, DATA_TYPE, SEGMENT, FLOAT_DATA, INT32_DATA, STRING_DATA, INT64_DATA = 1, 2, 3, 4, 5, 6, 7
NAME, RAW_DATA, DOUBLE_DATA, UINT64_DATA, EXTERNAL_DATA, DATA_LOCATION = 8, 9, 10, 11, 13, 14
PAYLOAD = frozenset(
    {FLOAT_DATA, INT32_DATA, STRING_DATA, INT64_DATA, RAW_DATA, DOUBLE_DATA, UINT64_DATA, EXTERNAL_DATA, DATA_LOCATION}
)
"""The fields that say what the elements are; all others describe the tensor."""

MAX_RANK = 32
"""numpy 1's limit."""

_NAMES = """
    float32 uint8 int8 uint16 int16 int32 int64 string bool float16 float64 uint32 uint64 complex64 complex128
    bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz uint4 int4 float4_e2m1fn float8_e8m0fnu
    uint2 int2
"""
TYPES: dict[int, DType] = {number: DTYPES[name] for number, name in enumerate(_NAMES.split(), 1)}
"""TensorProto.DataType by number."""

_FIXED = {FLOAT_DATA: (FIXED32, 4), DOUBLE_DATA: (FIXED64, 8)}
_HOMES: dict[int, set[str]] = {
    FLOAT_DATA: {"float32", "complex64"},
    DOUBLE_DATA: {"float64", "complex128"},
    INT64_DATA: {"int64"},
    UINT64_DATA: {"uint32", "uint64"},
    INT32_DATA: {name for name, kind in DTYPES.items() if 0 < kind.itemsize < 4} | {"int32"},
    STRING_DATA: {"string"},
}


@dataclass(frozen=True, slots=True)
class Initializer:
    """A TensorProto as it stands in the graph.

    data: the file of external data that holds it, or None.
    start, end: of the message in the model's file.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    storage: Storage
    place: str
    data: Path | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class DataFiles:
    """The files of external data; only those below the model's own folder are opened, each once."""

    model: Path
    opened: dict[Path, MappedFile] = field(default_factory=dict)

    def open(self, location: str, place: str) -> MappedFile:
        """The file that `location` names.

        Raises: FormatError if it leads out of the model's folder or cannot be mapped.
        """
        relative = PurePosixPath(location)
        if not location or "\0" in location or "\\" in location or relative.is_absolute() or ".." in relative.parts:
            raise FormatError(
                self.model, place, f"external data: wanted a file below the model's folder, got {location!r}"
            )
        path = self.model.parent / relative
        if path not in self.opened:
            home = os.path.realpath(self.model.parent)
            if os.path.commonpath([home, os.path.realpath(path)]) != home:
                raise FormatError(
                    self.model, place, f"external data: {location!r} is a link that leaves the model's folder"
                )
            if not os.path.isfile(path):  # noqa: PTH113 - False, not an error, for a name that no file can have
                raise FormatError(self.model, place, f"external data: no file {location!r} beside the model")
            self.opened[path] = MappedFile(path)
        return self.opened[path]


@dataclass(slots=True)
class _Draft:
    """The fields of a TensorProto as they come."""

    name: str = ""
    number: int = 0
    external: bool = False
    dims: list[int] = field(default_factory=list)
    pairs: dict[str, str] = field(default_factory=dict)
    payload: dict[int, list[Field]] = field(default_factory=dict)

    def take(self, item: Field, buffer: memoryview) -> None:
        """Add one field."""
        if item.number == DIMS:
            self._take_dims(item, buffer)
        elif item.number == DATA_TYPE:
            self.number = _want(item, VARINT).value
        elif item.number == NAME:
            self.name = item.text(buffer)
        elif item.number == EXTERNAL_DATA:
            self.pairs.update([read_pair(item, buffer)])
        elif item.number == DATA_LOCATION:
            self.external = _want(item, VARINT).value == 1
        elif item.number in PAYLOAD:
            self.payload.setdefault(item.number, []).append(item)
        elif item.number == SEGMENT:
            raise WireError(item.offset, "a tensor in segments, which no ONNX runtime reads")

    def _take_dims(self, item: Field, buffer: memoryview) -> None:
        fits = item.wire == VARINT or item.value <= 10 * MAX_RANK
        self.dims.extend(
            value - (1 << 64) if value >= 1 << 63 else value for value in (packed(item, buffer) if fits else ())
        )
        if not fits or len(self.dims) > MAX_RANK:
            raise WireError(item.offset, f"a tensor of more than {MAX_RANK} axes")


def read_tensor(file: MappedFile, start: int, end: int, data: DataFiles) -> Initializer:
    """The TensorProto at file[start:end].

    Raises: WireError, FormatError.
    """
    draft = _Draft()
    for item in scan(file.view, start, end):
        draft.take(item, file.view)
    name, source, at = draft.name, None, start
    place = name or f"tensor at {start}"
    dtype, shape = _described(file.path, place, draft.number, draft.dims)
    if draft.external and packed_size(prod(shape), dtype):
        outside, at = _external(data, place, draft.pairs, packed_size(prod(shape), dtype))
        source, storage = outside.path, _dense(outside, at, shape, dtype)
    else:
        storage = _inline(file, place, draft.payload, shape, dtype)
    return Initializer(name, shape, dtype, storage, f"{(source or file.path).name} at {at}", source, start, end)


def _want(item: Field, wire: int) -> Field:
    if item.wire != wire:
        raise WireError(item.offset, f"field {item.number}: wire type {item.wire}, wanted {wire}")
    return item


def read_pair(item: Field, buffer: memoryview) -> tuple[str, str]:
    """Key and value of a StringStringEntryProto field.

    Raises: WireError.
    """
    _want(item, BYTES)
    texts = {part.number: part.text(buffer) for part in scan(buffer, item.offset, item.end) if part.number in (1, 2)}
    return texts.get(1, ""), texts.get(2, "")


def _described(path: Path, place: str, number: int, dims: list[int]) -> tuple[DType, tuple[int, ...]]:
    if number not in TYPES:
        raise FormatError(path, place, f"element type {number}, wanted one of 1 to {len(TYPES)}")
    dtype = TYPES[number]
    span = prod(max(size, 1) for size in dims) * max(dtype.itemsize, 1)
    if any(size < 0 for size in dims) or span >= 1 << 62:
        raise FormatError(path, place, f"shape {dims} is no tensor's")
    return dtype, tuple(dims)


def _external(data: DataFiles, place: str, pairs: dict[str, str], wanted: int) -> tuple[MappedFile, int]:
    """Data file and offset. Without a length the tensor is the rest of the file."""
    file = data.open(pairs.get("location", ""), place)
    offset = _number(data.model, place, pairs, "offset") or 0
    given = _number(data.model, place, pairs, "length")
    length = file.size - offset if given is None else given
    if length != wanted:
        raise FormatError(data.model, place, f"external data: wanted {wanted} bytes, got {length}")
    file.bytes(offset, length, place)
    return file, offset


def _number(path: Path, place: str, pairs: dict[str, str], key: str) -> int | None:
    text = pairs.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise FormatError(path, place, f"external data: wanted a number as {key}, got {text[:40]!r}")
    return int(text)


def _dense(file: MappedFile, offset: int, shape: tuple[int, ...], dtype: DType) -> Storage:
    if dtype.bits < 8:
        return SubByte(file, offset, shape, dtype)
    return Mapped(file, offset, shape, dtype)


def _inline(
    file: MappedFile, place: str, payload: dict[int, list[Field]], shape: tuple[int, ...], dtype: DType
) -> Storage:
    count = prod(shape)
    filled = {
        number: items for number, items in payload.items() if any(item.value or item.wire != BYTES for item in items)
    }
    if dtype.kind == "string":
        return _strings(file, place, payload.get(STRING_DATA, []), shape)
    if not filled and not count:
        return InMemory(np.empty(shape, dtype.numpy()))
    if len(filled) != 1:
        raise FormatError(file.path, place, f"wanted the elements in one field, got fields {sorted(filled)}")
    ((number, items),) = filled.items()
    if number == RAW_DATA:
        last = _want(items[-1], BYTES)
        if last.value != packed_size(count, dtype):
            raise FormatError(
                file.path,
                place,
                f"wanted {packed_size(count, dtype)} bytes for {dtype} {list(shape)}, got {last.value}",
            )
        return _dense(file, last.offset, shape, dtype)
    if dtype.name not in _HOMES[number]:
        raise FormatError(file.path, place, f"{dtype} does not belong in field {number}")
    if number in _FIXED:
        return _fixed(file, place, items, shape, dtype)
    return _varints(file, place, items, shape, dtype)


def _fixed(file: MappedFile, place: str, items: list[Field], shape: tuple[int, ...], dtype: DType) -> Storage:
    """float_data and double_data: little-endian elements in one packed run, or one by one."""
    wire, width = _FIXED[items[0].number]
    runs = tuple((item.offset, item.value if item.wire == BYTES else width) for item in items)
    if any(item.wire not in (BYTES, wire) for item in items):
        raise WireError(items[0].offset, f"field {items[0].number}: wanted wire type {wire}")
    got, wanted = sum(length for _, length in runs), prod(shape) * dtype.itemsize
    if got != wanted:
        raise FormatError(file.path, place, f"wanted {wanted} bytes for {dtype} {list(shape)}, got {got}")
    if len(runs) == 1:
        return Mapped(file, runs[0][0], shape, dtype)
    return Segments(file, runs, shape, dtype)


def _varints(file: MappedFile, place: str, items: list[Field], shape: tuple[int, ...], dtype: DType) -> Storage:
    runs = []
    count = 0
    for item in items:
        length = item.value if item.wire == BYTES else _varint_length(file, item)
        here = count_varints(file.array(item.offset, length, place))
        if here is None:
            raise FormatError(file.path, place, "a packed integer is cut off or longer than 10 bytes")
        runs.append((item.offset, length))
        count += here
    wanted = packed_size(prod(shape), dtype) if dtype.bits < 8 else prod(shape)
    if count != wanted:
        raise FormatError(file.path, place, f"wanted {wanted} integers for {dtype} {list(shape)}, got {count}")
    return Varints(file, tuple(runs), shape, dtype)


def _varint_length(file: MappedFile, item: Field) -> int:
    _want(item, VARINT)
    length = 1
    while file.view[item.offset + length - 1] >= 0x80:
        length += 1
    return length


def _strings(file: MappedFile, place: str, items: list[Field], shape: tuple[int, ...]) -> Storage:
    if len(items) != prod(shape):
        raise FormatError(file.path, place, f"wanted {prod(shape)} strings, got {len(items)}")
    values = np.empty(len(items), object)
    values[:] = [bytes(item.bytes(file.view)) for item in items]
    return InMemory(values.reshape(shape))
