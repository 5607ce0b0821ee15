"""safetensors, one file or sharded, as PyTorch's side writes it and as MindSpore does.

The two differ in the metadata only: MindSpore writes `format: ms`, and marks an int4 tensor, whose
elements are held one to a byte as I8, by `TENSOR NAME: Int4` (mindspore 2.10, train/serialization.py,
`_exec_save`). So the metadata decides which of the two formats a file is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from porting.checkpoint.checksum import crc32, extend_crc32_by_zeros
from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.checkpoint.format import Extent, Layout, Packing, Patch, TensorSpec, WriteOptions
from porting.checkpoint.nibbles import Nibbles
from porting.checkpoint.pieces import PIECE
from porting.checkpoint.safetensors.header import (
    Header,
    Slot,
    declared_metadata,
    header_bytes,
    in_file_order,
    opens_like_one,
    read_header,
    stored_bytes,
)
from porting.checkpoint.shard_index import (
    distribute,
    index_bytes,
    index_name,
    indexes_in,
    is_index,
    read_index,
    shard_names,
)
from porting.checkpoint.storage import Mapped, MappedFile, Storage
from porting.errors import FormatError, UsageError

PLAIN, MS = "safetensors", "mindspore-safetensors"
_INT4 = "Int4"
_CRC = "crc_num"


def _variant(path: Path) -> str | None:
    """Which of the two formats a file is, or None. A damaged one is plain: its reader says what is wrong."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            if not opens_like_one(file.read(16)):
                return None
    except (OSError, ValueError):
        return None
    return MS if declared_metadata(MappedFile(path)).get("format") == "ms" else PLAIN


def _index_variant(path: Path) -> str | None:
    """Which of the two formats an index's shards are, or None.

    The first shard that is there decides. Without any, the names of the shards are all there is to go by.
    """
    try:
        shards = read_index(path).shards
    except FormatError:
        return PLAIN if b".safetensors" in path.read_bytes() else None
    return next((variant for shard in shards.values() if (variant := _variant(shard))), None)


def _locate(variant: str, path: Path) -> Path | None:
    """A file, an index, or a folder that holds one index or, failing that, one file."""
    with suppress(OSError):
        if not path.is_dir():
            found = _index_variant(path) if is_index(path) else _variant(path)
            return path if found == variant else None
        hits = [index for index in indexes_in(path) if _index_variant(index) == variant]
        hits = hits or [file for file in sorted(path.iterdir()) if _variant(file) == variant]
        if len(hits) > 1:
            raise UsageError(f"{path}: holds {', '.join(hit.name for hit in hits)}; name one of them")
        return hits[0] if hits else None
    return None


def _read(variant: str, path: Path) -> Checkpoint:
    """The checkpoint of a file or of an index."""
    if is_index(path):
        return _read_sharded(variant, path)
    header, entries = _read_file(path)
    return Checkpoint(path, variant, entries, (path,), _metadata(header))


def _read_sharded(variant: str, path: Path) -> Checkpoint:
    """The tensors that an index names, shard by shard."""
    index = read_index(path)
    entries: dict[str, TensorEntry] = {}
    metadata: dict[str, str] = {}
    problems: list[str] = []
    notes: list[str] = []
    for name, shard in index.shards.items():
        header, found = _read_file(shard)
        metadata = _metadata(header) | metadata
        wanted = {tensor for tensor, where in index.weight_map.items() if where == name}
        problems.extend(f"{tensor} is not in {name}" for tensor in sorted(wanted - found.keys()))
        notes.extend(f"{tensor} in {name} is not in the index: not read" for tensor in sorted(found.keys() - wanted))
        entries.update({tensor: entry for tensor, entry in found.items() if tensor in wanted})
    if problems:
        raise FormatError(path, "weight_map", "; ".join(problems[:8]))
    return Checkpoint(path, variant, entries, (path, *index.shards.values()), metadata, tuple(notes))


def _read_file(path: Path) -> tuple[Header, dict[str, TensorEntry]]:
    file = MappedFile(path)
    header = read_header(file)
    return header, {name: _entry(file, name, slot, header.metadata) for name, slot in header.slots.items()}


def _entry(file: MappedFile, name: str, slot: Slot, metadata: Mapping[str, str]) -> TensorEntry:
    marked = metadata.get("format") == "ms" and metadata.get(name) == _INT4 and slot.dtype.name == "int8"
    dtype = DTYPES["int4"] if marked else slot.dtype
    storage: Storage
    if dtype.bits < 8 and not marked:
        storage = Nibbles(file, slot.offset, slot.shape, dtype)
    else:
        storage = Mapped(file, slot.offset, slot.shape, dtype)
    return TensorEntry(name, slot.shape, dtype, storage, f"{file.path.name} at {slot.offset}")


