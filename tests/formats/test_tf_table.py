"""LevelDB tables and Snappy: what TensorFlow's table builder promises, and tables that lie."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from porting.checkpoint.checksum import crc32c
from porting.checkpoint.storage import MappedFile
from porting.checkpoint.tensorflow.leveldb import MAGIC, Table, masked, records
from porting.checkpoint.tensorflow.leveldb_build import BLOCK_SIZE, build
from porting.checkpoint.tensorflow.slices import slice_key
from porting.checkpoint.tensorflow.snappy import decompress
from porting.checkpoint.wire import WireError, encode_varint
from porting.errors import FormatError
from porting.testing.formats import mutate

if TYPE_CHECKING:
    from pathlib import Path

# Google's own encoder (cramjam 2.11) on TEXT; copies with one and two bytes of distance are in it.
TEXT = b"".join(b"bert/encoder/layer_%d/attention/self/kernel" % i for i in range(12))
SNAPPY = base64.b85decode(
    b"`U9w9WpZ>cWo~0{WMy(MY+-q2a$hhnVRUq5ZggpHZZC6XY-TTOWpZw1Y+^<#001$fDgXd7qACCYGomU005qa1001?jDgXdBqACCYH=-&4063y50023"
    b"nDgXd6s-*#1rU3"
)


def table(path: Path, data: bytes) -> Table:
    path.write_bytes(data)
    return Table(MappedFile(path))


def one_block_table(block: bytes, kind: int = 0) -> bytes:
    """A table whose only data block is `block`, stored as compression `kind`, every crc right."""
    out = bytearray()

    def put(content: bytes, how: int) -> bytes:
        handle = encode_varint(len(out)) + encode_varint(len(content))
        out.extend(content + bytes([how]) + struct.pack("<I", masked(crc32c(content + bytes([how])))))
        return handle

    data = put(block, kind)
    meta = put(struct.pack("<II", 0, 1), 0)
    index = put(b"\0\1" + encode_varint(len(data)) + b"\xff" + data + struct.pack("<II", 0, 1), 0)
    return bytes(out) + (meta + index).ljust(40, b"\0") + MAGIC


def record(shared: int, key: bytes, value: bytes = b"") -> bytes:
    return encode_varint(shared) + encode_varint(len(key)) + encode_varint(len(value)) + key + value


@given(st.dictionaries(st.binary(max_size=40), st.binary(max_size=60), max_size=200))
def test_what_is_built_is_read(tmp_path_factory: pytest.TempPathFactory, items: dict[bytes, bytes]) -> None:
    opened = table(tmp_path_factory.mktemp("t") / "t", build(sorted(items.items())))
    assert [(key, bytes(value)) for key, value in opened.items()] == sorted(items.items())
    for key, value in items.items():
        found = opened.find(key)
        assert found is not None
        assert bytes(found[0]) == value
    assert opened.find(b"not there" * 5) is None


def test_many_blocks(tmp_path: Path) -> None:
    items = [(b"key %06d" % i, bytes([i % 251]) * 400) for i in range(5000)]
    opened = table(tmp_path / "t", build(items))
    assert len(opened.blocks) > 5
    assert all(handle.size < 2 * BLOCK_SIZE for handle in opened.blocks)
    assert [(key, bytes(value)) for key, value in opened.items()] == items


def test_snappy_as_googles_encoder_writes_it() -> None:
    assert decompress(memoryview(SNAPPY)) == TEXT


def test_snappy_long_literals_and_overlapping_copies() -> None:
    literal = bytes(range(256)) * 2
    stream = encode_varint(512 + 64) + b"\xf4\xff\x01" + literal + bytes([63 << 2 | 2]) + (3).to_bytes(2, "little")
    assert decompress(memoryview(stream)) == literal + (literal[-3:] * 22)[:64]


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        (encode_varint(1 << 40) + b"\0a", "cannot hold"),
        (b"\x05\x10ab", "cut off"),
        (b"\x05\0a\x09", "cut off"),
        (b"\x05\0a\x09\x05", "5 back"),
        (b"\x05\0a\x09\x00", "0 back"),
        (b"\x02\0a", "got 1"),
        (b"\x01\x04abc", "got more"),
    ],
)
def test_snappy_that_lies(stream: bytes, problem: str) -> None:
    with pytest.raises(WireError, match=problem):
        decompress(memoryview(stream))


def test_snappy_damage_never_escapes() -> None:
    random = np.random.default_rng(3)
    refused = 0
    for _ in range(500):
        try:
            decompress(memoryview(mutate(SNAPPY, random)))
        except WireError:
            refused += 1
    assert refused > 250


def test_a_compressed_block_is_read(tmp_path: Path) -> None:
    block = record(0, b"a", b"1" * 30) + record(0, b"b", b"2" * 40) + struct.pack("<II", 0, 1)
    literal = encode_varint(len(block)) + bytes([60 << 2, len(block) - 1]) + block
    opened = table(tmp_path / "t", one_block_table(literal, 1))
    assert [(key, bytes(value)) for key, value in opened.items()] == [(b"a", b"1" * 30), (b"b", b"2" * 40)]
    assert opened.find(b"b") == (b"2" * 40, -1)


@pytest.mark.parametrize(
    ("block", "kind", "problem"),
    [
        (record(0, b"b") + record(0, b"a") + struct.pack("<II", 0, 1), 0, "out of order"),
        (record(3, b"b") + struct.pack("<II", 0, 1), 0, "out of its block"),
        (b"\0\1\x7fa" + struct.pack("<II", 0, 1), 0, "out of its block"),
        (struct.pack("<I", 9), 0, "9 restart points"),
        (b"abc", 0, "a block of 3 bytes"),
        (b"\0\1\0a" + struct.pack("<II", 0, 1), 2, "compression 2 is not known"),
        (b"\x05\0a", 1, "wanted 5 bytes"),
    ],
)
def test_a_block_that_lies(tmp_path: Path, block: bytes, kind: int, problem: str) -> None:
    opened = table(tmp_path / "t", one_block_table(block, kind))
    with pytest.raises(FormatError, match=f"block at 0: .*{problem}"):
        list(opened.items())
    with pytest.raises(FormatError, match=problem):
        opened.find(b"a")


def test_a_key_bomb_is_refused() -> None:
    """Each record costs four bytes and would spell out a key of more than 100 kB."""
    block = record(0, b"k" * 100_000) + b"".join(record(100_000 + i, b"k") for i in range(20_000))
    with pytest.raises(WireError, match="longer than"):
        list(records(memoryview(block + struct.pack("<II", 0, 1))))


def test_a_wrong_crc_names_the_block(tmp_path: Path) -> None:
    data = bytearray(build([(b"", b"header"), (b"w", b"value")]))
    data[5] ^= 1
    with pytest.raises(FormatError, match="block at 0: wanted crc32c"):
        list(table(tmp_path / "t", bytes(data)).items())


@pytest.mark.parametrize("cut", [1, 10, 47, 48, 60])
def test_a_table_cut_off(tmp_path: Path, cut: int) -> None:
    whole = build([(b"", b"header"), (b"w", b"value")])
    with pytest.raises(FormatError):
        list(table(tmp_path / "t", whole[:-cut]).items())


def test_slice_keys_escape_names_and_order_numbers() -> None:
    assert slice_key(b"a\0b\xffc", ()) == b"\0a\0\xffb\xff\0c\0\1\0"
    keys = [slice_key(b"w", [(start, 1)]) for start in (0, 1, 63, 64, 8191, 8192, 1 << 20, 1 << 40, 1 << 62)]
    assert keys == sorted(keys)
