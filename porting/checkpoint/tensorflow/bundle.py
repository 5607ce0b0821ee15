"""TensorFlow's tensor bundle, the V2 checkpoint: an index, which is a table of entries, and data files of raw bytes.

Reference: tensorflow, core/util/tensor_bundle/tensor_bundle.{h,cc}, core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from porting.checkpoint.checksum import Checksum
from porting.checkpoint.dtypes import DType
from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.checkpoint.storage import InMemory, Mapped, MappedFile, Storage
from porting.checkpoint.tensorflow.leveldb import Table, crc_of, masked, unmasked
from porting.checkpoint.tensorflow.locate import data_path, index_path
from porting.checkpoint.tensorflow.proto import (
    OPAQUE,
    QUANTISED,
    Entry,
    Header,
    dtype_of,
    object_graph_names,
    parse_entry,
    parse_header,
)
from porting.checkpoint.tensorflow.slices import Tiled, bounds, check_tiling, slice_key
from porting.checkpoint.tensorflow.strings import Strings
from porting.checkpoint.wire import WireError
from porting.errors import FormatError

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VERSION = 1
"""kTensorBundleVersion: what this reader knows."""


@dataclass(frozen=True, slots=True)
class _Bundle:
    """An index, read; data files are mapped when the first entry in them is looked at."""

    prefix: Path
    header: Header
    entries: Mapping[bytes, Entry]
    files: dict[int, MappedFile] = field(default_factory=dict)

    def file(self, shard: int, place: str) -> MappedFile:
        """A data file.

        Raises: FormatError if there is no such shard.
        """
        if shard not in self.files:
            if shard >= self.header.shards:
                raise FormatError(
                    index_path(self.prefix), place, f"wanted shard {shard} of a bundle of {self.header.shards}"
                )
            self.files[shard] = MappedFile(data_path(self.prefix, shard, self.header.shards))
        return self.files[shard]


def _open(prefix: Path) -> _Bundle:
    """Read the index.

    Raises: FormatError.
    """
    path = index_path(prefix)
    header: Header | None = None
    entries: dict[bytes, Entry] = {}
    shapes: dict[bytes, tuple[int, ...]] = {}
    for key, value in Table(MappedFile(path)).items():
        try:
            if header is None:
                header = _header(path, key, value)
            else:
                entries[key] = parse_entry(value, shapes)
        except WireError as error:
            raise FormatError(path, key.decode(errors="replace") or "header", str(error)) from None
    if header is None:
        raise FormatError(path, "header", "the table is empty")
    return _Bundle(prefix, header, entries)


def _header(path: Path, key: bytes, value: memoryview) -> Header:
    if key:
        raise FormatError(path, "header", f"wanted it first, got {key.decode(errors='replace')}")
    header = parse_header(value)
    if header.big_endian:
        raise FormatError(path, "header", "a bundle of a big-endian machine: save it again on a little-endian one")
    if header.min_consumer > _VERSION:
        raise FormatError(
            path, "header", f"wanted bundle version {_VERSION}, got one for {header.min_consumer} and later"
        )
    return header


def _storage(bundle: _Bundle, name: str, entry: Entry) -> tuple[DType, Storage]:
    """Where one entry's bytes are.

    Raises: FormatError if they cannot be there.
    """
    kind = dtype_of(entry.dtype)
    if kind is None:
        raise FormatError(index_path(bundle.prefix), name, f"TensorFlow dtype {entry.dtype} is not known")
    want = prod(entry.shape) * kind.itemsize
    if kind.kind != "string" and want != entry.size:
        raise FormatError(
            index_path(bundle.prefix), name, f"wanted {want} bytes for {kind}{list(entry.shape)}, got {entry.size}"
        )
    if not entry.size and not prod(entry.shape):
        import numpy as np

        return kind, InMemory(np.empty(entry.shape, kind.numpy()))
    file = bundle.file(entry.shard, name)
    file.bytes(entry.offset, entry.size, name)
    if kind.kind == "string":
        return kind, Strings(file, entry.offset, entry.size, entry.shape, name)
    return kind, Mapped(file, entry.offset, entry.shape, kind)


class _Leaf(NamedTuple):
    """A stored run of bytes: a whole tensor or one slice of it."""

    key: bytes
    name: str
    entry: Entry


def _slices(bundle: _Bundle, key: bytes, name: str, entry: Entry) -> list[_Leaf]:
    """The leaves of a partitioned tensor.

    Raises: FormatError if a slice is missing or unlike its tensor.
    """
    path = index_path(bundle.prefix)
    leaves: list[_Leaf] = []
    for part in entry.slices:
        label = f"{name} slice {list(part)}"
        stored = slice_key(key, part)
        leaf = bundle.entries.get(stored)
        if leaf is None:
            raise FormatError(path, label, "is not in the index")
        try:
            shape = tuple(stop - start for start, stop in bounds(part, entry.shape))
        except ValueError as error:
            raise FormatError(path, label, str(error)) from None
        if leaf.slices or leaf.shape != shape or leaf.dtype != entry.dtype:
            raise FormatError(path, label, f"wanted dtype {entry.dtype} {shape}, got {leaf.dtype} {leaf.shape}")
        leaves.append(_Leaf(stored, label, leaf))
    return leaves


def _groups(bundle: _Bundle) -> Iterator[tuple[str, Entry, list[_Leaf]]]:
    """Every tensor with its leaves, in the order of the data files: name, entry (of the full shape), leaves."""
    found: list[tuple[str, Entry, list[_Leaf]]] = []
    hidden: set[bytes] = set()
    partitioned: dict[bytes, list[_Leaf]] = {}
    names: dict[bytes, str] = {}
    for key, entry in bundle.entries.items():
        if entry.slices:
            names[key] = _name(bundle, key)
            partitioned[key] = _slices(bundle, key, names[key], entry)
            hidden.update(leaf.key for leaf in partitioned[key])
    for key, entry in bundle.entries.items():
        if key in hidden:
            continue
        if key in partitioned:
            found.append((names[key], entry, partitioned[key]))
        else:
            name = _name(bundle, key)
            found.append((name, entry, [_Leaf(key, name, entry)]))
    found.sort(key=lambda item: min((leaf.entry.shard, leaf.entry.offset, leaf.entry.size) for leaf in item[2]))
    yield from found


def _name(bundle: _Bundle, key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise FormatError(index_path(bundle.prefix), repr(key), "wanted a name in UTF-8") from None


def _tensor(bundle: _Bundle, name: str, entry: Entry, leaves: Sequence[_Leaf]) -> TensorEntry:
    """The lazy tensor over its leaves.

    Raises: FormatError.
    """
    if not entry.slices:
        kind, storage = _storage(bundle, name, entry)
        checksum = Checksum("crc32c", unmasked(entry.crc)) if isinstance(storage, Mapped) else None
        return TensorEntry(name, entry.shape, kind, storage, _place(bundle, entry), checksum=checksum)
    stored = [_storage(bundle, leaf.name, leaf.entry) for leaf in leaves]
    placed = [bounds(part, entry.shape) for part in entry.slices]
    try:
        check_tiling(placed, entry.shape)
    except ValueError as error:
        raise FormatError(index_path(bundle.prefix), name, str(error)) from None
    kind = stored[0][0]
    parts = tuple((where, storage) for where, (_, storage) in zip(placed, stored, strict=True))
    return TensorEntry(name, entry.shape, kind, Tiled(entry.shape, kind, parts), _place(bundle, leaves[0].entry))


def _place(bundle: _Bundle, entry: Entry) -> str:
    return f"{bundle.prefix.name}.data-{entry.shard:05d}-of-{bundle.header.shards:05d} at {entry.offset}"


def read(prefix: Path) -> Checkpoint:
    """Open the bundle of that prefix; its tensors come in the order of the data files.

    metadata["full_names"]: for object-based checkpoints, key (`path/.ATTRIBUTES/VARIABLE_VALUE`) -> variable name.
    Raises: FormatError.
    """
    bundle = _open(prefix)
    entries: dict[str, TensorEntry] = {}
    notes: list[str] = []
    for name, entry, leaves in _groups(bundle):
        if entry.dtype in OPAQUE:
            notes.append(f"{name}: not read, a {OPAQUE[entry.dtype]} is for TensorFlow only")
            continue
        if entry.dtype in QUANTISED:
            notes.append(f"{name}: quantised {QUANTISED[entry.dtype]}, its scale is not in the checkpoint")
        entries[name] = _tensor(bundle, name, entry, leaves)
    metadata: dict[str, Any] = {}
    graph = entries.get(OBJECT_GRAPH)
    if graph is not None and graph.dtype.kind == "string" and graph.shape == ():
        try:
            metadata["full_names"] = object_graph_names(memoryview(graph.read().item()))
        except WireError as error:
            raise FormatError(index_path(prefix), OBJECT_GRAPH, str(error)) from None
    files = (index_path(prefix), *(bundle.files[shard].path for shard in sorted(bundle.files)))
    return Checkpoint(prefix, "tf-bundle", entries, files, metadata, tuple(notes))


def verify(checkpoint: Checkpoint) -> Iterator[str]:
    """Compare the stored crc32c of strings and of slices; a line for each that is damaged."""
    if not any(isinstance(entry.storage, (Strings, Tiled)) for entry in checkpoint.values()):
        return
    bundle = _open(checkpoint.path)
    for _, entry, leaves in _groups(bundle):
        for leaf in leaves:
            if leaf.entry.dtype in OPAQUE:
                continue
            try:
                _, storage = _storage(bundle, leaf.name, leaf.entry)
                if isinstance(storage, Strings):
                    found = masked(storage.crc())
                elif isinstance(storage, Mapped) and entry.slices:
                    found = masked(crc_of(storage.file, leaf.entry.offset, leaf.entry.size))
                else:
                    continue
            except FormatError as error:
                yield str(error)
                continue
            if found != leaf.entry.crc:
                yield f"{leaf.name}: wanted crc32c {leaf.entry.crc:08x}, the bytes give {found:08x}"
