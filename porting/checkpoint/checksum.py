"""Checksums that formats store of bytes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Literal, NamedTuple

from porting.checkpoint.storage import Array

Kind = Literal["crc32", "crc32c"]


class Checksum(NamedTuple):
    """What a file says that the bytes of something come to."""

    kind: Kind
    value: int

    def __str__(self) -> str:
        return f"{self.kind} {self.value:08x}"


def crc32c(data: Array | bytes, value: int = 0) -> int:
    """CRC-32C of bytes, continued from `value`."""
    import google_crc32c

    return int(google_crc32c.extend(value, data))


def crc32(data: Array, value: int = 0) -> int:
    """CRC-32 of bytes, continued from `value`."""
    return zlib.crc32(data.data, value)


STEPS: dict[Kind, Callable[[Array, int], int]] = {"crc32": crc32, "crc32c": crc32c}
"""What continues a checksum by more bytes."""
