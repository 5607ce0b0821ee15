"""Where a tensor's bytes are, and how a box of them is read without loading the rest."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from porting.checkpoint.dtypes import DType
from porting.errors import FormatError

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Box = tuple[slice, ...]
"""One `slice(start, stop)` per leading axis; axes that are not named are taken whole."""


class Storage(Protocol):
    """The bytes of one tensor. `read` allocates at most the box it is asked for."""

    def read(self, box: Box = ()) -> Array:
        """The elements of the box, in the dtype's numpy carrier; a view of a mapped file where it can be."""
        ...

    def release(self) -> None:
        """Give the pages that reading has made resident back to the system; reading again is allowed."""
        ...


def _opened(path: Path) -> tuple[int, int]:
    """Descriptor and size of a regular file that is not empty. A pipe does not make it wait."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise FormatError(path, "", f"cannot be read: {error.strerror}") from None
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return fd, status.st_size
    os.close(fd)
    raise FormatError(path, "", "is empty" if stat.S_ISREG(status.st_mode) else "is not a regular file")


class MappedFile:
    """A file mapped read-only. Views stay valid as long as anyone holds one.

    view: the whole file as bytes, nothing of it loaded yet.
    """

    __slots__ = ("_map", "fd", "path", "size", "view")

    def __init__(self, path: Path) -> None:
        """Map `path`.

        Raises: FormatError if it cannot be opened, is not a regular file, or is empty.
        """
        self.path = path
        self.fd, self.size = _opened(path)
        try:
            self._map = mmap.mmap(self.fd, self.size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            os.close(self.fd)
            raise FormatError(path, "", f"cannot be mapped: {error}") from None
        self.view = memoryview(self._map)

    def __del__(self) -> None:
        fd = getattr(self, "fd", -1)
        if fd >= 0:
            self.fd = -1
            try:
                os.close(fd)
            except (OSError, AttributeError):  # at the interpreter's end, os may be gone before this is
                return

    def bytes(self, offset: int, length: int, place: str) -> memoryview:
        """`length` bytes from `offset`.

        Raises: FormatError naming `place` if the file does not reach that far.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise FormatError(
                self.path,
                place,
                f"wanted {length} bytes at offset {offset}, the file has {self.size}",
            )
        return self.view[offset : offset + length]

    def still(self, offset: int, length: int, place: str) -> memoryview:
        """The same bytes, to be read at once.

        Raises: FormatError also if the file has been cut since, for the system ends a process that reads on there.
        """
        found = self.bytes(offset, length, place)
        now = os.fstat(self.fd).st_size
        if offset + length > now:
            raise FormatError(
                self.path, place, f"wanted {length} bytes at offset {offset}, the file was cut and has {now}"
            )
        return found

    def array(self, offset: int, length: int, place: str) -> Array:
        """The same as a uint8 array. Raises: FormatError likewise."""
        import numpy as np

        return np.frombuffer(self.still(offset, length, place), np.uint8)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer with what stands at `offset`, without mapping it.

        Raises: FormatError if the file ends before, as one does that was cut since it was opened.
        """
        while buffer:
            try:
                got = os.preadv(self.fd, [buffer], offset)
            except OSError as error:
                raise FormatError(self.path, f"offset {offset}", f"cannot be read: {error.strerror}") from None
            if not got:
                raise FormatError(self.path, f"offset {offset}", f"wanted {len(buffer)} more bytes, the file ends here")
            buffer, offset = buffer[got:], offset + got

    def release(self, offset: int = 0, length: int | None = None) -> None:
        """Drop the pages that lie wholly in the range from this process (they stay in the page cache)."""
        page = mmap.PAGESIZE
        start = offset - offset % page
        stop = self.size if length is None else min(self.size, offset + length)
        stop += -stop % page
        if stop > start:
            self._map.madvise(mmap.MADV_DONTNEED, start, min(stop, self.size + (-self.size % page)) - start)


class Mapped(NamedTuple):
    """A tensor that lies in a mapped file.

    strides: in bytes, for tensors that are not row-major (torch views); None for row-major ones.
    """

    file: MappedFile
    offset: int
    shape: tuple[int, ...]
    dtype: DType
    strides: tuple[int, ...] | None = None

    @property
    def extent(self) -> int:
        """How many bytes of the file it spans, gaps of a strided view included."""
        if not all(self.shape):
            return 0
        if self.strides is None:
            return prod(self.shape) * self.dtype.itemsize
        return self.dtype.itemsize + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))

    @property
    def steps(self) -> tuple[int, ...]:
        """The strides, those of a row-major tensor too."""
        return contiguous_strides(self.shape, self.dtype.itemsize) if self.strides is None else self.strides

    def part(self, box: Sequence[slice]) -> Mapped:
        """The box, for itself."""
        offset, shape = self.offset, list(self.shape)
        for axis, (one, stride) in enumerate(zip(box, self.steps, strict=False)):
            start, stop, _ = one.indices(self.shape[axis])
            offset, shape[axis] = offset + start * stride, max(0, stop - start)
        return Mapped(self.file, offset, tuple(shape), self.dtype, self.steps)

    def permuted(self, axes: Sequence[int]) -> Mapped:
        """The same with its axes in another order, as numpy.transpose takes them."""
        shape, steps = self.shape, self.steps
        return Mapped(self.file, self.offset, tuple(shape[i] for i in axes), self.dtype, tuple(steps[i] for i in axes))

    @property
    def row_major(self) -> bool:
        """Whether the bytes lie as they are wanted, one after the other."""
        if self.strides is None or not all(self.shape):
            return True
        wanted = contiguous_strides(self.shape, self.dtype.itemsize)
        return all(n == 1 or a == b for n, a, b in zip(self.shape, self.strides, wanted, strict=True))

    def read(self, box: Box = ()) -> Array:
        import numpy as np

        raw = self.file.still(self.offset, self.extent, f"tensor at offset {self.offset}")
        carrier = self.dtype.numpy()
        if not raw:
            return np.empty(self.shape, carrier)[box]
        whole: Array = np.ndarray(self.shape, carrier, buffer=raw, strides=self.strides)
        return whole[box] if box else whole

    def release(self) -> None:
        self.file.release(self.offset, self.extent)


class Segments(NamedTuple):
    """A row-major tensor whose bytes lie in several runs, one after the other (MindSpore slices).

    runs: (offset, length) in the file, in order; together exactly the tensor's bytes.
    """

    file: MappedFile
    runs: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]
    dtype: DType

    def read(self, box: Box = ()) -> Array:
        import numpy as np

        carrier = self.dtype.numpy()
        if not self.shape:
            return self._flat(0, 1, carrier).reshape(())
        row = prod(self.shape[1:])
        start, stop, _ = (box[0] if box else slice(None)).indices(self.shape[0])
        inner = box[1:]
        parts = [part[(slice(None), *inner)] for part in self._rows(start, stop, row, carrier)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _rows(self, start: int, stop: int, row: int, carrier: np.dtype[Any]) -> list[Array]:
        """Rows start:stop as views where a run holds them whole, copied where a run ends inside one."""
        import numpy as np

        width = row * self.dtype.itemsize
        parts: list[Array] = []
        at, begin = start, 0
        for offset, length in self.runs:
            end = begin + length
            if width and at < stop and at * width < end:
                whole = min(stop, end // width) - at
                if whole > 0:
                    raw = self.file.still(offset + at * width - begin, whole * width, f"slice at {offset}")
                    parts.append(np.ndarray((whole, *self.shape[1:]), carrier, buffer=raw))
                    at += whole
                if at < stop and at * width < end:
                    parts.append(self._flat(at * row, row, carrier).reshape(1, *self.shape[1:]))
                    at += 1
            begin = end
        return parts or [np.empty((max(0, stop - start), *self.shape[1:]), carrier)]

    def _flat(self, first: int, count: int, carrier: np.dtype[Any]) -> Array:
        """`count` elements from the flat index `first`, copied across the runs they lie in."""
        import numpy as np

        out = np.empty(count * self.dtype.itemsize, np.uint8)
        want, have, begin = first * self.dtype.itemsize, 0, 0
        for offset, length in self.runs:
            low, high = max(want, begin), min(want + out.size, begin + length)
            if low < high:
                out[have : have + high - low] = self.file.array(offset + low - begin, high - low, f"slice at {offset}")
                have += high - low
            begin += length
        return out.view(carrier)

    def release(self) -> None:
        for offset, length in self.runs:
            self.file.release(offset, length)


class InMemory(NamedTuple):
    """A tensor that is already an array: scalars, strings, values made by the caller."""

    array: Array

    def read(self, box: Box = ()) -> Array:
        return self.array[box] if box else self.array

    def release(self) -> None:
        return


def contiguous_strides(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Row-major strides in bytes.

    >>> contiguous_strides((2, 3, 4), 4)
    (48, 16, 4)
    """
    strides: list[int] = []
    step = itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


class Permuted(NamedTuple):
    """Another storage with its axes in another order; nothing is copied until a box is read.

    shape: of the inner storage.
    axes: as numpy.transpose takes them: axis i of the result is axis axes[i] of the inner one.
    """

    inner: Storage
    shape: tuple[int, ...]
    axes: tuple[int, ...]

    def read(self, box: Box = ()) -> Array:
        want = [slice(None)] * len(self.axes)
        for axis, part in zip(self.axes, box, strict=False):
            want[axis] = part
        return self.inner.read(tuple(want)).transpose(self.axes)

    def release(self) -> None:
        self.inner.release()
