"""Writes a mapping of tensors as a checkpoint of any format."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from porting.checkpoint.dtypes import from_numpy
from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.format import Format, Layout, TensorSpec, WriteOptions
from porting.checkpoint.output import Output
from porting.checkpoint.pieces import entry_pieces
from porting.checkpoint.registry import format_named
from porting.checkpoint.storage import Array, InMemory
from porting.checkpoint.stream import Pieces, fill
from porting.errors import UsageError


class LaidOut(NamedTuple):
    """A checkpoint ready to be written: where everything goes, and the entries that go there by their final names."""

    layout: Layout
    entries: Mapping[str, TensorEntry]

    def sources(self) -> dict[str, Pieces]:
        """The bytes of every tensor that the layout has a place for."""
        return {
            name: partial(entry_pieces, entry) for name, entry in self.entries.items() if name in self.layout.extents
        }


def as_entry(name: str, value: TensorEntry | Array) -> TensorEntry:
    """An array, or an entry under a new name, as an entry."""
    if isinstance(value, TensorEntry):
        return TensorEntry(name, value.shape, value.dtype, value.storage, value.place, value.tied)
    import numpy as np

    array = np.asarray(value)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return TensorEntry(name, array.shape, from_numpy(array.dtype), InMemory(native), "memory")


def spec_of(entry: TensorEntry, present: Container[str] = ()) -> TensorSpec:
    """What a format has to know to lay the entry out; string values are read here, they are small."""
    strings = None
    if entry.dtype.kind == "string":
        flat = entry.read().reshape(-1).tolist()
        strings = tuple(v.encode() if isinstance(v, str) else bytes(v) for v in flat)
    tied = entry.tied if entry.tied in present else None
    return TensorSpec(entry.name, entry.shape, entry.dtype, tied, strings)


def lay_out(kind: Format, entries: Mapping[str, TensorEntry], options: WriteOptions) -> LaidOut:
    """Let the format say where everything goes.

    Raises: UsageError if it is read only or cannot hold a dtype.
    """
    if kind.plan is None:
        raise UsageError(f"format {kind.name}: is read only")
    bad = [f"{entry.name} is {entry.dtype}" for entry in entries.values() if entry.dtype.name not in kind.writes]
    if bad:
        more = f" and {len(bad) - 8} more" if len(bad) > 8 else ""
        raise UsageError(f"format {kind.name} cannot hold: {', '.join(bad[:8])}{more}")
    if kind.adapt is not None:
        entries = kind.adapt(entries, options)
    return LaidOut(kind.plan([spec_of(entry, entries) for entry in entries.values()], options), entries)


def write(  # noqa: PLR0913 - one keyword per choice
    path: str | Path,
    tensors: Mapping[str, TensorEntry | Array],
    *,
    format: str,  # noqa: A002 - the word that users know
    overwrite: bool = False,
    shard_size: int | None = None,
    metadata: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
    graph: str | Path | None = None,
    threads: int = 2,
    progress: Callable[[int], None] | None = None,
) -> tuple[Path, ...]:
    """Write tensors under their names, in their order. Returns the files written.

    tensors: numpy arrays, or entries of another checkpoint, which are streamed.
    Raises: UsageError if the output exists or the format cannot hold a dtype; FormatError if the
    system refuses to write. Nothing is left behind in either case.

    >>> import tempfile, numpy, porting
    >>> folder = tempfile.mkdtemp()
    >>> files = porting.write(f"{folder}/tiny.npz", {"w": numpy.eye(2)}, format="npz")
    >>> porting.read(files[0])["w"].shape
    (2, 2)
    """
    target = Path(path)
    options = WriteOptions(target, shard_size, dict(metadata or {}), Path(graph) if graph else None, dict(extra or {}))
    ready = lay_out(format_named(format), {name: as_entry(name, value) for name, value in tensors.items()}, options)
    with Output(target.parent, ready.layout.files, overwrite=overwrite) as output:
        fill(output, ready.layout, ready.sources(), algorithm="none", threads=threads, progress=progress)
        return output.commit()
