"""Outputs appear whole under their final name or not at all.

Everything is written to `.NAME.PID.part` files in the target folder and renamed when the last byte is
in place. An interrupted run leaves nothing under a final name, and an old output as it was; parts
of runs that were killed are removed by the next run that writes the same name.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from porting.errors import FormatError, UsageError


def alive(pid: int) -> bool:
    """Whether a process of that number is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def remove_stale_parts(folder: Path, names: Sequence[str]) -> None:
    """Remove the parts of killed runs that were to become one of `names`."""
    part = re.compile(r"\.(.+)\.([0-9]{1,9})\.part")
    with suppress(OSError):
        for path in folder.iterdir():
            match = part.fullmatch(path.name)
            if match and match[1] in names and not alive(int(match[2])):
                path.unlink(missing_ok=True)


def explain(path: Path, error: OSError) -> FormatError:
    """An error of the system while writing, in one line."""
    reasons = {errno.ENOSPC: "no space left on the device", errno.EDQUOT: "disk quota exceeded"}
    return FormatError(path, "", f"cannot be written: {reasons.get(error.errno or 0, error.strerror or str(error))}")


WRITE = 1 << 19
"""Bytes given to the system at a time, cut at multiples of it in the file, where its cache has pages of that size: of
256 KiB the calls cost, a tenth of all, and of 2 MiB what is written has left the processor's second-level cache. Writes
of 4 MiB make the system look for larger pages than it has at hand, and a virtual machine then has to fetch them from
its host: that took four times as long where it happened. Of 512 KiB it happens too, at a bad time of the host."""


def put(fd: int, offset: int, data: object) -> None:
    """Write all of `data` (anything with the buffer protocol) at `offset`. Raises: OSError."""
    view = memoryview(data).cast("B")  # type: ignore[arg-type]
    while view:
        done = os.pwrite(fd, view[: WRITE - offset % WRITE], offset)
        view, offset = view[done:], offset + done


def release(fd: int, offset: int, nbytes: int) -> None:
    """Have the system begin to write these bytes to the disk, and give back the memory of those that are there.

    Nothing where it has no such call; a file system that refuses is left alone.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(fd, offset, nbytes, os.POSIX_FADV_DONTNEED)


class Output:
    """The files of one checkpoint being written.

    A context manager: entering it opens one part per name, leaving it without `commit`, which puts them in place,
    removes them.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], *, companions: Sequence[str] = (), overwrite: bool = False
    ) -> None:
        """`companions` (a ledger) are numbered after the names and put in place first.

        Raises: UsageError if a final name exists and `overwrite` is false.
        """
        self.folder = folder
        self.names = (*names, *companions)
        self._order = (*companions, *names)
        taken = [name for name in self.names if os.path.lexists(folder / name)]
        if taken and not overwrite:
            raise UsageError(f"{folder / taken[0]}: exists already; --overwrite replaces it")
        for name in taken:
            if (folder / name).is_dir():
                raise UsageError(f"{folder / name}: wanted a file name, got a folder")
            if (folder / name).exists() and not (folder / name).is_file():
                raise UsageError(f"{folder / name}: is a device or a pipe, and is not replaced")
        remove_stale_parts(folder, self.names)
        self.parts = tuple(self._part(name) for name in self.names)
        self.fds: list[int] = []

    def _part(self, name: str) -> Path:
        return self.folder / f".{name}.{os.getpid()}.part"

    def reserve(self, file: int, size: int) -> None:
        """Take the space that file number `file` will fill: a full disk is told before a byte is written.

        Writing into space that is there already also costs a third less.
        Raises: FormatError naming the final file when the system refuses.
        """
        if not size:
            return
        try:
            os.posix_fallocate(self.fds[file], 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # file systems that cannot
                raise explain(self.folder / self.names[file], error) from None

    def write(self, file: int, offset: int, data: object) -> None:
        """Write all of `data` (anything with the buffer protocol) at `offset` of file number `file`.

        Raises: FormatError naming the final file when the system refuses.
        """
        try:
            put(self.fds[file], offset, data)
        except OSError as error:
            raise explain(self.folder / self.names[file], error) from None

    def read(self, file: int, offset: int, into: memoryview) -> int:
        """Read back what was written. Returns the number of bytes, fewer than asked at the end of the file."""
        return os.preadv(self.fds[file], [into], offset)

    def release(self, file: int, offset: int, nbytes: int) -> None:
        """See `release`."""
        release(self.fds[file], offset, nbytes)

    def sync(self) -> None:
        """Wait until what was written is on the disk. Raises: FormatError."""
        for name, fd in zip(self.names, self.fds, strict=True):
            try:
                os.fsync(fd)
            except OSError as error:
                raise explain(self.folder / name, error) from None

    def commit(self) -> tuple[Path, ...]:
        """Put every file in place, the last name last. Returns the final paths of the names."""
        self.close()
        for name in self._order:
            try:
                self._part(name).replace(self.folder / name)
            except OSError as error:
                raise explain(self.folder / name, error) from None
        return tuple(self.folder / name for name in self.names)

    def close(self) -> None:
        """Close the descriptors; what was written stays in the parts."""
        while self.fds:
            os.close(self.fds.pop())

    def discard(self) -> None:
        """Remove the parts."""
        self.close()
        for part in self.parts:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Raises: FormatError if the folder cannot be written to.

        Opened here and not before, as an interrupt between the two would leave the parts behind.
        """
        try:
            for name, part in zip(self.names, self.parts, strict=True):
                try:
                    self.fds.append(os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666))
                except OSError as error:
                    raise explain(self.folder / name, error) from None
        except BaseException:
            self.discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are not there. Raises: FormatError if the system refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(folder, error) from None


def write_text(path: Path, text: str, *, overwrite: bool = True) -> Path:
    """Write a small file, on the disk when this returns. Returns its path.

    Raises: UsageError if it exists and `overwrite` is false; FormatError if the system refuses: then the old one stays.
    """
    with Output(path.parent, [path.name], overwrite=overwrite) as output:
        output.write(0, 0, text.encode())
        output.sync()
        return output.commit()[0]


def write_json(path: Path, values: object, *, overwrite: bool = True, indent: int = 1) -> Path:
    """The same of JSON values. Raises: as `write_text`."""
    return write_text(path, json.dumps(values, indent=indent) + "\n", overwrite=overwrite)
