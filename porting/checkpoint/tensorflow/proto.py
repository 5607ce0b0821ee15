"""The protobuf messages of TensorFlow's checkpoints: dtypes, shapes, slices, bundle header and entries, object graph.

Reference: tensorflow, core/protobuf/{tensor_bundle,trackable_object_graph}.proto,
core/framework/{types,tensor_shape,tensor_slice}.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import prod
from typing import NamedTuple

from porting.checkpoint.dtypes import DTYPES, DType
from porting.checkpoint.wire import WireError, fixed32, integer, message, scan, varint

STRING = 7
NUMBERS = {
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "string": STRING,
    "complex64": 8,
    "int64": 9,
    "bool": 10,
    "bfloat16": 14,
    "uint16": 17,
    "complex128": 18,
    "float16": 19,
    "uint32": 22,
    "uint64": 23,
    "float8_e5m2": 24,
    "float8_e4m3fn": 25,
    "float8_e4m3fnuz": 26,
    "float8_e4m3b11fnuz": 27,
    "float8_e5m2fnuz": 28,
    "int4": 29,
    "uint4": 30,
    "int2": 31,
    "uint2": 32,
    "float4_e2m1fn": 33,
}
"""DataType numbers. The types of less than 8 bits are stored one element to a byte, as TensorFlow 2.21 saves them."""

QUANTISED = {11: "int8", 12: "uint8", 13: "int32", 15: "int16", 16: "uint16"}
"""DT_QINT8 and its kin: integers whose scale lies elsewhere in the graph."""

OPAQUE = {20: "resource", 21: "variant"}
"""What only TensorFlow itself can read: handles and C++ objects."""

_DTYPES = {number: DTYPES[name] for name, number in NUMBERS.items()}
_DTYPES.update({number: DTYPES[name] for number, name in QUANTISED.items()})

MAX_RANK = 32
"""numpy 1's limit; TensorFlow's own is 254, but no variable comes near either."""

Extent = tuple[int, int]
"""Start and length along one axis; (0, -1) for all of it."""

Slice = tuple[Extent, ...]
"""The part of a tensor that one slice holds: an extent per axis."""


def dtype_of(number: int) -> DType | None:
    """The dtype of a DataType number, or None if it has no counterpart; quantised integers read as plain ones."""
    return _DTYPES.get(number)


def parse_shape(data: memoryview) -> tuple[int, ...]:
    """TensorShapeProto: elements per axis.

    Raises: WireError for a shape that is unknown, negative or larger than memory can be addressed.
    """
    shape: list[int] = []
    for field in scan(data):
        if field.number == 2:
            size = 0
            for part in scan(data, field.offset, field.offset + len(field.bytes(data))):
                if part.number == 1:
                    size = part.signed
            shape.append(size)
        elif field.number == 3 and field.value:
            raise WireError(field.offset, "the shape's rank is unknown")
    if len(shape) > MAX_RANK:
        raise WireError(0, f"wanted at most {MAX_RANK} axes, got {len(shape)}")
    if min(shape, default=0) < 0 or prod(max(size, 1) for size in shape) >= 1 << 58:
        raise WireError(0, f"shape {tuple(shape)} cannot be")
    return tuple(shape)


@cache
def encode_shape(shape: tuple[int, ...]) -> bytes:
    """TensorShapeProto of a shape."""
    return b"".join(message(2, integer(1, size) if size else b"") for size in shape)


def parse_slice(data: memoryview) -> Slice:
    """TensorSliceProto: the extent along every axis."""
    extents: list[Extent] = []
    for field in scan(data):
        if field.number == 1:
            start, length = 0, -1
            for part in scan(data, field.offset, field.offset + len(field.bytes(data))):
                if part.number == 1:
                    start = part.signed
                elif part.number == 2:
                    length = part.signed
            extents.append((start, length))
    return tuple(extents)


class Entry(NamedTuple):
    """BundleEntryProto.

    offset, size: bytes in data file number `shard`.
    crc: masked crc32c of these bytes.
    slices: of a partitioned tensor, whose bytes are under the slices' own keys; else empty.
    """

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[Slice, ...] = ()


_DTYPE, _SHAPE, _SHARD, _OFFSET, _SIZE, _CRC, _SLICES = 0x08, 0x12, 0x18, 0x20, 0x28, 0x35, 0x3A
"""Field number and wire type of BundleEntryProto's fields, as the byte before each of them."""
_ENTRY_KEYS = frozenset((_DTYPE, _SHAPE, _SHARD, _OFFSET, _SIZE, _SLICES))


