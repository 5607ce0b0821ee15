"""Executes a layout: bytes of many tensors into their places, hashed on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from threading import Lock
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from porting.checkpoint.checksum import STEPS
from porting.checkpoint.format import Extent, Layout
from porting.checkpoint.output import Output
from porting.checkpoint.pieces import READ
from porting.checkpoint.release import Release, order
from porting.checkpoint.scratch import Scratch

Pieces = Callable[[int], Iterable[memoryview]]
"""Yields a tensor's bytes in order, told where in a file the first will stand (see Scratch). What comes is there until
the next is asked for, or none any more."""


class Opened(Protocol):
    """An output's files that can be written and read at any place: Output, and Parts of one."""

    def write(self, file: int, offset: int, data: object) -> None: ...
    def read(self, file: int, offset: int, into: memoryview) -> int: ...
    def release(self, file: int, offset: int, nbytes: int) -> None: ...


class Digest(Protocol):
    """A running hash, as hashlib and xxhash have it."""

    def update(self, data: Any) -> None: ...
    def hexdigest(self) -> str: ...


ALGORITHMS = ("xxh3_128", "sha256", "none")
"""`none` hashes nothing: what was written cannot be verified later."""


class Written(NamedTuple):
    """What one tensor's bytes came to.

    hash: of the bytes in memory, as `algorithm:hex`. stored: of the bytes in the file, which differ if packed.
    Both are None if nothing was hashed. checksums: the format's, of each of its runs; 0 if the format has none.
    """

    hash: str | None
    stored: str | None
    checksums: tuple[int, ...]


def digest(algorithm: str) -> Digest:
    """A new hash of a name in `ALGORITHMS` but `none`.

    Raises: KeyError for another name.
    """
    if algorithm == "xxh3_128":
        import xxhash

        return xxhash.xxh3_128()
    if algorithm == "sha256":
        import hashlib

        return hashlib.sha256()
    raise KeyError(algorithm)


def hash_pieces(pieces: Iterable[memoryview], algorithm: str) -> str:
    """The hash of all the bytes, as `algorithm:hex`. Raises: KeyError for an algorithm that the kit does not know."""
    state = digest(algorithm)
    for piece in pieces:
        state.update(piece)
    return f"{algorithm}:{state.hexdigest()}"


def _place(
    output: Opened, extents: tuple[Extent, ...], pieces: Iterable[memoryview], feed: Callable[[int, memoryview], None]
) -> None:
    """Write the pieces one after the other into the extents, calling `feed` on each part with its extent's number."""
    number = used = 0
    for piece in pieces:
        data = piece
        while data:
            run = extents[number]
            if used == run.nbytes:
                number, used = number + 1, 0
                continue
            part = data[: run.nbytes - used]
            feed(number, part)
            output.write(run.file, run.offset + used, part)
            used += len(part)
            data = data[len(part) :]
    if used + sum(run.nbytes for run in extents[:number]) != sum(run.nbytes for run in extents):
        raise AssertionError("a tensor came out shorter than its layout")


def _fed(pieces: Iterable[memoryview], state: Digest | None) -> Iterator[memoryview]:
    for piece in pieces:
        if state is not None:
            state.update(piece)
        yield piece


def _named(algorithm: str, state: Digest | None) -> str | None:
    return None if state is None else f"{algorithm}:{state.hexdigest()}"


def read_back(
    output: Opened, layout: Layout, written: Mapping[str, Written], *, progress: Callable[[int], None] | None = None
) -> list[str]:
    """Names of the tensors whose bytes in the output are not those that were meant, by their hash, which all have.

    Reads through the system's page cache: it shows what the file holds, not what the disk has stored.
    """

    def good(name: str) -> bool:
        wanted = written[name].stored or ""
        state = digest(wanted.partition(":")[0])
        with Scratch() as scratch:
            for run in layout.extents[name]:
                done = 0
                while done < run.nbytes:
                    at = run.offset + done
                    piece = scratch.take(min(READ, run.nbytes - done), at)
                    got = output.read(run.file, at, piece)
                    if not got:
                        return False
                    state.update(piece[:got])
                    done += got
                    if progress is not None:
                        progress(got)
        return wanted.endswith(":" + state.hexdigest())

    return [name for name in written if not good(name)]


