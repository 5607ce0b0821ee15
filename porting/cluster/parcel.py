"""Files and folders as pieces that can be sent one by one, and back: whole, with the hash that they had, or not at all.

Of each file a header {"file": [number of the path, relative name], "bytes": size}, its bytes in order, and {"hash": …}.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

import xxhash

from porting.errors import FormatError

PIECE = 8 << 20
"""Bytes of a piece at most."""

Message = dict[str, Any] | bytes


def packed(root: Path, files: Sequence[Path], number: int = 0) -> Iterator[Message]:
    """Files of one path, named as they lie under `root`; `.` for root itself."""
    for file in files:
        state = xxhash.xxh3_128()
        yield {"file": [number, str(file.relative_to(root))], "bytes": file.stat().st_size}
        with file.open("rb") as stream:
            while piece := stream.read(PIECE):
                state.update(piece)
                yield piece
        yield {"hash": state.hexdigest()}


def packed_path(path: Path, number: int = 0) -> Iterator[Message]:
    """A file, or all files of a folder."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return packed(path, files, number)


@dataclass(slots=True)
class Unpacking:
    """Puts pieces back into files. places: of each number, where its files go.

    Raises, from `take`: FormatError for bytes that are not those that were sent, and for a name that leads elsewhere.
    """

    places: Sequence[Path]
    _file: BinaryIO | None = None
    _name: Path = Path()
    _left: int = 0
    _state: Any = field(default_factory=xxhash.xxh3_128)

    def take(self, message: Message) -> None:
        """One message."""
        if isinstance(message, dict):
            self._end(message["hash"]) if "hash" in message else self._begin(message)
            return
        if self._file is None:
            raise FormatError(self._name, "", "bytes that belong to no file")
        self._state.update(message)
        self._file.write(message)
        self._left -= len(message)

    def _begin(self, header: dict[str, Any]) -> None:
        number, name = header["file"]
        place = self.places[number]
        self._name = place if name == "." else place / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise FormatError(place, name, "leads out of its folder")
        self._name.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._left, self._state = self._name.open("xb"), header["bytes"], xxhash.xxh3_128()

    def _end(self, wanted: str) -> None:
        self.close()
        if self._left or self._state.hexdigest() != wanted:
            raise FormatError(self._name, "", "did not arrive as it was sent")

    @property
    def whole(self) -> bool:
        """Whether no file is open."""
        return self._file is None

    def close(self) -> None:
        """Close what is open."""
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclass(frozen=True, slots=True)
class Staged:
    """Outputs under names that nobody takes for final ones, until they are put in place; removed otherwise."""

    finals: tuple[Path, ...]

    @property
    def places(self) -> list[Path]:
        """Where each is until then: beside its final name, so that putting it in place is a renaming."""
        return [final.parent / f".{final.name}.{os.getpid()}.part" for final in self.finals]

    def commit(self) -> None:
        """Give each its final name."""
        for place, final in zip(self.places, self.finals, strict=True):
            place.replace(final)

    def discard(self) -> None:
        """Remove what is there."""
        remove(self.places)

    def __enter__(self) -> Self:
        for place in self.places:
            place.parent.mkdir(parents=True, exist_ok=True)
        self.discard()
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


def remove(paths: Iterable[Path]) -> None:
    """Remove files and folders that may be there."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
