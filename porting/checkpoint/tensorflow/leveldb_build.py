"""LevelDB's sorted table, built byte for byte as TensorFlow's TableBuilder builds it.

Reference: tensorflow, xla/tsl/lib/io/{table_builder,block_builder}.cc; the options' defaults, table_options.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from porting.checkpoint.checksum import crc32c
from porting.checkpoint.tensorflow.leveldb import FOOTER, MAGIC, masked
from porting.checkpoint.wire import encode_varint

BLOCK_SIZE = 262144
RESTART_INTERVAL = 16


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
    """How many bytes they begin with alike."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


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
        out.extend(content + b"\0" + struct.pack("<I", masked(crc32c(content + b"\0"))))
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
