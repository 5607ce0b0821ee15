"""Runs a prepared conversion: streams, hashes both sides, reads back, puts in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

from porting.checkpoint.output import Output
from porting.checkpoint.stream import Written, begin, finish
from porting.checkpoint.write import LaidOut
from porting.convert.account import Done, Job, account, hash_of
from porting.convert.fill import Fill, Progress, Way, fill_here
from porting.convert.ledger import SUFFIX, Ledger, Record
from porting.convert.request import Prepared
from porting.convert.rule import COPY
from porting.errors import MismatchError


def run(
    job: Job, way: Way, *, overwrite: bool, report: Callable[[int, int], None] | None, fill: Fill = fill_here
) -> Ledger:
    """Stream everything into the output, and put it in place when all is well.

    way: with `verify`, the checksums that the source stores are compared with its bytes, and what was written is
    hashed once more from the output. fill: who brings the tensors over.
    Raises: MismatchError naming every checksum that the source's bytes do not have; FormatError if what is read back
    differs, or if the system refuses to write; the output does not appear.
    """
    prepared, ready = job.prepared, job.ready
    step = _stepper(ready, report, passes=2 if way.verify else 1)
    names = ready.layout.files
    output = Output(job.target.parent, names, companions=(job.target.name + SUFFIX,), overwrite=overwrite)
    with output:
        begin(output, ready.layout)
        filled = fill(output, job, way, step)
        if filled.unsound:
            path = prepared.source.checkpoint.path
            wrong = list(dict.fromkeys(filled.unsound))
            raise MismatchError(f"{path}: stores checksums that its bytes do not have", wrong)
        finish(output, ready.layout, filled.written)
        _copies(prepared.records, ready, filled.written, filled.hashes)
        done = Done(filled.written, filled.hashes, _input_files(prepared, way.algorithm), filled.overflowed)
        ledger = account(job, done)._replace(verified=way.verify)
        output.write(len(names), 0, ledger.to_json().encode())
        output.commit()
    return ledger


def _copies(records: Sequence[Record], ready: LaidOut, written: Mapping[str, Written], hashes: dict[str, str]) -> None:
    """A tensor that was only copied has the hash that it was written with."""
    for record in records:
        value = hash_of(record.target, ready, written) if record.operation == COPY else None
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
