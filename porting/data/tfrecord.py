"""TFRecord files, framed as TensorFlow frames them, without TensorFlow.

A file is records one after the other: the payload's length (8 bytes, little-endian), a masked CRC-32C of those
8 bytes, the payload, a masked CRC-32C of the payload. There is no header, no index and no end mark, so a file may be
written in pieces by several processes and joined. Reference: tensorflow, core/lib/io/record_writer.h and
core/lib/hash/crc32c.h (the mask).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from google_crc32c import value as crc32c

from porting.errors import FormatError

HEAD, TAIL = 12, 4
"""Bytes before and after a payload."""

GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file. number: from 0. offset: of its first byte in the file."""

    number: int
    offset: int
    payload: bytes


def masked(crc: int) -> int:
    """A CRC as TensorFlow stores it: rotated right by 15 bits, plus a constant, so that CRCs of CRCs stay apart.

    >>> hex(masked(0))
    '0xa282ead8'
    """
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@lru_cache(4096)
def _head(length: int) -> bytes:
    """What stands before a payload of that length. Records of one data set have few lengths."""
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", masked(crc32c(packed)))


def frame(payload: bytes) -> bytes:
    """A payload as it stands in a file."""
    return b"".join((_head(len(payload)), payload, struct.pack("<I", masked(crc32c(payload)))))


def read_records(path: str | os.PathLike[str]) -> Iterator[Record]:
    """The records of a file in order, both checksums of each verified, one record in memory at a time.

    Raises: FormatError that names record and offset, the wanted and the got, where the file is cut off or damaged;
    FormatError for a file that cannot be read.
    """
    try:
        with Path(path).open("rb", buffering=1 << 20) as file:
            size = os.fstat(file.fileno()).st_size
            yield from _records(path, file, size)
    except OSError as error:
        raise FormatError(path, "", f"cannot be read: {error.strerror or error}") from None


def _records(path: str | os.PathLike[str], file: BinaryIO, size: int) -> Iterator[Record]:
    number = offset = 0
    while offset < size:
        place = f"record {number} at byte {offset}"
        head = file.read(HEAD)
        if not number and head.startswith(GZIP):
            raise FormatError(path, place, "wanted a TFRecord file, got a gzip file: gunzip it first")
        if len(head) < HEAD:
            raise FormatError(
                path, place, f"wanted {HEAD} bytes before the payload, got {len(head)}: the file is cut off"
            )
        length = int.from_bytes(head[:8], "little")
        _check(path, f"{place}, length", head[:8], head[8:])
        left = size - offset - HEAD
        if length + TAIL > left:
            raise FormatError(path, place, f"wanted {length + TAIL} bytes, got {left}: the file is cut off")
        payload = file.read(length)
        _check(path, f"{place}, payload", payload, file.read(TAIL))
        yield Record(number, offset, payload)
        number, offset = number + 1, offset + HEAD + length + TAIL


def _check(path: str | os.PathLike[str], place: str, data: bytes, stored: bytes) -> None:
    """Raises: FormatError if the stored checksum is not that of the data."""
    wanted, got = int.from_bytes(stored, "little"), masked(crc32c(data))
    if wanted != got:
        raise FormatError(
            path, place, f"wanted checksum {wanted:08x}, got {got:08x}: it is damaged, or no TFRecord file"
        )
