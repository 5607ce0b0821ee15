"""Damage to zip archives: members exchanged with every checksum right, and directories that lie."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from functools import cache
from typing import Any

import numpy as np

from fuzzing import containers

Random = np.random.Generator
Members = list[tuple[str, bytes]]

NAMES = (
    "../evil",
    "/tmp/evil",
    "a/../../evil",
    "a\\..\\evil",
    "C:/evil",
    "evil\0.npy",
    "",
    ".",
    "a" * 60_000,
    "a\nb",
    "\x1b[2J",
)
NUMBERS = (0, 1, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def members(data: bytes) -> Members:
    """Name and content of every member."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def archive(of: Members, method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file of these members, in this order, as Python writes it."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method, allowZip64=True) as out:
        for name, data in of:
            info = zipfile.ZipInfo(name)
            info.filename = name  # the constructor cuts it at a zero byte
            info.compress_type = method
            out.writestr(info, data)
    return held.getvalue()


@cache
def zeros(size: int = 1280 << 20) -> tuple[bytes, int]:
    """That many zero bytes as a raw deflate stream of about a thousandth, and their CRC-32."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = 16 << 20
    piece = engine.compress(bytes(block)) + engine.flush(zlib.Z_FULL_FLUSH)
    crc = 0
    for _ in range(size // block):
        crc = zlib.crc32(bytes(block), crc)
    return piece * (size // block) + b"\x03\x00", crc


def bomb(name: str) -> bytes:
    """One deflated member of more than a gigabyte of zeros, every number in the archive true."""
    packed, crc = zeros()
    raw, size = name.encode(), 1280 << 20
    numbers = (20, 0x800, 8, 0, 0, crc, len(packed), size, len(raw), 0)
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", *numbers)
    central = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, *numbers, 0, 0, 0, 0, 0) + raw
    body = local + raw + packed
    return body + central + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(central), len(body), 0)


def records(data: bytes, random: Random) -> bytes:
    """Members renamed, twice, missing, shortened, swapped, compressed, or bombs."""
    held = members(data)
    at = int(random.integers(len(held)))
    name, content = held[at]
    kind = int(random.integers(9))
    if kind == 0:
        held[at] = (NAMES[int(random.integers(len(NAMES)))], content)
    elif kind == 1:
        held.append((NAMES[int(random.integers(len(NAMES)))] + ".npy", content))
    elif kind == 2:
        with_twice = archive([*held, ("0" * len(name.encode()), content)])
        return with_twice.replace(b"0" * len(name.encode()), name.encode()) if len(name) > 8 else archive(held[::-1])
    elif kind == 3:
        del held[at]
    elif kind == 4:
        held[at] = (name, content[: int(random.integers(len(content) + 1))])
    elif kind == 5:
        other = int(random.integers(len(held)))
        held[at], held[other] = (name, held[other][1]), (held[other][0], content)
    elif kind == 6:
        return archive(held, (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)[int(random.integers(3))])
    elif kind == 7 and random.random() < 0.2:
        return bomb(name)
    else:
        held[at] = (name, content + random.bytes(int(random.integers(1, 80))))
    return archive(held)


def directory(data: bytes, random: Random) -> bytes:
    """Numbers of the end record, of a directory entry or of a local header replaced."""
    out = bytearray(data)
    signature, fields = (
        (b"PK\x01\x02", ((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (34, 2), (42, 4))),
        (b"PK\x03\x04", ((6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2))),
        (b"PK\x05\x06", ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2))),
    )[int(random.integers(3))]
    places = []
    at = out.find(signature)
    while at >= 0:
        places.append(at)
        at = out.find(signature, at + 1)
    at = places[int(random.integers(len(places)))]
    offset, width = fields[int(random.integers(len(fields)))]
    here = int.from_bytes(out[at + offset : at + offset + width], "little")
    near = (here + 1, here - 1, places[0], places[-1])
    value = near[int(random.integers(4))] if random.random() < 0.4 else NUMBERS[int(random.integers(len(NUMBERS)))]
    value &= (1 << 8 * width) - 1
    out[at + offset : at + offset + width] = value.to_bytes(width, "little")
    return bytes(out)


def torch_pickle(data: bytes, random: Random) -> bytes:
    """data.pkl damaged, or replaced by one with code or a bomb in it."""
    held = members(data)
    at = next(i for i, (name, _) in enumerate(held) if name.endswith("data.pkl"))
    held[at] = (held[at][0], containers.damaged_pickle(held[at][1], random))
    return archive(held)


HEADERS: tuple[str, ...] = (
    "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (1000000, 1000000), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, " * 70 + "), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999999999999,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': __import__('os').system('touch pwned'), }",
    "{'descr': [('a', '<f4'), ('b', '|O')], 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<U1000000000', 'fortran_order': False, 'shape': (4000000000,), }",
    "{'descr': '|S0', 'fortran_order': False, 'shape': (100000000000,), }",
    "{'descr': '<f3', 'fortran_order': False, 'shape': (1,), }",
    "(" * 60_000,
    "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (1,), }",
)


def npy_headers(data: bytes, random: Random) -> bytes:
    """An array's header damaged or replaced by one that claims, nests or runs."""
    held = members(data)
    at = int(random.integers(len(held)))
    name, content = held[at]
    if random.random() < 0.5:
        head = bytearray(content[:128])
        head[int(random.integers(len(head)))] = int(random.integers(256))
        held[at] = (name, bytes(head) + content[128:])
    else:
        text = HEADERS[int(random.integers(len(HEADERS)))].encode()
        payload = pickle.dumps([1.0]) if random.random() < 0.3 else content[128:]
        held[at] = (name, b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text + payload)
    return archive(held)


def keras_weights(data: bytes, random: Random) -> bytes:
    """The HDF5 file within damaged or exchanged for a hostile one, the archive right."""
    held: dict[str, Any] = dict(members(data))
    inner = held["model.weights.h5"]
    if random.random() < 0.5:
        inner = containers.hostile_h5(inner, random)
    else:
        out = bytearray(inner)
        out[int(random.integers(len(out)))] ^= 1 << int(random.integers(8))
        inner = bytes(out)
    method = zipfile.ZIP_STORED if random.random() < 0.5 else zipfile.ZIP_DEFLATED
    return archive(list({**held, "model.weights.h5": inner}.items()), method)
