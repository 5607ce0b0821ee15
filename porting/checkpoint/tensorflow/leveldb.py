"""LevelDB's sorted table in the variant of TensorFlow, read in place.

A table maps keys to values in key order: data blocks, an index block (last key of each data block ->
its place), a footer. Keys within a block drop the prefix they share with the key before.
Reference: leveldb, doc/table_format.md; tensorflow, xla/tsl/lib/io/{table_builder,block_builder,format}.cc.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from porting.checkpoint.checksum import crc32c
from porting.checkpoint.storage import MappedFile
from porting.checkpoint.tensorflow.snappy import decompress
from porting.checkpoint.wire import WireError, varint
from porting.errors import FormatError

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
FOOTER = 48
TRAILER = 5
"""Bytes after each block: how it is compressed (0 no, 1 Snappy) and the masked crc32c of block and type."""

_KEY_BYTES_PER_BYTE = 64
"""A writer that restarts every 16 keys cannot spell out more key bytes than 16 times its file."""


_MASK_DELTA = 0xA282EAD8


def masked(crc: int) -> int:
    """How a CRC-32C is stored, so that data which hold CRCs can be checked with one (leveldb, crc32c.h).

    >>> hex(masked(0))
    '0xa282ead8'
    """
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def unmasked(stored: int) -> int:
    """The CRC-32C that is stored so.

    >>> unmasked(masked(7))
    7
    """
    turned = (stored - _MASK_DELTA) & 0xFFFFFFFF
    return (turned >> 17 | turned << 15) & 0xFFFFFFFF


class Handle(NamedTuple):
    """A block's place: offset and size in bytes, the trailer not counted."""

    offset: int
    size: int


def _handle(data: memoryview, at: int, end: int) -> tuple[Handle, int]:
    offset, at = varint(data, at, end)
    size, at = varint(data, at, end)
    return Handle(offset, size), at


def is_table(path: Path) -> bool:
    """Whether it is a file that ends as a table ends."""
    try:
        with path.open("rb") as file:
            file.seek(-FOOTER, 2)
            return file.read(FOOTER)[-8:] == MAGIC
    except OSError:
        return False


def records(block: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """The records of one block in order: key, and where its value begins and ends.

    Raises: WireError at the first record that is not one, or whose key is not above the one before.
    """
    if len(block) < 4:
        raise WireError(0, f"a block of {len(block)} bytes")
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise WireError(0, f"{restarts} restart points in a block of {len(block)} bytes")
    key = b""
    at = spelled = 0
    budget = _KEY_BYTES_PER_BYTE * len(block)
    while at < end:
        begin = at
        shared, at = varint(block, at, end)
        fresh, at = varint(block, at, end)
        length, at = varint(block, at, end)
        value = at + fresh
        if shared > len(key) or value + length > end:
            raise WireError(begin, "a record reaches out of its block")
        spelled += shared + fresh
        if spelled > budget:
            raise WireError(begin, "the keys are longer than a table of this size can hold")
        previous, key = key, key[:shared] + block[at:value]
        if begin and key <= previous:
            raise WireError(begin, "the keys are out of order")
        at = value + length
        yield key, value, at


class Table:
    """An open table. The index block is verified and held; a data block is verified when it is first read."""

    __slots__ = ("_lasts", "_read", "blocks", "file")

    def __init__(self, file: MappedFile) -> None:
        """Open the table in `file`.

        Raises: FormatError if footer or index block are malformed or the index block's crc is wrong.
        """
        self.file = file
        footer = file.bytes(file.size - FOOTER, FOOTER, "table footer")
        if footer[-8:] != MAGIC:
            raise FormatError(file.path, "table footer", "wanted the LevelDB magic: the file is cut off or not a table")
        try:
            _, at = _handle(footer, 0, FOOTER - 8)
            index, _ = _handle(footer, at, FOOTER - 8)
        except WireError as error:
            raise FormatError(file.path, "table footer", str(error)) from None
        self.blocks: list[Handle] = []
        self._lasts: list[bytes] = []
        self._read: dict[int, tuple[memoryview, dict[bytes, tuple[int, int]]]] = {}
        data = self._content(index)
        try:
            for key, start, stop in records(data):
                self._lasts.append(key)
                self.blocks.append(_handle(data, start, stop)[0])
        except WireError as error:
            raise FormatError(file.path, "index block", str(error)) from None

    def items(self) -> Iterator[tuple[bytes, memoryview]]:
        """All records in key order.

        Raises: FormatError at the first block that is malformed or whose crc is wrong.
        """
        last: bytes | None = None
        for handle in self.blocks:
            block = self._content(handle)
            place = f"block at {handle.offset}"
            try:
                for key, start, stop in records(block):
                    if last is not None and key <= last:
                        raise FormatError(self.file.path, place, "the keys are out of order")
                    last = key
                    yield key, block[start:stop]
            except WireError as error:
                raise FormatError(self.file.path, place, str(error)) from None

    def find(self, key: bytes) -> tuple[memoryview, int] | None:
        """The value of a key, and its offset in the file (-1 in a compressed block); None if it is not there.

        Raises: FormatError if the block that should hold it is malformed or its crc is wrong.
        """
        number = bisect_left(self._lasts, key)
        if number == len(self._lasts):
            return None
        handle = self.blocks[number]
        if number not in self._read:
            block = self._content(handle)
            if self._compressed(handle):
                self._read.clear()  # a decompressed block is memory: one at a time
            try:
                self._read[number] = block, {name: (start, stop) for name, start, stop in records(block)}
            except WireError as error:
                raise FormatError(self.file.path, f"block at {handle.offset}", str(error)) from None
        block, places = self._read[number]
        if key not in places:
            return None
        start, stop = places[key]
        return block[start:stop], -1 if self._compressed(handle) else handle.offset + start

    def _compressed(self, handle: Handle) -> bool:
        return self.file.view[handle.offset + handle.size] != 0

    def problem(self, handle: Handle) -> str | None:
        """What is wrong with a block's place or crc, in one phrase, or None."""
        if handle.offset + handle.size + TRAILER > self.file.size:
            return f"wanted {handle.size + TRAILER} bytes, the file has {self.file.size}"
        stop = handle.offset + handle.size
        stored = int.from_bytes(self.file.view[stop + 1 : stop + TRAILER], "little")
        found = masked(crc_of(self.file, handle.offset, handle.size + 1))
        return None if found == stored else f"wanted crc32c {stored:08x}, the bytes give {found:08x}"

    def _content(self, handle: Handle) -> memoryview:
        """A block's bytes, verified and decompressed."""
        place = f"block at {handle.offset}"
        problem = self.problem(handle)
        if problem is not None:
            raise FormatError(self.file.path, place, problem)
        raw = self.file.bytes(handle.offset, handle.size + 1, place)
        kind, raw = raw[-1], raw[:-1]
        if kind == 0:
            return raw
        if kind != 1:
            raise FormatError(self.file.path, place, f"compression {kind} is not known")
        try:
            return memoryview(decompress(raw))
        except WireError as error:
            raise FormatError(self.file.path, place, str(error)) from None


_WORTH_RELEASING = 1 << 20
"""Bytes below which giving the pages back costs more than they weigh."""


def crc_of(file: MappedFile, offset: int, length: int, piece: int = 8 << 20) -> int:
    """CRC-32C of a stretch of a file, which may be larger than memory: pages are given back as it passes."""
    value = 0
    for start in range(offset, offset + length, piece):
        size = min(piece, offset + length - start)
        value = crc32c(file.still(start, size, f"bytes at {start}"), value)
        if size >= _WORTH_RELEASING:
            file.release(start, size)
    return value
