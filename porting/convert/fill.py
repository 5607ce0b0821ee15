"""Brings the tensors of a prepared conversion over: hashed on both sides, written, read back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, NamedTuple, Self

from porting.checkpoint.output import Output
from porting.checkpoint.pieces import READ, entry_pieces, storage_pieces
from porting.checkpoint.release import order
from porting.checkpoint.sound import checked, unsound
from porting.checkpoint.stream import Opened, Pieces, Written, by_threads, fill_tensors, hash_pieces, read_back
from porting.convert.account import Job
from porting.convert.cast import Cast
from porting.convert.ledger import Record
from porting.convert.rule import COPY
from porting.errors import FormatError

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
    unsound: lines about checksums that the source stores and its bytes do not have.
    """

    written: dict[str, Written] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    overflowed: dict[str, int] = field(default_factory=dict)
    unsound: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, from one process to another."""
        return {key.name: getattr(self, key.name) for key in fields(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The same again."""
        written = {
            name: Written(hashed, stored, tuple(runs)) for name, (hashed, stored, runs) in values["written"].items()
        }
        return cls(**{**values, "written": written})

    def add(self, other: Filled, job: Job) -> None:
        """What another did, too. Raises: FormatError where both read one tensor, and it differed."""
        self.written |= other.written
        for name, hashed in other.hashes.items():
            if self.hashes.setdefault(name, hashed) != hashed:
                raise FormatError(job.prepared.source.checkpoint.path, name, "was read twice, and differed")
        self.overflowed |= other.overflowed
        self.unsound += other.unsound


Fill = Callable[[Output, Job, Way, Progress | None], Filled]
"""Fills an output that was begun with all tensors of a conversion."""


class _Reader:
    """Reads the sources of a conversion's targets, of which it tells in a Filled.

    A source is hashed when first touched, unless it is only copied (see `run`). With `verify` its stored checksum, if
    it has one, is compared as its bytes pass.
    """

    def __init__(self, job: Job, way: Way, filled: Filled) -> None:
        self._job = job
        self._way = way
        self._filled = filled
        self._tensors = job.prepared.source.tensors
        self._records = {record.target: record for record in job.prepared.records}

    def sources(self) -> dict[str, Pieces]:
        """The pieces of every target."""
        return {name: partial(self._pieces, name) for name in self._job.ready.layout.extents}

    def _pieces(self, name: str, at: int) -> Iterator[memoryview]:
        record, entry = self._records.get(name), self._job.ready.entries[name]
        cast = replace(entry.storage, overflowed=[]) if isinstance(entry.storage, Cast) else None
        pieces = storage_pieces(cast or entry.storage, entry.shape, entry.dtype.itemsize, at=at)
        if record is not None:
            for source in _whole(record, self._job):
                if record.operation == COPY:
                    pieces = self._checked(source, pieces)
                else:
                    self._take(source)
        yield from pieces
        if cast is not None and cast.overflowed:
            self._filled.overflowed[name] = sum(cast.overflowed)

    def _take(self, source: str) -> None:
        """Hash the tensor unless that is done, leaving its pages resident for the conversion that follows."""
        if source not in self._filled.hashes and self._way.algorithm != "none":
            pieces = entry_pieces(self._tensors[source], piece=READ, keep=True)
            self._filled.hashes[source] = hash_pieces(self._checked(source, pieces), self._way.algorithm)

    def _checked(self, source: str, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        return checked(self._tensors[source], pieces, self._filled.unsound) if self._way.verify else pieces


def _whole(record: Record, job: Job) -> Iterator[str]:
    """The sources that are read whole for a target: the one that is copied, or all that it is made of."""
    tensors, entry = job.prepared.source.tensors, job.ready.entries[record.target]
    for name in record.sources:
        if name in tensors and (record.operation != COPY or tensors[name].storage is entry.storage):
            yield name


def passing(job: Job) -> frozenset[str]:
    """The sources that are read whole on the way into targets, where a _Reader compares their checksums."""
    filled = (record for record in job.prepared.records if record.target in job.ready.layout.extents)
    return frozenset(name for record in filled for name in _whole(record, job))


def fill_some(output: Opened, job: Job, names: Iterable[str], way: Way, step: Progress | None) -> Filled:
    """Fill the output with some of a conversion's tensors, and read them back before their memory is given back.

    names: as for fill_tensors. Raises: FormatError if what is read back differs.
    """
    layout, filled = job.ready.layout, Filled()
    sources = _Reader(job, way, filled).sources()
    for part in fill_tensors(output, layout, sources, names, algorithm=way.algorithm, progress=step):
        bad = read_back(output, layout, part, progress=step) if way.verify else []
        if bad:
            raise FormatError(job.target, bad[0], "what was read back is not what was written: faulty disk or memory")
        filled.written |= part
    return filled


def fill_here(output: Output, job: Job, way: Way, step: Progress | None) -> Filled:
    """Fill an output with all tensors, by threads of this process."""
    filled = Filled()
    with sound_beside(job, way, filled):
        share = partial(fill_some, output, job, way=way, step=step)
        for one in by_threads(share, order(job.ready.layout), way.threads):
            filled.add(one, job)
    return filled


@contextmanager
def sound_beside(job: Job, way: Way, filled: Filled) -> Iterator[None]:
    """With `verify`, compare the checksums that the source stores and filling does not, in a thread beside it."""
    if not way.verify:
        yield
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        lines = pool.submit(lambda: list(unsound(job.prepared.source.checkpoint, but=passing(job))))
        yield
        filled.unsound += lines.result()
