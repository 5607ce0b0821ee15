"""A first look at a zip file, by which its formats tell whether it may be theirs.

Three formats are zip files. To open an archive and check it costs each of them its modules and a walk over all
members; this reads two runs of bytes, and believes nothing in them.

Reference: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.12 to 4.3.16.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

_FIRST = 1024
"""Bytes at the beginning: the first member's local header and name, also where the file is cut off behind them."""

_END, _LOCATOR, _COMMENT = 22, 20, 0xFFFF

_LIMIT = 64 << 20
"""Bytes of a directory that are looked at, the last ones: those of half a million members."""


def zip_names(path: Path) -> bytes:
    """Bytes in which the names of all members stand, among others; none of what is no zip file."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            first = file.read(_FIRST)
            return first + _directory(file) if first.startswith(b"PK") else b""
    except OSError:
        return b""


def _directory(file: IO[bytes]) -> bytes:
    """The central directory, where the end record says that it is; none where there is no such record."""
    size = file.seek(0, 2)
    begin = max(0, size - _COMMENT - _END - _LOCATOR)
    file.seek(begin)
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0:
        return b""
    limit, length = begin + end, int.from_bytes(tail[end + 12 : end + 16], "little")
    locator = tail[max(0, end - _LOCATOR) : end]
    if locator.startswith(b"PK\x06\x07"):
        limit = min(int.from_bytes(locator[8:16], "little"), size)
        file.seek(limit)
        length = int.from_bytes(file.read(48)[40:], "little")
    length = min(length, limit, _LIMIT)
    file.seek(limit - length)
    return file.read(length)
