"""Deflated zip members as random access: unpacked once, when first read.

Deflate has no random access, and a tensor has to be read in boxes. So a member is unpacked on first
use, small ones into memory and large ones into a temporary file that has no name: memory stays bounded
whatever the size, and nothing is left behind. It costs disk for as long as the checkpoint is open.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

from porting.checkpoint.dtypes import DType
from porting.checkpoint.pieces import storage_pieces
from porting.checkpoint.storage import Array, Box, Mapped, MappedFile
from porting.checkpoint.zips.archive import STORED, Archive, Member
from porting.errors import FormatError

IN_MEMORY = 1 << 20
"""Members of at most so many unpacked bytes are held in memory while a box of them is in use."""


class Inflated:
    """A deflated member's unpacked bytes as a mapped file; thread-safe."""

    __slots__ = ("_lock", "_mapped", "archive", "member")

    def __init__(self, archive: Archive, member: Member) -> None:
        self.archive = archive
        self.member = member
        self._lock = threading.Lock()
        self._mapped: MappedFile | None = None

    def mapped(self) -> MappedFile:
        """The unpacked bytes, unpacked now if they were not yet.

        Raises: FormatError if the member is damaged or there is no room to unpack it.
        """
        with self._lock:
            if self._mapped is None:
                self._mapped = self._unpack()
            return self._mapped

    def _unpack(self) -> MappedFile:
        import tempfile

        try:
            with tempfile.TemporaryFile(prefix="porting-") as out:
                for piece in self.archive.pieces(self.member):
                    out.write(piece)
                out.flush()
                return MappedFile(Path(f"/dev/fd/{out.fileno()}"))
        except OSError as error:
            raise FormatError(
                self.archive.file.path,
                self.member.name,
                f"no room to unpack {self.member.size} bytes in {tempfile.gettempdir()}: {error.strerror}",
            ) from None

    def release(self) -> None:
        """Drop the pages, not the unpacked bytes: unpacking again would cost more than the disk does."""
        if self._mapped is not None:
            self._mapped.release()


class InflatedTensor(NamedTuple):
    """A tensor within a deflated member; offset, shape and strides as in `Mapped`, within the unpacked bytes."""

    source: Inflated
    offset: int
    shape: tuple[int, ...]
    dtype: DType
    strides: tuple[int, ...] | None = None

    def read(self, box: Box = ()) -> Array:
        import numpy as np

        if not all(self.shape):
            return np.empty(self.shape, self.dtype.numpy())[box]
        if self.source.member.size > IN_MEMORY:
            return Mapped(self.source.mapped(), self.offset, self.shape, self.dtype, self.strides).read(box)
        raw = b"".join(self.source.archive.pieces(self.source.member))
        return np.ndarray(self.shape, self.dtype.numpy(), raw, self.offset, self.strides)[box]

    def pieces(self, piece: int, at: int = 0) -> Iterator[memoryview]:
        """The bytes in order, about `piece` at a time: a row-major tensor is unpacked as it goes, without a file.

        Whole elements at a time, as those of other storages, wherever the unpacked parts end.
        """
        if self.strides is not None:
            yield from storage_pieces(
                Mapped(self.source.mapped(), self.offset, self.shape, self.dtype, self.strides),
                self.shape,
                self.dtype.itemsize,
                piece,
                at=at,
            )
            return
        skip, left, rest = self.offset, prod(self.shape) * self.dtype.itemsize, b""
        for data in self.source.archive.pieces(self.source.member, piece):
            part = memoryview(data)[skip : skip + left]
            skip = max(0, skip - len(data))
            left -= len(part)
            part = memoryview(rest + part) if rest else part
            whole = len(part) - len(part) % self.dtype.itemsize
            rest = bytes(part[whole:])
            if whole:
                yield part[:whole]

    def release(self) -> None:
        """Give back the pages of the unpacked bytes."""
        self.source.release()


class Contents(NamedTuple):
    """A member's bytes, where tensors lie in: mapped if it is stored, unpacked when first read if it is deflated."""

    archive: Archive
    member: Member
    inflated: Inflated | None

    def tensor(
        self, offset: int, shape: tuple[int, ...], dtype: DType, strides: tuple[int, ...] | None
    ) -> Mapped | InflatedTensor:
        """The tensor at `offset` of the member; strides in bytes, None for row-major."""
        if self.inflated is None:
            return Mapped(self.archive.file, self.member.offset + offset, shape, dtype, strides)
        return InflatedTensor(self.inflated, offset, shape, dtype, strides)


def contents(archive: Archive, member: Member) -> Contents:
    """The bytes of a member; nothing is read yet."""
    return Contents(archive, member, None if member.method == STORED else Inflated(archive, member))
