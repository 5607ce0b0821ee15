"""The ground of provenance: files with the hashes of their bytes as they lie on the disk."""

from __future__ import annotations

from collections.abc import Iterable
from os import walk
from pathlib import Path

import xxhash

from porting.acceptance.trajectory import Input
from porting.errors import FormatError

PIECE = 4 << 20


def input_of(path: str | Path) -> Input:
    """A file's size and hash. Raises: FormatError if it cannot be read."""
    state, size = xxhash.xxh3_128(), 0
    try:
        with Path(path).open("rb") as file:
            while piece := file.read(PIECE):
                state.update(piece)
                size += len(piece)
    except OSError as error:
        raise FormatError(path, "", f"cannot be read: {error.strerror}") from None
    return Input(str(path), size, f"xxh3_128:{state.hexdigest()}")


def inputs_of(paths: Iterable[Path]) -> tuple[Input, ...]:
    """Files, and all files below folders, in order, each once; hidden ones are somebody's work in progress."""
    files: dict[str, None] = {}
    for path in paths:
        if path.is_dir():
            files |= dict.fromkeys(sorted(_below(path)))
        elif path.is_file():
            files[str(path)] = None
    return tuple(input_of(file) for file in files)


def _below(folder: Path) -> Iterable[str]:
    for place, folders, names in walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (str(Path(place, name)) for name in names if not name.startswith("."))
