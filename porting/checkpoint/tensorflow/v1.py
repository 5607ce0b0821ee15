"""TensorFlow's V1 checkpoint: one table whose first record lists the tensors and whose others hold their slices.

Sharded ones are files PREFIX-?????-of-?????, each such a table. Savers have written V2 by default since
TensorFlow 1.0; V1 is only read.
Reference: tensorflow, core/util/saved_tensor_slice.proto, core/util/tensor_slice_writer.{h,cc}.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path

from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.checkpoint.storage import MappedFile, Storage
from porting.checkpoint.tensorflow.leveldb import Table, is_table
from porting.checkpoint.tensorflow.locate import SHARD, named_by_state
from porting.checkpoint.tensorflow.proto import QUANTISED, Slice, dtype_of, parse_shape, parse_slice
from porting.checkpoint.tensorflow.slices import Tiled, bounds, check_tiling, slice_key
from porting.checkpoint.tensorflow.v1_record import FIELDS, Record
from porting.checkpoint.wire import WireError, scan
from porting.errors import FormatError

_VERSION = 1
"""TF_CHECKPOINT_VERSION: what this reader knows."""
_BUNDLE_HEADER = 0x08
"""How the first record of a V2 index begins: BundleHeaderProto's num_shards."""


def locate(path: Path) -> Path | None:
    """The file, or the prefix of the shards, that `path` is, is one of, or is the folder of.

    Raises: FormatError for a folder whose state file names what is not there.
    """
    if path.is_dir():
        named = named_by_state(path)
        return None if named is None or named.is_dir() else locate(named)
    if not path.name:
        return None
    if path.is_file():
        sharded = SHARD.fullmatch(path.name)
        if path.name.endswith(".index") or not is_table(path):
            return None
        return path.with_name(sharded[1]) if sharded else path
    return path if any(is_table(shard) for shard in _shards(path)) else None


def _shards(prefix: Path) -> list[Path]:
    return sorted(path for path in prefix.parent.glob(escape(prefix.name) + "-*-of-*") if SHARD.fullmatch(path.name))


def _files(path: Path) -> list[Path]:
    """The file itself, or all shards of the prefix.

    Raises: FormatError if a shard is missing.
    """
    if path.is_file():
        return [path]
    found = _shards(path)
    totals = {int(match[2]) for shard in found if (match := SHARD.fullmatch(shard.name))}
    if len(totals) != 1 or len(found) != max(totals):
        raise FormatError(path, "", f"wanted all the shards of one checkpoint, got {', '.join(p.name for p in found)}")
    return found


@dataclass(slots=True)
class _Tensor:
    """What the lists of all the files say of one tensor."""

    shape: tuple[int, ...]
    dtype: int
    slices: list[tuple[Table, Slice]] = field(default_factory=list)


def _collect(table: Table, found: dict[str, _Tensor]) -> None:
    """Add the tensors that one file lists.

    Raises: FormatError if the list is malformed or contradicts another file's.
    """
    path = table.file.path
    record = table.find(b"")
    if record is None:
        raise FormatError(path, "list of tensors", "is missing: not a TensorFlow checkpoint")
    data = record[0]
    try:
        for outer in scan(data):
            meta = outer.bytes(data)
            for part in scan(meta):
                if part.number == 1:
                    _tensor(table, part.bytes(meta), found)
                elif part.number == 2:
                    _version(part.bytes(meta))
    except WireError as error:
        hint = " (a bundle's index keeps its name PREFIX.index)" if data[0] == _BUNDLE_HEADER else ""
        raise FormatError(path, "list of tensors", f"{error}{hint}") from None


def _version(data: memoryview) -> None:
    for part in scan(data):
        if part.number == 2 and part.signed > _VERSION:
            raise WireError(part.offset, f"wanted version {_VERSION}, got one for {part.signed} and later")


def _tensor(table: Table, data: memoryview, found: dict[str, _Tensor]) -> None:
    """SavedSliceMeta: name, shape, dtype and slices of one tensor."""
    name, dtype = "", 0
    shape: tuple[int, ...] = ()
    slices: list[tuple[Table, Slice]] = []
    for part in scan(data):
        if part.number == 1:
            name = part.text(data)
        elif part.number == 2:
            shape = parse_shape(part.bytes(data))
        elif part.number == 3:
            dtype = part.value
        elif part.number == 4:
            slices.append((table, parse_slice(part.bytes(data))))
    known = found.setdefault(name, _Tensor(shape, dtype))
    if (known.shape, known.dtype) != (shape, dtype):
        raise WireError(0, f"{name}: dtype {dtype} {shape} here, {known.dtype} {known.shape} before")
    known.slices += slices


def _entry(path: Path, name: str, tensor: _Tensor) -> TensorEntry:
    """The lazy tensor over its slices.

    Raises: FormatError if they do not make up the tensor or its dtype cannot be in such a file.
    """
    kind = dtype_of(tensor.dtype)
    if kind is None or kind.name not in FIELDS:
        raise FormatError(path, name, f"TensorFlow dtype {tensor.dtype} is not known in V1 checkpoints")
    try:
        placed = [bounds(part, tensor.shape) for _, part in tensor.slices]
        check_tiling(placed, tensor.shape)
    except ValueError as error:
        raise FormatError(path, name, str(error)) from None
    parts: list[Storage] = []
    for (table, part), where in zip(tensor.slices, placed, strict=True):
        shape = tuple(stop - start for start, stop in where)
        parts.append(Record(table, slice_key(name.encode(), part), name, shape, kind))
    storage = parts[0] if len(parts) == 1 else Tiled(tensor.shape, kind, tuple(zip(placed, parts, strict=True)))
    files = dict.fromkeys(table.file.path.name for table, _ in tensor.slices)
    return TensorEntry(name, tensor.shape, kind, storage, ", ".join(files))


def read(path: Path) -> Checkpoint:
    """Open the checkpoint; its tensors come in the order in which they were saved.

    Raises: FormatError.
    """
    tables = [Table(MappedFile(file)) for file in _files(path)]
    found: dict[str, _Tensor] = {}
    for table in tables:
        _collect(table, found)
    entries = {name: _entry(path, name, tensor) for name, tensor in found.items()}
    notes = tuple(
        f"{name}: quantised {QUANTISED[tensor.dtype]}, its scale is not in the checkpoint"
        for name, tensor in found.items()
        if tensor.dtype in QUANTISED
    )
    return Checkpoint(path, "tf-v1", entries, tuple(table.file.path for table in tables), {}, notes)


def verify(checkpoint: Checkpoint) -> Iterator[str]:
    """Compare every block's stored crc32c with its bytes; a line per block that is damaged."""
    for path in checkpoint.files:
        table = Table(MappedFile(path))
        for handle in table.blocks:
            problem = table.problem(handle)
            if problem is not None:
                yield f"{path.name}: block at {handle.offset}: {problem}"
