"""Runs a prepared conversion: streams, hashes both sides, reads back, puts in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.checkpoint.output import Output
from porting.checkpoint.pieces import storage_pieces
from porting.checkpoint.registry import format_named
from porting.checkpoint.storage import Array
from porting.checkpoint.stream import Opened, Pieces, Written, begin, digest, fill_tensors, finish, read_back
from porting.checkpoint.write import LaidOut
from porting.convert.account import Done, Job, account, hash_of
from porting.convert.ledger import SUFFIX, Ledger, Record
from porting.convert.request import Prepared
from porting.errors import FormatError, MismatchError

Progress = Callable[[int], None]


class Way(NamedTuple):
    """How tensors are brought over. algorithm: of their hashes. verify: read back what was written."""

    algorithm: str
    verify: bool = True
    threads: int = 2


@dataclass(slots=True)
class Filled:
    """What filling came to, by tensors of the target and, hashes, of the source."""

    written: dict[str, Written] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)


Fill = Callable[[Output, Job, Way, Progress | None], Filled]
"""Fills an output that was begun with all tensors of a conversion."""


class SourceHashes:
    """Hashes source tensors as they are first touched, from several threads; each once, and with `none` none."""

    def __init__(self, entries: Mapping[str, TensorEntry], algorithm: str) -> None:
        self._entries = entries
        self._algorithm = algorithm
        self._taken: set[str] = set()
        self._lock = Lock()
        self.hashes: dict[str, str] = {}

    def take(self, name: str) -> None:
        """Hash the tensor unless another thread has, leaving its pages resident for the conversion that follows."""
        with self._lock:
            if name in self._taken or self._algorithm == "none":
                return
            self._taken.add(name)
        entry = self._entries[name]
        state = digest(self._algorithm)
        for piece in storage_pieces(entry.storage, entry.shape, entry.dtype.itemsize, keep=True):
            state.update(piece)
        self.hashes[name] = f"{self._algorithm}:{state.hexdigest()}"


def _sources(prepared: Prepared, ready: LaidOut, names: Sequence[str], hashes: SourceHashes) -> dict[str, Pieces]:
    """The pieces of targets, the hashing of its sources before them where they are not its own bytes."""
    records = {record.target: record for record in prepared.records}

    def pieces(name: str, at: int) -> Iterator[Array]:
        record, entry = records.get(name), ready.entries[name]
        if record is not None and record.operation != ("copy",):
            for source in record.sources:
                if source in prepared.source.tensors:
                    hashes.take(source)
        yield from storage_pieces(entry.storage, entry.shape, entry.dtype.itemsize, at=at)

    return {name: partial(pieces, name) for name in names}


def fill_some(output: Opened, job: Job, names: Sequence[str], way: Way, step: Progress | None) -> Filled:
    """Fill the output with some of a conversion's tensors, and read them back. Raises: FormatError if they differ."""
    prepared, layout = job.prepared, job.ready.layout
    hashes = SourceHashes(prepared.source.tensors, way.algorithm)
    sources = _sources(prepared, job.ready, names, hashes)
    written = fill_tensors(output, layout, sources, algorithm=way.algorithm, threads=way.threads, progress=step)
    bad = read_back(output, layout, written, threads=way.threads, progress=step) if way.verify else []
    if bad:
        raise FormatError(job.target, bad[0], "what was read back is not what was written: faulty disk or memory")
    return Filled(written, hashes.hashes)


def fill_here(output: Output, job: Job, way: Way, step: Progress | None) -> Filled:
    """Fill an output with all tensors, in this process."""
    return fill_some(output, job, list(job.ready.layout.extents), way, step)


def run(
    job: Job, way: Way, *, overwrite: bool, report: Callable[[int, int], None] | None, fill: Fill = fill_here
) -> Ledger:
    """Stream everything into the output, and put it in place when all is well.

    way: with `verify`, the checksums that the source stores are compared with its bytes, and what was written is
    hashed once more from the output. fill: who brings the tensors over.
    Raises: FormatError if either differs, or if the system refuses to write; the output does not appear.
    """
    prepared, ready = job.prepared, job.ready
    step = _stepper(ready, report, passes=2 if way.verify else 1)
    names = ready.layout.files
    output = Output(job.target.parent, names, companions=(job.target.name + SUFFIX,), overwrite=overwrite)
    with output, ThreadPoolExecutor(1) as beside:
        sound = beside.submit(_checksums, prepared.source.checkpoint) if way.verify else None
        begin(output, ready.layout)
        filled = fill(output, job, way, step)
        finish(output, ready.layout, filled.written)
        if sound is not None:
            sound.result()
        _copies(prepared.records, ready, filled.written, filled.hashes)
        done = Done(filled.written, filled.hashes, _input_files(prepared, way.algorithm))
        ledger = replace(account(job, done), verified=way.verify)
        output.write(len(names), 0, ledger.to_json().encode())
        output.commit()
    return ledger


def _checksums(checkpoint: Checkpoint) -> None:
    """Raises: MismatchError naming every checksum of the source's own that its bytes do not have."""
    check = format_named(checkpoint.format).verify
    wrong = list(check(checkpoint)) if check else []
    if wrong:
        raise MismatchError(f"{checkpoint.path}: stores checksums that its bytes do not have", wrong)


def _copies(records: Sequence[Record], ready: LaidOut, written: Mapping[str, Written], hashes: dict[str, str]) -> None:
    """A tensor that was only copied has the hash that it was written with."""
    for record in records:
        value = hash_of(record.target, ready, written) if record.operation == ("copy",) else None
        if value is not None:
            hashes.setdefault(record.sources[0], value)


def _stepper(ready: LaidOut, report: Callable[[int, int], None] | None, passes: int) -> Progress | None:
    if report is None:
        return None
    total = passes * ready.layout.nbytes
    done = 0
    lock = Lock()

    def step(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            report(done, total)

    return step


def _input_files(prepared: Prepared, algorithm: str) -> tuple[dict[str, Any], ...]:
    """Name and size of every input file; sha256 of the whole file where sha256 was asked for."""
    lines: list[dict[str, Any]] = []
    for file in prepared.source.files:
        line: dict[str, Any] = {"name": file.name, "bytes": file.stat().st_size}
        if algorithm == "sha256":
            import hashlib

            with file.open("rb") as stream:
                line["hash"] = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
        lines.append(line)
    return tuple(lines)
