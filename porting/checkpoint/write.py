"""Writes a mapping of tensors as a checkpoint of any format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from porting.checkpoint.dtypes import from_numpy
from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.format import TensorSpec, WriteOptions
from porting.checkpoint.output import Output
from porting.checkpoint.registry import format_named
from porting.checkpoint.pieces import storage_pieces
from porting.checkpoint.storage import Array, InMemory
from porting.checkpoint.stream import fill
from porting.errors import UsageError


def as_entry(name: str, value: TensorEntry | Array) -> TensorEntry:
    """An array, or an entry under a new name, as an entry."""
    if isinstance(value, TensorEntry):
        return TensorEntry(name, value.shape, value.dtype, value.storage, value.place, value.tied)
    array = np.asarray(value)
    return TensorEntry(name, array.shape, from_numpy(array.dtype), InMemory(array), "memory")


def spec_of(entry: TensorEntry, present: Iterable[str] = ()) -> TensorSpec:
    """What a format has to know to lay the entry out; string values are read here, they are small."""
    strings = None
    if entry.dtype.kind == "string":
        flat = entry.read().reshape(-1).tolist()
        strings = tuple(v.encode() if isinstance(v, str) else bytes(v) for v in flat)
    tied = entry.tied if entry.tied in set(present) else None
    return TensorSpec(entry.name, entry.shape, entry.dtype, tied, strings)


def write(
    path: str | Path,
    tensors: Mapping[str, TensorEntry | Array],
    *,
    format: str,  # noqa: A002
    overwrite: bool = False,
    shard_size: int | None = None,
    metadata: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
    graph: str | Path | None = None,
    threads: int = 2,
    progress: Callable[[int], None] | None = None,
) -> tuple[Path, ...]:
    """Write tensors under their names, in their order. Returns the files written.

    Raises: UsageError if the output exists or the format cannot hold a dtype; FormatError if the
    system refuses to write. Nothing is left behind in either case.
    """
    kind = format_named(format)
    if kind.plan is None:
        raise UsageError(f"format {format}: is read only")
    target = Path(path)
    entries = {name: as_entry(name, value) for name, value in tensors.items()}
    bad = [f"{entry.name} is {entry.dtype}" for entry in entries.values() if entry.dtype.name not in kind.writes]
    if bad:
        raise UsageError(f"format {format} cannot hold: {', '.join(bad[:8])}")
    options = WriteOptions(
        target, shard_size, dict(metadata or {}), Path(graph) if graph else None, dict(extra or {})
    )
    if kind.adapt is not None:
        entries = dict(kind.adapt(entries, options))
    layout = kind.plan([spec_of(entry, entries) for entry in entries.values()], options)
    sources = {
        name: partial(storage_pieces, entry.storage, entry.shape, entry.dtype.itemsize)
        for name, entry in entries.items()
        if name in layout.extents
    }
    with Output(target.parent, layout.files, overwrite=overwrite) as output:
        fill(output, layout, sources, threads=threads, progress=progress)
        return output.commit()
