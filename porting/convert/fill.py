"""Brings the tensors of a prepared conversion over: hashed on both sides, written, read back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, Self

from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.checkpoint.output import Output
from porting.checkpoint.pieces import entry_pieces, storage_pieces
from porting.checkpoint.registry import format_named
from porting.checkpoint.release import order
from porting.checkpoint.storage import Array
from porting.checkpoint.stream import Opened, Pieces, Written, by_threads, digest, fill_tensors, read_back
from porting.convert.account import Job
from porting.convert.cast import Cast
from porting.errors import FormatError, MismatchError

Progress = Callable[[int], None]


class Way(NamedTuple):
    """How tensors are brought over.

    algorithm: of their hashes. verify: read back what was written. threads: of a process that fills alone.
    """

    algorithm: str
    verify: bool = True
    threads: int = 2


@dataclass(slots=True)
class Filled:
    """What filling came to, by tensors of the target and, hashes, of the source.

    overflowed: by target, how many finite values a cast has made infinite or NaN; where none, it is not there.
    """

    written: dict[str, Written] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    overflowed: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, from one process to another."""
        return {"written": self.written, "hashes": self.hashes, "overflowed": self.overflowed}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The same again."""
        written = {
            name: Written(hashed, stored, tuple(runs)) for name, (hashed, stored, runs) in values["written"].items()
        }
        return cls(written, values["hashes"], values["overflowed"])

    def add(self, other: Filled, job: Job) -> None:
        """What another did, too. Raises: FormatError where both read one tensor, and it differed."""
        self.written |= other.written
        for name, hashed in other.hashes.items():
            if self.hashes.setdefault(name, hashed) != hashed:
                raise FormatError(job.prepared.source.checkpoint.path, name, "was read twice, and differed")
        self.overflowed |= other.overflowed


Fill = Callable[[Output, Job, Way, Progress | None], Filled]
"""Fills an output that was begun with all tensors of a conversion."""


class SourceHashes:
    """Hashes a source's tensors when first touched; with `none` none."""

    def __init__(self, entries: Mapping[str, TensorEntry], algorithm: str) -> None:
        self._entries = entries
        self._algorithm = algorithm
        self.hashes: dict[str, str] = {}

    def take(self, name: str) -> None:
        """Hash the tensor unless that is done, leaving its pages resident for the conversion that follows."""
        if name in self.hashes or self._algorithm == "none":
            return
        entry = self._entries[name]
        state = digest(self._algorithm)
        for piece in entry_pieces(entry, keep=True):
            state.update(piece)
        self.hashes[name] = f"{self._algorithm}:{state.hexdigest()}"


def _sources(job: Job, hashes: SourceHashes, overflowed: dict[str, int]) -> dict[str, Pieces]:
    """The pieces of targets, the hashing of its sources before them where they are not its own bytes.

    overflowed: filled as the pieces pass, as in Filled.
    """
    tensors, entries = job.prepared.source.tensors, job.ready.entries
    records = {record.target: record for record in job.prepared.records}

    def pieces(name: str, at: int) -> Iterator[Array]:
        record, entry = records.get(name), entries[name]
        if record is not None and record.operation != ("copy",):
            for source in record.sources:
                if source in tensors:
                    hashes.take(source)
        cast = replace(entry.storage, overflowed=[]) if isinstance(entry.storage, Cast) else None
        yield from storage_pieces(cast or entry.storage, entry.shape, entry.dtype.itemsize, at=at)
        if cast is not None and cast.overflowed:
            overflowed[name] = sum(cast.overflowed)

    return {name: partial(pieces, name) for name in job.ready.layout.extents}


def fill_some(output: Opened, job: Job, names: Iterable[str], way: Way, step: Progress | None) -> Filled:
    """Fill the output with some of a conversion's tensors, and read them back before their memory is given back.

    names: as for fill_tensors. Raises: FormatError if what is read back differs.
    """
    layout, overflowed = job.ready.layout, dict[str, int]()
    hashes = SourceHashes(job.prepared.source.tensors, way.algorithm)
    sources = _sources(job, hashes, overflowed)
    filled = Filled({}, hashes.hashes, overflowed)
    for part in fill_tensors(output, layout, sources, names, algorithm=way.algorithm, progress=step):
        bad = read_back(output, layout, part, progress=step) if way.verify else []
        if bad:
            raise FormatError(job.target, bad[0], "what was read back is not what was written: faulty disk or memory")
        filled.written |= part
    return filled


def fill_here(output: Output, job: Job, way: Way, step: Progress | None) -> Filled:
    """Fill an output with all tensors, by threads of this process."""
    with sound_beside(job, way):
        share = partial(fill_some, output, job, way=way, step=step)
        filled = Filled()
        for one in by_threads(share, order(job.ready.layout), way.threads):
            filled.add(one, job)
        return filled


@contextmanager
def sound_beside(job: Job, way: Way) -> Iterator[None]:
    """With `verify`, hold the source's bytes against the checksums that it stores, in a thread beside what is done.

    Raises: MismatchError naming every checksum that the bytes do not have.
    """
    if not way.verify:
        yield
        return
    with ThreadPoolExecutor(1) as pool:
        sound = pool.submit(_checksums, job.prepared.source.checkpoint)
        yield
        sound.result()


def _checksums(checkpoint: Checkpoint) -> None:
    check = format_named(checkpoint.format).verify
    wrong = list(check(checkpoint)) if check else []
    if wrong:
        raise MismatchError(f"{checkpoint.path}: stores checksums that its bytes do not have", wrong)