def parse_entry(data: memoryview, shapes: dict[bytes, tuple[int, ...]]) -> Entry:
    """BundleEntryProto of a tensor.

    A bundle has thousands, so fields are told apart by the byte before them, without `scan`'s objects. Fields
    that are not known are refused: in ten years there have been none, and one might change where the bytes are.
    shapes: shapes already parsed, by their bytes: a model has few.
    Raises: WireError.
    """
    dtype = shard = offset = size = crc = 0
    shape: tuple[int, ...] = ()
    slices: list[Slice] = []
    at, end = 0, len(data)
    while at < end:
        key = data[at]
        if key == _CRC and at + 5 <= end:
            crc = int.from_bytes(data[at + 1 : at + 5], "little")
            at += 5
            continue
        if key not in _ENTRY_KEYS:
            raise WireError(at, f"field {key >> 3} with wire type {key & 7} is not known")
        value, at = varint(data, at + 1, end)
        if key == _DTYPE:
            dtype = value
        elif key == _SHARD:
            shard = value
        elif key == _OFFSET:
            offset = value
        elif key == _SIZE:
            size = value
        else:
            if value > end - at:
                raise WireError(at, f"field {key >> 3} claims {value} bytes, {end - at} are left")
            payload = data[at : at + value]
            at += value
            if key == _SHAPE:
                shape = _shape(bytes(payload), shapes)
            else:
                slices.append(parse_slice(payload))
    return Entry(dtype, shape, shard, offset, size, crc, tuple(slices))


def _shape(key: bytes, shapes: dict[bytes, tuple[int, ...]]) -> tuple[int, ...]:
    if key not in shapes:
        shapes[key] = parse_shape(memoryview(key))
    return shapes[key]


def encode_entry(entry: Entry) -> bytes:
    """BundleEntryProto of an entry without slices; zeros are left out, as proto3 does."""
    out = integer(1, entry.dtype) + message(2, encode_shape(entry.shape))
    for number, value in ((3, entry.shard), (4, entry.offset), (5, entry.size)):
        if value:
            out += integer(number, value)
    return out + (fixed32(6, entry.crc) if entry.crc else b"")


class Header(NamedTuple):
    """BundleHeaderProto: how many data files, their byte order, and the oldest reader that may read them."""

    shards: int
    big_endian: bool
    min_consumer: int


def parse_header(data: memoryview) -> Header:
    """BundleHeaderProto.

    Raises: WireError.
    """
    shards = endianness = min_consumer = 0
    for field in scan(data):
        if field.number == 1:
            shards = field.signed
        elif field.number == 2:
            endianness = field.value
        elif field.number == 3:
            for part in scan(data, field.offset, field.offset + len(field.bytes(data))):
                if part.number == 2:
                    min_consumer = part.signed
    return Header(shards, endianness != 0, min_consumer)


def encode_header(shards: int) -> bytes:
    """BundleHeaderProto of a little-endian bundle, version: producer 1."""
    return integer(1, shards) + message(3, integer(1, 1))


def object_graph_names(data: memoryview) -> Mapping[str, str]:
    """TrackableObjectGraph: checkpoint key -> full name, for every attribute that has one.

    Raises: WireError.
    """
    names: dict[str, str] = {}
    for node in scan(data):
        if node.number != 1:
            continue
        for attribute in scan(data, node.offset, node.offset + len(node.bytes(data))):
            if attribute.number != 2:
                continue
            found = {2: "", 3: ""}
            for part in scan(data, attribute.offset, attribute.offset + len(attribute.bytes(data))):
                if part.number in found:
                    found[part.number] = part.text(data)
            if found[2] and found[3]:
                names[found[3]] = found[2]
    return names
