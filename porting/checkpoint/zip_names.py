"""A first look at a zip file, by which its formats tell whether it may be theirs.

Three formats are zip files. To open an archive and check it costs each of them its modules and a walk over all
members; this reads the name of the first member and the directory, and believes nothing in them.

Reference: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7 and 4.3.12 to 4.3.16.
"""

from __future__ import annotations

from pathlib import Path

from porting.checkpoint.format import head

LOCAL_MAGIC = b"PK\x03\x04"

_LOCAL, _END, _LOCATOR, _END64 = 30, 22, 20, 56
"""Bytes of a local header, and of the three records behind the directory."""

_NAME = _COMMENT = 0xFFFF
"""Bytes of a name, and of a comment, at most."""

_LIMIT = 64 << 20
"""Bytes of a directory that is looked at. Which formats a longer one may be of, they tell themselves."""


def zip_may_name(path: Path, part: bytes) -> bool:
    """Is this a zip file with a member in whose name the part may occur?

    Yes whenever it does, of whole files; of one whose end is cut off, if it does in the name of the first member.
    """
    start = head(path, _LOCAL + _NAME)
    if not start.startswith(b"PK"):
        return False
    try:
        return part in _first(start) or _directory_may_hold(path, part)
    except OSError:
        return False


def first_name(path: Path) -> str | None:
    """The name in a file's first local header; None if it is not a zip file. Opens nothing else."""
    start = head(path, _LOCAL + _NAME)
    return _first(start).decode("utf-8", "replace") if len(start) >= _LOCAL and start.startswith(LOCAL_MAGIC) else None


def _first(start: bytes) -> bytes:
    """The name in a local header."""
    return start[_LOCAL : _LOCAL + int.from_bytes(start[26:28], "little")]


def _directory_may_hold(path: Path, part: bytes) -> bool:
    """Not if there is no end record, nor if the directory before it is short enough to tell."""
    with path.open("rb") as file:
        begin = max(0, file.seek(0, 2) - _COMMENT - _END - _LOCATOR - _END64)
        file.seek(begin)
        tail = file.read()
        bare = tail[-_END:].startswith(b"PK\x05\x06") and tail.endswith(b"\0\0")  # whatever its numbers look like
        end = len(tail) - _END if bare else tail.rfind(b"PK\x05\x06")
        if end < 0:
            return False
        length = int.from_bytes(tail[end + 12 : end + 16], "little")
        wide = tail[max(0, end - _LOCATOR - _END64) : end]
        if wide.startswith(b"PK\x06\x06") and wide[_END64:].startswith(b"PK\x06\x07"):
            end -= len(wide)
            length = int.from_bytes(wide[40:48], "little")
        if length > _LIMIT:
            return True
        file.seek(max(0, begin + end - length))
        return part in file.read(length)