def _metadata(header: Header) -> dict[str, str]:
    """The metadata without what is said elsewhere: marks of int4 (the dtype) and MindSpore's crc (`verify`)."""
    return {key: text for key, text in header.metadata.items() if key not in header.slots and key != _CRC}


def _plain_metadata(_: Sequence[TensorSpec], given: Mapping[str, str]) -> dict[str, str]:
    """The given metadata; by default what transformers demands of a file for PyTorch."""
    if given.get("format") == "ms":  # the source's; kept, it would make this a MindSpore file
        return {**given, "format": "pt"}
    return dict(given) or {"format": "pt"}


def _mindspore_metadata(specs: Sequence[TensorSpec], given: Mapping[str, str]) -> dict[str, str]:
    """The given metadata with MindSpore's own.

    Raises: UsageError for a key that is a tensor's name: mindspore takes its text for a dtype and fails.
    """
    own = {spec.name: _INT4 for spec in specs if spec.dtype.name == "int4"} | {"format": "ms"}
    names = {spec.name for spec in specs}
    clash = sorted(names & (given.keys() | {"format"}))
    if clash:
        raise UsageError(f"{clash[0]}: a tensor and a key of the metadata; mindspore does not load such a file")
    return {key: text for key, text in given.items() if key != _CRC} | own


def _plan(
    metadata_of: Callable[[Sequence[TensorSpec], Mapping[str, str]], dict[str, str]],
    specs: Sequence[TensorSpec],
    options: WriteOptions,
) -> Layout:
    """One file, or shards of at most `shard_size` bytes and their index."""
    shards = distribute(specs, options.shard_size)
    names = shard_names(options.target, len(shards))
    extents: dict[str, tuple[Extent, ...]] = {}
    packing: dict[str, Packing] = {}
    fixed: list[Patch] = []
    for number, shard in enumerate(shards):
        ordered = in_file_order(shard)
        header = header_bytes(ordered, metadata_of(ordered, options.metadata))
        fixed.append(Patch(number, 0, header))
        at = len(header)
        for spec in ordered:
            extents[spec.name] = (Extent(number, at, stored_bytes(spec)),)
            at += stored_bytes(spec)
            if spec.dtype.name == "float4_e2m1fn":
                packing[spec.name] = "nibbles"
    if len(shards) > 1:
        weight_map = {spec.name: name for name, shard in zip(names, shards, strict=True) for spec in shard}
        total = sum(run.nbytes for runs in extents.values() for run in runs)
        fixed.append(Patch(len(names), 0, index_bytes(weight_map, total)))
        names = (*names, index_name(options.target))
    return Layout(names, extents, tuple(fixed), packing=packing)


def verify_mindspore(checkpoint: Checkpoint) -> Iterator[str]:
    """Files whose `crc_num` is not the CRC-32 of their names and tensors (save_checkpoint with crc_check=True)."""
    for path in checkpoint.files:
        if is_index(path):
            continue
        file = MappedFile(path)
        header = read_header(file)
        stored = header.metadata.get(_CRC)
        if stored is not None and stored != str(got := _crc(file, header)):
            yield f"{path}: crc32 of names and tensors is {got}, {_CRC} says {stored}"


def _crc(file: MappedFile, header: Header) -> int:
    """CRC-32 over each name and its tensor's bytes, in the order of the names."""
    crc = 0
    for name in sorted(header.slots):
        slot = header.slots[name]
        crc = crc32(name.encode(), crc)
        if not slot.shape and slot.dtype.kind in {"int", "uint"}:
            # mindspore sums bytes(array), and bytes() of an integer scalar n is n bytes of zero.
            value = int(Mapped(file, slot.offset, (), slot.dtype).read())
            if value >= 0:
                crc = extend_crc32_by_zeros(crc, value)
                continue
        for at in range(slot.offset, slot.offset + slot.nbytes, PIECE):
            length = min(PIECE, slot.offset + slot.nbytes - at)
            crc = crc32(file.bytes(at, length, name), crc)
            file.release(at, length)
    return crc


locate_plain = partial(_locate, PLAIN)
locate_mindspore = partial(_locate, MS)
read_plain = partial(_read, PLAIN)
read_mindspore = partial(_read, MS)
plan_plain = partial(_plan, _plain_metadata)
plan_mindspore = partial(_plan, _mindspore_metadata)
