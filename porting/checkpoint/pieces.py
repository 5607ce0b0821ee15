"""A tensor's bytes in order, a piece at a time, so that no tensor is ever held whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import Protocol, TypeVar, runtime_checkable

from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.scratch import Scratch
from porting.checkpoint.storage import Array, Mapped, Storage

PIECE = 2 << 20
"""Bytes moved at a time: small enough to stay in the second-level cache between reading, hashing and writing."""

READ = 1 << 20
"""Bytes read at a time where a run of a file is taken as it is: what was read is still in the second-level cache
when it is hashed and written."""

HELD = 32 << 20
"""Bytes of a mapped file that one thread keeps resident at a time."""


@runtime_checkable
class InPieces(Protocol):
    """A storage that knows a better way to come in pieces than by boxes of its shape."""

    def pieces(self, piece: int, at: int = 0) -> Iterator[memoryview]:
        """The bytes in order, about `piece` at a time; each is there until the next is asked for, or none any more.

        at: where in a file they will stand, as for Scratch.take.
        """
        ...


def storage_pieces(
    storage: Storage, shape: tuple[int, ...], itemsize: int, piece: int = PIECE, *, at: int = 0, keep: bool = False
) -> Iterator[memoryview]:
    """A stored tensor's bytes in row-major order, at most about `piece` bytes at a time.

    at: where in a file they will stand: see Scratch.
    keep: leave the pages of a mapped file resident for a second reading; by default they are given back, or what is
    wanted of the file is read and not mapped.
    Raises: FormatError if the file has become shorter.
    """
    if not all(shape):
        return
    if isinstance(storage, Mapped) and storage.row_major:
        yield from _mapped(storage, piece) if keep else _read(storage, min(piece, READ), at)
    elif isinstance(storage, Mapped):
        from porting.checkpoint.strided import strided_pieces

        yield from strided_pieces(storage, piece, at)
    elif isinstance(storage, InPieces):
        yield from (memoryview(part) for part in storage.pieces(piece, at))
    else:
        from porting.checkpoint.tiles import pack

        with Scratch() as scratch:
            for box in row_boxes(shape, itemsize, piece):
                part = storage.read(box)
                yield pack(part, None if part.flags.c_contiguous else scratch.take(part.nbytes, at))
                at += part.nbytes
    if not keep:
        storage.release()


def entry_pieces(entry: TensorEntry, at: int = 0, *, piece: int = PIECE, keep: bool = False) -> Iterator[memoryview]:
    """The bytes of an entry, as those of its storage."""
    return storage_pieces(entry.storage, entry.shape, entry.dtype.itemsize, piece, at=at, keep=keep)


def _read(storage: Mapped, piece: int, at: int) -> Iterator[memoryview]:
    """The run of the file, copied piece by piece into one buffer: cheaper than mapping pages that are seen once.

    The first piece is shorter, so that the others will stand at multiples of their size: what is written there fills
    large pages of the system's cache from end to end.
    """
    done = 0
    with Scratch() as scratch:
        while done < storage.extent:
            count = min(piece - (at + done) % piece, storage.extent - done)
            part = scratch.take(count, at + done, source=storage.offset + done)
            storage.file.read_into(storage.offset + done, part)
            yield part
            done += count


def _mapped(storage: Mapped, piece: int) -> Iterator[memoryview]:
    """The run of the file itself; a large one gives its pages back on the way."""
    whole = storage.file.still(storage.offset, storage.extent, f"tensor at offset {storage.offset}")
    since = 0
    for at in range(0, len(whole), piece):
        yield whole[at : at + piece]
        if at + piece - since >= HELD and len(whole) > HELD:
            storage.file.release(storage.offset + since, at + piece - since)
            since = at + piece


def row_boxes(shape: tuple[int, ...], itemsize: int, piece: int) -> Iterator[tuple[slice, ...]]:
    """Boxes that tile the shape in row-major order, each at most about `piece` bytes and contiguous in the result.

    >>> list(row_boxes((4, 2), 8, 32))
    [(slice(0, 2, None),), (slice(2, 4, None),)]
    """
    if not shape or prod(shape) * itemsize <= piece:
        yield ()
        return
    inner = prod(shape[1:]) * itemsize
    if inner > piece and len(shape) > 1:
        for i in range(shape[0]):
            for box in row_boxes(shape[1:], itemsize, piece):
                yield (slice(i, i + 1), *box)
        return
    rows = max(1, piece // max(1, inner))
    for i in range(0, shape[0], rows):
        yield (slice(i, min(i + rows, shape[0])),)


Run = TypeVar("Run", memoryview, Array)


def in_step(one: Iterable[Run], two: Iterable[Run]) -> Iterator[tuple[Run, Run]]:
    """Two runs of pieces, or of flat arrays, cut at the ends of both: pairs of equal length, as far as both reach.

    >>> pieces = [[memoryview(bytes(count)) for count in counts] for counts in ([3, 1], [2, 2])]
    >>> [(len(a), len(b)) for a, b in in_step(*pieces)]
    [(2, 2), (1, 1), (1, 1)]
    """
    ones, twos = iter(one), iter(two)
    a, b = next(ones, None), next(twos, None)
    while a is not None and b is not None:
        count = min(len(a), len(b))
        yield a[:count], b[:count]
        a = a[count:] if count < len(a) else next(ones, None)
        b = b[count:] if count < len(b) else next(twos, None)
