"""Bytes on their way from file to file that nobody looks at."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Self

from porting.checkpoint.storage import Mapped, MappedFile, Storage


class Unread:
    """Bytes of a file that nobody has looked at: the system copies them into another file by itself."""

    __slots__ = ("file", "nbytes", "offset")

    def __init__(self, file: MappedFile, offset: int, nbytes: int) -> None:
        self.file = file
        self.offset = offset
        self.nbytes = nbytes

    def __len__(self) -> int:
        return self.nbytes

    def __getitem__(self, part: slice) -> Self:
        """Some of them, from one place on to another."""
        start, stop, _ = part.indices(self.nbytes)
        return type(self)(self.file, self.offset + start, max(0, stop - start))

    @property
    def device(self) -> int:
        """The file system that they are on: from one to another the system does not copy."""
        return os.fstat(self.file.fd).st_dev

    def copy(self, fd: int, offset: int) -> int:
        """Have the system copy them to `offset` of an open file; how many it has, fewer if it cannot or they end."""
        if not hasattr(os, "copy_file_range"):
            return 0
        done = 0
        with suppress(OSError):  # the same happens to who reads and writes, and can say which of the two it was
            while done < self.nbytes:
                count = os.copy_file_range(self.file.fd, fd, self.nbytes - done, self.offset + done, offset + done)
                if not count:
                    break
                done += count
        return done


def unread(storage: Storage) -> Unread | None:
    """The bytes of a storage, if they lie in one run of a file as they are."""
    if isinstance(storage, Mapped) and storage.strides is None:
        return Unread(storage.file, storage.offset, storage.extent)
    return None
