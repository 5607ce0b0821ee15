"""Finds formats: by name, and by what a path holds."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from porting.checkpoint.entry import Checkpoint
from porting.checkpoint.format import Format
from porting.errors import FormatError, UsageError
from porting.plugins import installed


@cache
def formats() -> dict[str, Format]:
    """All installed formats by name, in the order of their names."""
    found = [point.load() for point in installed("porting.formats")]
    return {kind.name: kind for kind in sorted(found, key=lambda kind: kind.name)}


def format_named(name: str) -> Format:
    """The format of that name.

    Raises: UsageError listing the names there are.
    """
    known = formats()
    if name not in known:
        raise UsageError(f"format {name}: not known; there are {', '.join(known)}")
    return known[name]


def _refuse_impossible(path: Path) -> None:
    """Raises: FormatError for a path that no file can have, or that may not be looked at."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise FormatError(path, "", f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _where(kind: Format, path: Path) -> Path | None:
    """What the format says of the path.

    Raises: FormatError if the system refuses to say what lies there.
    """
    try:
        return kind.locate(path)
    except OSError as error:
        raise FormatError(path, "", f"cannot be read: {error.strerror or error}") from None


def _why_none(path: Path, otherwise: str) -> str:
    """What is wrong with the file or folder at `path`; `otherwise` if nothing but its content."""
    if not path.exists():
        return "a link that leads nowhere" if path.is_symlink() else "no such file, folder or TensorFlow prefix"
    if not path.is_file() and not path.is_dir():
        return "is neither a regular file nor a folder"
    if not os.access(path, os.R_OK):
        return "cannot be read: Permission denied"
    if path.is_file() and not path.stat().st_size:
        return "is empty"
    return otherwise


def locate(path: Path, framework: str | None = None) -> tuple[Format, Path]:
    """The format of what lies at `path`, by content, and the path to read.

    framework: decides where a path is a file of one format and the prefix of another.
    Raises: FormatError if nothing there is a checkpoint; UsageError if two formats are possible.
    """
    _refuse_impossible(path)
    hits = [(kind, where) for kind in formats().values() if (where := _where(kind, path)) is not None]
    if framework is not None and len(hits) > 1:
        hits = [hit for hit in hits if hit[0].framework == framework] or hits
    if not hits:
        raise FormatError(path, "", _why_none(path, f"not a checkpoint of any format known ({', '.join(formats())})"))
    if len(hits) > 1:
        names = " and ".join(f"{kind.name} ({where})" for kind, where in hits)
        raise UsageError(f"{path}: is both {names}; name the direction or pass --source-format")
    return hits[0]


def read(path: str | Path, *, format: str | None = None, framework: str | None = None) -> Checkpoint:  # noqa: A002
    """Open a checkpoint of any format, lazily.

    format: skip the search and take this one.
    Raises: FormatError, UsageError.
    """
    where = Path(path)
    if format is not None:
        kind = format_named(format)
        _refuse_impossible(where)
        found = _where(kind, where)
        if found is None:
            raise FormatError(where, "", _why_none(where, f"wanted {format}, but it is not"))
        return kind.read(found)
    kind, found = locate(where, framework)
    return kind.read(found)
