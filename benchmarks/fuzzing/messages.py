"""Damage to protobuf messages, in the open or behind the checksums of a LevelDB table."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np

from porting.checkpoint.checksum import crc32c
from porting.checkpoint.storage import MappedFile
from porting.checkpoint.tensorflow.leveldb import Table, masked
from porting.checkpoint.tensorflow.leveldb_build import build
from porting.checkpoint.wire import BYTES, FIXED32, VARINT, WireError, encode_varint, fixed32, integer, message, scan

Random = np.random.Generator
Fields = list[tuple[int, int, int | bytes]]

NUMBERS = (
    0,
    1,
    2,
    5,
    19,
    127,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    1 << 62,
    (1 << 63) - 1,
    -1,
    -(1 << 63),
)
LARGE = 4096
"""Bytes of a field beyond which it is taken for data, not for a message."""


def fields(data: bytes) -> Fields:
    """A message's fields. Raises: WireError if it is none."""
    view = memoryview(data)
    return [(f.number, f.wire, bytes(f.bytes(view)) if f.wire == BYTES else f.value) for f in scan(view)]


def encode(of: Fields) -> bytes:
    """The message of these fields."""
    out = b""
    for number, wire, value in of:
        if isinstance(value, bytes):
            out += message(number, value)
        elif wire == VARINT:
            out += integer(number, value)
        elif wire == FIXED32:
            out += fixed32(number, value & 0xFFFFFFFF)
        else:
            out += encode_varint(number << 3 | wire) + struct.pack("<Q", value & 0xFFFFFFFFFFFFFFFF)
    return out


def damage(data: bytes, random: Random) -> bytes:
    """One field somewhere in a message changed, the lengths around it right."""
    try:
        inner = fields(data)
    except WireError:
        inner = []
    if not inner:
        return random.bytes(int(random.integers(40)))
    at = int(random.integers(len(inner)))
    number, wire, value = inner[at]
    if isinstance(value, bytes) and value and random.random() < (0.9 if len(value) > LARGE else 0.6):
        inner[at] = (number, wire, damage(value, random))
        return encode(inner)
    kind = int(random.integers(7))
    if kind == 0:
        del inner[at]
    elif kind == 1:
        inner.insert(int(random.integers(len(inner) + 1)), inner[at])
    elif kind == 2:
        inner[at] = (int(random.integers(1, 40)), wire, value)
    elif kind == 3:
        inner[at:at] = [inner[at]] * int(random.integers(2, 3000 if len(data) < LARGE else 20))
    elif isinstance(value, bytes):
        inner[at] = (number, wire, _content(value, number, random))
    else:
        inner[at] = (number, wire, NUMBERS[int(random.integers(len(NUMBERS)))])
    return encode(inner)


def _content(value: bytes, number: int, random: Random) -> bytes:
    """Another content of a bytes field: shorter, longer, another's, nested in itself."""
    kind = int(random.integers(5))
    if kind == 0:
        return value[: len(value) // 2]
    if kind == 1:
        return value + value[:64]
    if kind == 2:
        return random.bytes(len(value) % 64)
    if kind == 3:
        for _ in range(int(random.integers(10, 2000))):
            value = message(number, value[-60_000:])
        return value
    return b"a\nb\x1b[31m\0" + value


def external_paths(data: bytes, random: Random) -> bytes:
    """An ONNX model whose external data lies elsewhere, or at offsets that cannot be."""
    from fuzzing.attacks import PATHS

    outer = fields(data)
    at = next(i for i, (number, _, _) in enumerate(outer) if number == 7)
    graph = fields(bytes(outer[at][2]))  # type: ignore[arg-type]
    tensors = [i for i, (number, _, _) in enumerate(graph) if number == 5]
    for i in tensors if random.random() < 0.3 else [tensors[int(random.integers(len(tensors)))]]:
        pairs = {"location": PATHS[int(random.integers(len(PATHS)))]}
        if random.random() < 0.5:
            odd = ("-1", "18446744073709551615", "0x10", "1e3", "", "9" * 5000, " 4", "٣", "1")
            pairs = {
                "location": "m.data",
                "offset": odd[int(random.integers(9))],
                "length": odd[int(random.integers(9))],
            }
        inner = [field for field in fields(bytes(graph[i][2])) if field[0] not in {9, 13, 14}]  # type: ignore[arg-type]
        extra = b"".join(message(13, message(1, k) + message(2, v)) for k, v in pairs.items()) + integer(14, 1)
        graph[i] = (5, BYTES, encode(inner) + extra)
    outer[at] = (7, BYTES, encode(graph))
    return encode(outer)


def items(table: bytes) -> list[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(table)
        file.flush()
        return [(key, bytes(value)) for key, value in Table(MappedFile(Path(file.name))).items()]


def table_values(data: bytes, random: Random) -> bytes:
    """One or two records of a table damaged as messages, or keys renamed; every crc right."""
    held = items(data)
    for _ in range(int(random.integers(1, 3))):
        at = int(random.integers(len(held)))
        key, value = held[at]
        kind = int(random.integers(10))
        if kind == 0:
            held[at] = (key[:-1] + bytes([int(random.integers(256))]) if key else b"\xff", value)
        elif kind == 1:
            held[at] = (key, held[int(random.integers(len(held)))][1])
        else:
            held[at] = (key, damage(value, random))
    return build(sorted(dict(held).items()))


def table_blocks(data: bytes, random: Random) -> bytes:
    """The first block replaced by one that lies about its restarts, its lengths or its compression; its crc right."""
    footer = memoryview(data)[-48:]
    size_at = len(data) - 48
    handles = []
    at = 0
    for _ in range(4):
        value = shift = 0
        while True:
            byte = footer[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        handles.append(value)
    start, length = handles[2], handles[3]
    content = bytearray(data[start : start + length])
    kind = int(random.integers(4))
    if kind == 0:
        content[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
    elif kind == 1:
        content[-4:] = struct.pack("<I", NUMBERS[int(random.integers(len(NUMBERS)))] & 0xFFFFFFFF)
    compression = b"\1" if kind == 2 else b"\0"
    if kind == 2:  # snappy that claims much: a length, then copies of one byte
        body = encode_varint(NUMBERS[int(random.integers(len(NUMBERS)))]) + b"\0a" + b"\xfe\1\0" * 3000
        content = bytearray(body[:length].ljust(length, b"\xfe"))
    if kind == 3:
        content = bytearray(random.bytes(length))
    crc = struct.pack("<I", masked(crc32c(bytes(content) + compression)))
    return data[:start] + bytes(content) + compression + crc + data[start + length + 5 : size_at] + bytes(footer)
