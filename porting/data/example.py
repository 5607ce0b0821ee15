"""tf.train.Example, encoded by hand.

An Example is a map of names to lists of int64, of float32 or of bytes. Reference: tensorflow,
core/example/example.proto and feature.proto; the lists of numbers are packed there.

TensorFlow writes the entries of the map in an order that changes from process to process (protobuf promises none).
Here they stand in the order in which they are given, so that equal features are equal bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache

from porting.checkpoint.wire import encode_varint, head, message

BYTES_LIST, FLOAT_LIST, INT64_LIST = 1, 2, 3
"""Fields of Feature."""


@lru_cache(1 << 14)
def _opening(name: str, kind: int, nbytes: int) -> bytes:
    """All that stands before the packed numbers of a map entry; it depends on their number of bytes alone."""
    numbers = head(1, nbytes)
    values = head(kind, len(numbers) + nbytes)
    feature = len(values) + len(numbers) + nbytes
    key = message(1, name)
    inner = head(2, feature)
    return head(1, len(key) + len(inner) + feature) + key + inner + values + numbers


def number_entry(name: str, kind: int, numbers: bytes) -> bytes:
    """A map entry of packed numbers. kind: INT64_LIST (numbers are varints) or FLOAT_LIST (little-endian float32)."""
    if not numbers:  # a packed field without elements is not written at all
        return message(1, message(1, name) + message(2, message(kind, b"")))
    return _opening(name, kind, len(numbers)) + numbers


def varints(values: Iterable[int]) -> bytes:
    """Integers as varints, one after the other."""
    return b"".join(map(encode_varint, values))


def int64_entry(name: str, values: Iterable[int]) -> bytes:
    """A map entry of int64."""
    return number_entry(name, INT64_LIST, varints(values))


def float_entry(name: str, values: Sequence[float]) -> bytes:
    """A map entry of float32."""
    return number_entry(name, FLOAT_LIST, struct.pack(f"<{len(values)}f", *values))


def bytes_entry(name: str, values: Iterable[bytes]) -> bytes:
    """A map entry of byte strings."""
    payload = b"".join(message(1, value) for value in values)
    return message(1, message(1, name) + message(2, message(BYTES_LIST, payload)))


@lru_cache(1 << 14)
def _features(nbytes: int) -> bytes:
    """What stands before that many bytes of entries."""
    return head(1, nbytes)


def joined(*entries: bytes) -> bytes:
    """An Example of map entries."""
    body = b"".join(entries)
    return _features(len(body)) + body
