"""How a tensor bundle is laid out: byte for byte as TensorFlow's SaveV2 writes the same tensors in the same order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from porting.checkpoint.format import Checksums, Extent, Layout, Patch, TensorSpec, WriteOptions
from porting.checkpoint.tensorflow.leveldb import masked
from porting.checkpoint.tensorflow.leveldb_build import build
from porting.checkpoint.tensorflow.locate import data_path, index_path
from porting.checkpoint.tensorflow.proto import NUMBERS, Entry, encode_entry, encode_header
from porting.checkpoint.tensorflow.strings import encode_strings
from porting.errors import UsageError


def plan(specs: Sequence[TensorSpec], options: WriteOptions) -> Layout:
    """Data files with the tensors one after the other as given, unaligned; the index, by name.

    Raises: UsageError for a tensor without a name.
    """
    entries: dict[str, Entry] = {}
    extents: dict[str, tuple[Extent, ...]] = {}
    fixed: list[Patch] = []
    shard = at = 0
    for spec in specs:
        if not spec.name:
            raise UsageError("tf-bundle: a tensor without a name: TensorFlow keeps the empty key for the header")
        stored, crc = (b"", 0) if spec.strings is None else encode_strings(spec.strings)
        size = spec.nbytes if spec.strings is None else len(stored)
        if options.shard_size is not None and at and at + size > options.shard_size:
            shard, at = shard + 1, 0
        if spec.strings is None:
            extents[spec.name] = (Extent(shard, at, size),)
        else:
            fixed.append(Patch(shard, at, stored))
        entries[spec.name] = Entry(NUMBERS[spec.dtype.name], spec.shape, shard, at, size, masked(crc))
        at += size
    shards = shard + 1
    files = (*(data_path(options.target, i, shards).name for i in range(shards)), index_path(options.target).name)
    return Layout(files, extents, tuple(fixed), "crc32c", partial(_index, entries, shards))


def _index(entries: Mapping[str, Entry], shards: int, checksums: Checksums) -> list[Patch]:
    """The index, once every tensor's crc32c is known; it is the file after the data files."""
    records = {
        name.encode(): encode_entry(entry._replace(crc=masked(checksums[name][0])) if name in checksums else entry)
        for name, entry in entries.items()
    }
    return [Patch(shards, 0, build([(b"", encode_header(shards)), *sorted(records.items())]))]
