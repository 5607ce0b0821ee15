"""Accounts for a conversion: everything that was prepared and written, as a ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from porting.checkpoint.format import Format
from porting.checkpoint.stream import Written
from porting.checkpoint.write import LaidOut
from porting.convert.config import inferred
from porting.convert.ledger import Ledger, Side, SourceTensor, content_hash
from porting.convert.request import Prepared
from porting.version import VERSION


class Job(NamedTuple):
    """A conversion that is ready to run: what was prepared, and where its bytes go."""

    prepared: Prepared
    kind: Format
    target: Path
    ready: LaidOut


class Done(NamedTuple):
    """What running it came to.

    written, hashes: of targets and sources by name. files: the inputs, with sizes. overflowed: by target, how many
    values a cast has lost.
    """

    written: Mapping[str, Written] = {}
    hashes: Mapping[str, str] = {}
    files: tuple[dict[str, Any], ...] = ()
    overflowed: Mapping[str, int] = {}


def account(job: Job, done: Done) -> Ledger:
    """The ledger; of a dry run with nothing done."""
    prepared, ready = job.prepared, job.ready
    checkpoint = prepared.source.checkpoint
    used = dict.fromkeys(name for record in prepared.records for name in record.sources)
    entries = prepared.source.tensors
    read = tuple(
        SourceTensor(name, entries[name].shape, entries[name].dtype.name, done.hashes.get(name))
        for name in used
        if name in entries
    )
    records = tuple(r._replace(hash=hash_of(r.target, ready, done.written)) for r in prepared.records)
    return Ledger(
        kit=VERSION,
        family=prepared.match.family.name,
        table=prepared.match.family.version,
        source=Side(
            str(checkpoint.path),
            checkpoint.format,
            prepared.match.dialect.name,
            done.files or tuple({"name": file.name} for file in prepared.source.files),
            content_hash([(t.name, t.shape, t.dtype, t.hash) for t in read]),
        ),
        target=Side(
            str(job.target),
            job.kind.name,
            prepared.dialect.name,
            tuple({"name": name} for name in ready.layout.files),
            content_hash([(r.target, r.shape, r.dtype, r.hash) for r in records]),
        ),
        config=json.loads(json.dumps(dict(prepared.config.values), default=str)),
        inferred=inferred(prepared.bounds[0]),
        options=_options(prepared),
        read=read,
        tensors=records,
        dropped=tuple({"name": line.name, "reason": line.reason} for line in prepared.dropped),
        missing=prepared.missing,
        unexpected=prepared.unexpected,
        absent_groups=prepared.absent,
        notes=(*prepared.notes, *_overflows(ready, done.overflowed)),
    )


def hash_of(name: str, ready: LaidOut, written: Mapping[str, Written]) -> str | None:
    """The hash of a written tensor, or of the one whose bytes it shares."""
    entry = ready.entries.get(name)
    if name not in written and entry is not None and entry.tied is not None:
        name = entry.tied
    return written[name].hash if name in written else None


def _overflows(ready: LaidOut, lost: Mapping[str, int]) -> list[str]:
    return [
        f"{name}: {lost[name]} finite values became infinite in {entry.dtype}"
        for name, entry in ready.entries.items()
        if name in lost
    ]


def _options(prepared: Prepared) -> dict[str, Any]:
    """The choices that a repetition needs, those that were made apart from the defaults."""
    request = prepared.request
    chosen: dict[str, Any] = {
        "prefix": request.prefix,
        "like": str(request.like) if request.like else None,
        "layers": list(request.layers) if request.layers is not None else None,
        "dtype": request.dtype,
        "with_optimizer": request.with_optimizer or None,
        "optimizer": str(request.optimizer) if request.optimizer else None,
        "allow_missing": list(request.allow_missing) or None,
        "allow_unexpected": list(request.allow_unexpected) or None,
        "variables": dict(request.variables) or None,
        "scopes": [bound.model.prefix("base") for bound in prepared.bounds],
        "config_file": str(prepared.config.path) if prepared.config.path else None,
    }
    return {key: value for key, value in chosen.items() if value is not None}
