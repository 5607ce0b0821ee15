"""LevelDB's sorted table in the variant of TensorFlow: read in place, and built byte for byte as it builds it.

A table maps keys to values in key order: data blocks, an index block (last key of each data block ->
its place), a footer. Keys within a block drop the prefix they share with the key before.
Reference: leveldb, doc/table_format.md; tensorflow, xla/tsl/lib/io/{table_builder,block_builder,format}.cc.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from porting.checkpoint.snappy import decompress
from porting.checkpoint.storage import Array, MappedFile
from porting.checkpoint.wire import WireError, encode_varint, varint
from porting.errors import FormatError

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
FOOTER = 48
TRAILER = 5
"""Bytes after each block: how it is compressed (0 no, 1 Snappy) and the masked crc32c of block and type."""

BLOCK_SIZE = 262144
RESTART_INTERVAL = 16
_KEY_BYTES_PER_BYTE = 64
"""A writer that restarts every 16 keys cannot spell out more key bytes than 16 times its file."""


def crc32c(*parts: bytes | Array) -> int:
    """CRC-32C of the parts, one after the other."""
    import google_crc32c

    value = 0
    for part in parts:
        value = google_crc32c.extend(value, part)
    return int(value)


def masked(crc: int) -> int:
    """How a CRC-32C is stored, so that data which hold CRCs can be checked with one (leveldb, crc32c.h).

    >>> hex(masked(0))
    '0xa282ead8'
    """
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Handle:
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


def crc_of(file: MappedFile, offset: int, length: int, piece: int = 8 << 20) -> int:
    """CRC-32C of a stretch of a file, which may be larger than memory: pages are given back as it passes."""
    import google_crc32c

    value = 0
    for start in range(offset, offset + length, piece):
        size = min(piece, offset + length - start)
        value = google_crc32c.extend(value, file.array(start, size, f"bytes at {start}"))
        if length > piece:
            file.release(start, size)
    return int(value)


class _Block:
    """A block being built."""

    __slots__ = ("body", "count", "interval", "key", "restarts")

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.body = bytearray()
        self.restarts = [0]
        self.count = 0
        self.key = b""

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self.count < self.interval:
            shared = _common(self.key, key)
        else:
            self.restarts.append(len(self.body))
            self.count = 0
        self.body += encode_varint(shared) + encode_varint(len(key) - shared) + encode_varint(len(value))
        self.body += key[shared:] + value
        self.key = key
        self.count += 1

    def size(self) -> int:
        return len(self.body) + 4 * len(self.restarts) + 4

    def finish(self) -> bytes:
        return bytes(self.body) + struct.pack(f"<{len(self.restarts) + 1}I", *self.restarts, len(self.restarts))


def _common(a: bytes, b: bytes) -> int:
    length = min(len(a), len(b))
    return next((i for i in range(length) if a[i] != b[i]), length)


def _separator(last: bytes, following: bytes) -> bytes:
    """A short key in [last, following), as FindShortestSeparator chooses it."""
    at = _common(last, following)
    if at < min(len(last), len(following)) and last[at] + 1 < following[at]:
        return last[:at] + bytes([last[at] + 1])
    return last


def _successor(last: bytes) -> bytes:
    """A short key not below `last`, as FindShortSuccessor chooses it."""
    at = next((i for i, byte in enumerate(last) if byte != 0xFF), None)
    return last if at is None else last[:at] + bytes([last[at] + 1])


def build(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """An uncompressed table of the items, whose keys ascend, as TensorFlow's TableBuilder writes it."""
    out = bytearray()
    index = _Block(1)
    block = _Block(RESTART_INTERVAL)
    pending: tuple[bytes, bytes] | None = None

    def put(content: bytes) -> bytes:
        handle = encode_varint(len(out)) + encode_varint(len(content))
        out.extend(content + b"\0" + struct.pack("<I", masked(crc32c(content, b"\0"))))
        return handle

    for key, value in items:
        if block.body and len(key) + len(value) >= 2 * BLOCK_SIZE:  # a large record gets a block of its own
            pending, block = (block.key, put(block.finish())), _Block(RESTART_INTERVAL)
        if pending is not None:
            index.add(_separator(pending[0], key), pending[1])
            pending = None
        block.add(key, value)
        if block.size() >= BLOCK_SIZE:
            pending, block = (block.key, put(block.finish())), _Block(RESTART_INTERVAL)
    if block.body:
        pending = block.key, put(block.finish())
    meta = put(_Block(RESTART_INTERVAL).finish())
    if pending is not None:
        index.add(_successor(pending[0]), pending[1])
    footer = meta + put(index.finish())
    return bytes(out) + footer.ljust(FOOTER - len(MAGIC), b"\0") + MAGIC
