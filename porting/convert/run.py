"""Runs a prepared conversion: streams, hashes both sides, reads back, puts in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock
from typing import Any

from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.checkpoint.output import Output
from porting.checkpoint.pieces import PIECE, storage_pieces
from porting.checkpoint.registry import format_named
from porting.checkpoint.storage import Array
from porting.checkpoint.stream import Pieces, Written, digest, fill, read_back
from porting.checkpoint.write import LaidOut
from porting.convert.account import Done, Job, account, hash_of
from porting.convert.ledger import SUFFIX, Ledger, Record
from porting.convert.request import Prepared
from porting.errors import FormatError, MismatchError

Progress = Callable[[int], None]


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


def _sources(prepared: Prepared, ready: LaidOut, hashes: SourceHashes) -> dict[str, Pieces]:
    """The pieces of every target, the hashing of its sources before them where they are not its own bytes."""
    records = {record.target: record for record in prepared.records}

    def pieces(name: str) -> Iterator[Array]:
        record, entry = records.get(name), ready.entries[name]
        if record is not None and record.operation != ("copy",):
            for source in record.sources:
                if source in prepared.source.tensors:
                    hashes.take(source)
        yield from storage_pieces(entry.storage, entry.shape, entry.dtype.itemsize, PIECE)

    return {name: (lambda name=name: pieces(name)) for name in ready.layout.extents}  # type: ignore[misc]


def run(
    job: Job,
    algorithm: str,
    *,
    verify: bool,
    overwrite: bool,
    threads: int,
    report: Callable[[int, int], None] | None,
) -> Ledger:
    """Stream everything into the output, and put it in place when all is well.

    verify: compare the checksums that the source stores with its bytes, while they are read, and hash
    what was written once more from the output.
    Raises: FormatError if either differs, or if the system refuses to write; the output does not appear.
    """
    prepared, ready = job.prepared, job.ready
    hashes = SourceHashes(prepared.source.tensors, algorithm)
    step = _stepper(ready, report, passes=2 if verify else 1)
    names = ready.layout.files
    output = Output(job.target.parent, names, companions=(job.target.name + SUFFIX,), overwrite=overwrite)
    with output, ThreadPoolExecutor(1) as beside:
        sound = beside.submit(_checksums, prepared.source.checkpoint) if verify else None
        sources = _sources(prepared, ready, hashes)
        written = fill(output, ready.layout, sources, algorithm=algorithm, threads=threads, progress=step)
        bad = read_back(output, ready.layout, written, threads=threads, progress=step) if verify else []
        if bad:
            raise FormatError(job.target, bad[0], "what was read back is not what was written: faulty disk or memory")
        if sound is not None:
            sound.result()
        _copies(prepared.records, ready, written, hashes.hashes)
        done = Done(written, hashes.hashes, _input_files(prepared, algorithm))
        ledger = replace(account(job, done), verified=verify)
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
    total = passes * sum(run.nbytes for runs in ready.layout.extents.values() for run in runs)
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
