"""Checksums that formats store of bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

Kind = Literal["crc32", "crc32c"]


class Checksum(NamedTuple):
    """What a file says that the bytes of something come to."""

    kind: Kind
    value: int

    def __str__(self) -> str:
        return f"{self.kind} {self.value:08x}"


_SHORT = 1 << 16
"""Bytes that are copied where they cannot be lent: they stay in the first caches."""


def crc32c(data: memoryview | bytes, value: int = 0) -> int:
    """CRC-32C of bytes, continued from `value`.

    google_crc32c refuses a memoryview, and takes bytes, and arrays of ctypes, which only what can be written lends.
    """
    from google_crc32c import extend

    if isinstance(data, bytes):
        return int(extend(value, data))
    if not data.readonly and len(data) > _SHORT:
        from ctypes import c_char

        return int(extend(value, (c_char * len(data)).from_buffer(data)))
    for at in range(0, len(data), _SHORT):
        value = int(extend(value, bytes(data[at : at + _SHORT])))
    return value


def crc32(data: memoryview | bytes, value: int = 0) -> int:
    """CRC-32 of bytes, continued from `value`: zlib's, 25 times as fast."""
    from isal import isal_zlib

    return int(isal_zlib.crc32(data, value))


_ORDER = 2**32 - 1
"""After so many zeros a CRC-32 is what it was: its polynomial is primitive."""


def combine_crc32(first: int, second: int, nbytes: int) -> int:
    """The CRC-32 of two byte strings one after the other, from theirs. nbytes: length of the second.

    >>> combine_crc32(crc32(b"check"), crc32(b"point"), 5) == crc32(b"checkpoint")
    True
    """
    from isal import isal_zlib

    return isal_zlib.crc32_combine(first, second, nbytes % _ORDER)


_ALL = 0xFFFFFFFF


def extend_crc32_by_zeros(crc: int, nbytes: int) -> int:
    """The CRC-32 after `nbytes` more bytes of zero.

    A CRC-32 is complemented before and after; between, zeros only multiply it, as combining with an empty one does.

    >>> extend_crc32_by_zeros(crc32(b"a"), 3) == crc32(b"a" + bytes(3))
    True
    """
    return combine_crc32(crc ^ _ALL, 0, nbytes) ^ _ALL


STEPS: dict[Kind, Callable[[memoryview, int], int]] = {"crc32": crc32, "crc32c": crc32c}
"""What continues a checksum by more bytes."""