def fill(
    output: Output,
    layout: Layout,
    sources: Mapping[str, Pieces],
    *,
    algorithm: str = "xxh3_128",
    threads: int = 2,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Written]:
    """Write the layout's own bytes and every tensor's. The output is complete afterwards, but not committed.

    sources: for every name in `layout.extents`, its bytes.
    progress: called with the number of bytes just written.
    Raises: what writing or a source raises; after the first failure no thread begins another tensor.
    """

    def share(names: Iterator[str]) -> list[dict[str, Written]]:
        return list(fill_tensors(output, layout, sources, names, algorithm=algorithm, progress=progress))

    begin(output, layout)
    done = dict[str, Written]()
    for part in chain(*by_threads(share, order(layout), threads)):
        done |= part
    finish(output, layout, done)
    return done


def begin(output: Output, layout: Layout) -> None:
    """Take the room that the files want, and write the bytes that are known before any tensor is read."""
    for file, end in _ends(layout).items():
        output.reserve(file, end)
    for patch in layout.fixed:
        output.write(patch.file, patch.offset, patch.data)


def fill_tensors(
    output: Opened,
    layout: Layout,
    sources: Mapping[str, Pieces],
    names: Iterable[str],
    *,
    algorithm: str = "xxh3_128",
    progress: Callable[[int], None] | None = None,
) -> Iterator[dict[str, Written]]:
    """Write the bytes of some of the layout's tensors. As `fill`, in parts.

    A large output's part leaves the memory when the next one is asked for.
    names: each is asked for when the one before it is done.
    """
    release = Release(output, layout)
    for part in release.parts(names):
        written = {name: _one(output, layout, name, sources[name], algorithm, progress) for name in part}
        yield written
        release.done(written)


T = TypeVar("T")


class _Shared:
    """What is left of names, each for one of several threads."""

    def __init__(self, names: Iterable[str]) -> None:
        self._rest = iter(names)
        self._lock = Lock()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        with self._lock:
            return next(self._rest)

    def stop(self) -> None:
        """Nobody gets another."""
        with self._lock:
            self._rest = iter(())


def by_threads(work: Callable[[Iterator[str]], T], names: Iterable[str], threads: int) -> list[T]:
    """What came of the work in each of so many threads, which share the names.

    Raises: what the work raises; after the first failure no thread gets another name.
    """
    shared = _Shared(names)
    if threads == 1:
        return [work(shared)]
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    with ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(work, shared) for _ in range(threads)]
        try:
            wait(jobs, return_when=FIRST_EXCEPTION)
        finally:
            shared.stop()
        return [job.result() for job in jobs]


def finish(output: Output, layout: Layout, written: Mapping[str, Written]) -> None:
    """Write the bytes that only the tensors' checksums tell."""
    if layout.finish is not None:
        for patch in layout.finish({name: one.checksums for name, one in written.items()}):
            output.write(patch.file, patch.offset, patch.data)


def _ends(layout: Layout) -> dict[int, int]:
    """Where the last tensor of each file ends; what a format puts behind it makes the file longer.

    Two tensors in one place would be seen by who reads back all in the end, and not part by part.
    """
    ends = dict[int, int]()
    for file, offset, nbytes in sorted(run for runs in layout.extents.values() for run in runs):
        if offset < ends.get(file, 0):
            raise AssertionError("a layout has two tensors in one place")
        ends[file] = offset + nbytes
    return ends


def _one(
    output: Opened,
    layout: Layout,
    name: str,
    source: Pieces,
    algorithm: str,
    progress: Callable[[int], None] | None,
) -> Written:
    """One tensor: its bytes hashed, packed where the layout says so, and put into its runs."""
    state = None if algorithm == "none" else digest(algorithm)
    packed = layout.packed(name)
    stored = digest(algorithm) if packed and state is not None else state
    checksums = [0] * len(layout.extents[name])
    step = STEPS[layout.checksum] if layout.checksum else None

    def feed(run: int, piece: memoryview) -> None:
        if stored is not None:
            stored.update(piece)
        if step is not None:
            checksums[run] = step(piece, checksums[run])
        if progress is not None:
            progress(len(piece))

    at = layout.extents[name][0].offset if layout.extents[name] else 0
    pieces = source(at)
    if packed:
        from porting.checkpoint.nibbles import packed as in_pairs

        pieces = in_pairs(_fed(pieces, state))
    _place(output, layout.extents[name], pieces, feed)
    return Written(_named(algorithm, state), _named(algorithm, stored), tuple(checksums))
