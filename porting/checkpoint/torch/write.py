"""Lays out a file of torch.save: records, pickle, and the checksums that come last.

For the same tensors in the same order the file equals that of `torch.save(OrderedDict, buffer)` of
PyTorch 2.13 in every byte but those of the serialization id's first half: it hashes the record names in
the order of a std::unordered_set, which belongs to the C++ library that torch was built with. Nothing
reads it; here it is the hash of the names in their order. An archive that torch.save writes to a path is
called by the file's name inside, one written to a buffer `archive`: this one always `archive`, so that
equal tensors make equal files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from porting.checkpoint.checksum import crc32
from porting.checkpoint.format import Checksums, Extent, Finish, Layout, Patch, TensorSpec, WriteOptions
from porting.checkpoint.shard_index import distribute, index_bytes, index_name, shard_names
from porting.checkpoint.torch.pickler import Pickler
from porting.checkpoint.torch.tree import TensorRef, decode
from porting.checkpoint.zips import layout as zip_layout
from porting.checkpoint.zips.layout import Placed, Record
from porting.errors import UsageError

_ROOT = "archive/"
_ID = _ROOT + ".data/serialization_id"


def plan(specs: Sequence[TensorSpec], options: WriteOptions) -> Layout:
    """One file, or shards and their index. Tied tensors share a storage.

    options.extra["tree"]: what is saved instead of an OrderedDict of all tensors, in the notation of
        `torch_tree`; every tensor has to occur in it.
    Raises: UsageError for an unknown option, or a tree that does not fit the tensors.
    """
    unknown = options.extra.keys() - {"tree"}
    if unknown:
        raise UsageError(f"format torch: no option is called {', '.join(sorted(unknown))}")
    shards = distribute(specs, options.shard_size, share_ties=True)
    if "tree" in options.extra and len(shards) > 1:
        raise UsageError("format torch: a nested checkpoint is one file, it cannot be sharded")
    names = shard_names(options.target, len(shards))
    files = [_records(shard, options) for shard in shards]
    extents: dict[str, tuple[Extent, ...]] = {}
    for number, placed in enumerate(files):
        extents |= zip_layout.extents(placed, number)
    fixed: tuple[Patch, ...] = ()
    if len(shards) > 1:
        weight_map = {spec.name: name for shard, name in zip(shards, names, strict=True) for spec in shard}
        index = index_bytes(weight_map, sum(spec.nbytes for spec in specs if spec.name in extents))
        fixed = (Patch(len(names), 0, index),)
        names = (*names, index_name(options.target))
    return Layout(names, extents, fixed, "crc32", _finisher(files))


def _records(specs: Sequence[TensorSpec], options: WriteOptions) -> tuple[Placed, ...]:
    """The records of one file in torch's order, and where they lie."""
    known = {spec.name: spec for spec in specs}
    owners = {spec.name: _owner(spec, known) for spec in specs}
    keys: dict[str, str] = {}
    for owner in owners.values():
        keys.setdefault(owner, str(len(keys)))
    pickler = Pickler(known, {name: keys[owner] for name, owner in owners.items()})
    if "tree" in options.extra:
        pickle = _tree_pickle(pickler, options.extra["tree"])
    else:
        pickler.ordered([(name, TensorRef(name)) for name in known])
        pickle = bytes(pickler.out + b".")
    records = [
        Record(_ROOT + "data.pkl", pickle),
        Record(_ROOT + ".format_version", b"1"),
        Record(_ROOT + ".storage_alignment", str(zip_layout.ALIGNMENT).encode()),
        Record(_ROOT + "byteorder", b"little"),
        *(Record(f"{_ROOT}data/{key}", tensor=name, nbytes=known[name].nbytes) for name, key in keys.items()),
        Record(_ROOT + "version", b"3\n"),
        Record(_ID, b"0" * 40),
    ]
    return zip_layout.place(records, "torch")


def _owner(spec: TensorSpec, known: Mapping[str, TensorSpec]) -> str:
    """The tensor whose storage a spec uses: the one it is tied to, if that has as many bytes."""
    seen = {spec.name}
    while (owner := known.get(spec.tied or "")) and owner.name not in seen and owner.nbytes == spec.nbytes:
        spec = owner
        seen.add(spec.name)
    return spec.name


def _tree_pickle(pickler: Pickler, tree: Any) -> bytes:
    """The pickle of a tree.

    Raises: UsageError if tree and tensors do not fit.
    """
    try:
        value = decode(tree)
        used = _references(value)
        if missing := [name for name in pickler.tensors if name not in used]:
            raise UsageError(f"format torch: tensors that the tree does not place: {', '.join(missing[:8])}")
        if unknown := [name for name in used if name not in pickler.tensors]:
            raise UsageError(f"format torch: the tree places tensors that are not there: {', '.join(unknown[:8])}")
        return pickler.dump(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"format torch: {error}") from None


def _references(value: Any) -> dict[str, None]:
    """Names of the tensors in a decoded tree, in order."""
    if isinstance(value, TensorRef):
        return {value.name: None}
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    found: dict[str, None] = {}
    for part in parts:
        found |= _references(part)
    return found


def _finisher(files: Sequence[Sequence[Placed]]) -> Finish:
    """What is written when the tensors' checksums are known."""

    def finish(checksums: Checksums) -> list[Patch]:
        patches: list[Patch] = []
        for number, placed in enumerate(files):
            records = [item.record for item in placed]
            crcs = {record.name: zip_layout.checksum(record, checksums) for record in records[:-1]}
            filled = {record.name: crcs[record.name] for record in records[:-1] if record.size}
            identity = Record(_ID, _serialization_id(filled))
            whole = (*placed[:-1], Placed(identity, placed[-1].header, placed[-1].data, placed[-1].end))
            crcs[_ID] = crc32(identity.head)
            patches += zip_layout.local(whole, number, "torch", crcs)
            patches.append(zip_layout.directory(whole, number, "torch", crcs))
        return patches

    return finish


def _serialization_id(crcs: Mapping[str, int]) -> bytes:
    """40 digits: a hash of the names of the records that are not empty, and torch's combination of their checksums.

    Source of the combination: c10/util/hash.h, `hash_combine`.
    """
    import xxhash

    names = xxhash.xxh3_64_intdigest("\n".join(crcs).encode())
    state = 0
    for crc in crcs.values():
        state ^= (crc + 0x9E3779B9 + (state << 6) + (state >> 2)) & 0xFFFFFFFFFFFFFFFF
    return f"{names:020d}{state:020d}".encode()
