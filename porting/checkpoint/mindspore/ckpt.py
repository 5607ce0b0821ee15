"""MindSpore's .ckpt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from porting.checkpoint.checksum import combine_crc32, crc32
from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.checkpoint.format import Checksums, Extent, Layout, Patch, TensorSpec, WriteOptions
from porting.checkpoint.mindspore.records import (
    CRC_MARK,
    TYPE_OF,
    TYPES,
    Record,
    begins_with_record,
    content_end,
    encryption,
    record_head,
    records,
    stored_crc,
)
from porting.checkpoint.pieces import PIECE
from porting.checkpoint.storage import Array, Box, Mapped, MappedFile, Segments, Storage
from porting.errors import FormatError, UsageError

NAME = "mindspore-ckpt"

SLICE = 512 << 20
"""Bytes of a tensor in one record at most (SLICE_SIZE of mindspore's train/serialization.py, there in KiB)."""

HEAD = 1 << 16
"""Bytes of a file that are looked at to recognise it; the longest name that is recognised."""

CALLBACK_KEYS = frozenset({"epoch_num", "step_num"})
"""What mindspore.train.CheckpointConfig(append_info=[...]) appends by name (train/callback/_checkpoint.py)."""


def locate(path: Path) -> Path | None:
    """The path, if a MindSpore checkpoint lies there; an encrypted one too, so that `read` can say so."""
    try:
        if not path.is_file():
            return None
        if encryption(path):
            return path
        with path.open("rb") as file:
            return path if begins_with_record(file.read(HEAD)) else None
    except (OSError, ValueError):
        return None


def read(path: Path) -> Checkpoint:
    """The checkpoint.

    Entries that append_dict has added are tensors like all others; `metadata["append_dict"]` names those that
    can be told apart: strings, and the counters of mindspore's own callback.

    Raises: FormatError, also for an encrypted file.
    """
    file = MappedFile(path)
    cipher = encryption(path)
    if cipher:
        problem = f"is encrypted ({cipher}): load it with mindspore.load_checkpoint(..., dec_key=...) and save it plain"
        raise FormatError(path, "", problem)
    entries: dict[str, TensorEntry] = {}
    notes: list[str] = []
    for tag, group in groupby(records(file), key=lambda record: record.tag):
        run = list(group)
        if tag in entries:
            notes.append(f"{tag} occurs more than once: the last one counts, as in mindspore")
        if not run[-1].kind:
            notes.append(f"{tag} is a MapParameter (a hash table): not read")
            continue
        entries[tag] = _entry(file, run)
    appended = [name for name, entry in entries.items() if _is_appended(entry)]
    metadata: Mapping[str, Any] = {"append_dict": appended} if appended else {}
    return Checkpoint(path, NAME, entries, (path,), metadata, tuple(notes))


def _is_appended(entry: TensorEntry) -> bool:
    return entry.dtype.kind == "string" or (entry.name in CALLBACK_KEYS and not entry.shape)


def _entry(file: MappedFile, run: Sequence[Record]) -> TensorEntry:
    """The tensor of adjacent records of one tag.

    Raises: FormatError for an unknown type, for slices that disagree, and for a number of bytes that does not
    fit the shape (mindspore checks none of that, and writes beyond its heap).
    """
    last = run[-1]
    place = f"{file.path.name} at {run[0].offset}"
    if last.kind not in TYPES:
        raise FormatError(
            file.path, last.tag, f"element type {last.kind[:40]!r} is not known; there are {', '.join(TYPES)}"
        )
    if any((record.kind, record.shape) != (last.kind, last.shape) for record in run):
        raise FormatError(file.path, last.tag, "its slices differ in type or shape")
    dtype = DTYPES[TYPES[last.kind]]
    runs = tuple((record.offset, record.nbytes) for record in run if record.nbytes)
    got = sum(nbytes for _, nbytes in runs)
    if dtype.kind == "string":
        return TensorEntry(last.tag, (), dtype, Text(file, last.tag, runs), place)
    # Dims of [0] and one element is how mindspore reads a scalar beside empty dims; an empty vector has no bytes.
    shape = () if last.shape == (0,) and got == dtype.itemsize else last.shape
    wanted = prod(shape) * dtype.itemsize
    if got != wanted:
        problem = f"wanted {wanted} bytes for {last.kind} {list(shape)}, got {got}"
        raise FormatError(file.path, f"{last.tag} at offset {run[0].offset}", problem)
    storage: Storage
    if len(runs) > 1:
        storage = Segments(file, runs, shape, dtype)
    else:
        storage = Mapped(file, runs[0][0] if runs else run[0].offset, shape, dtype)
    return TensorEntry(last.tag, shape, dtype, storage, place)


class Text(NamedTuple):
    """A string, which mindspore stores as numpy does: UTF-32 with trailing NULs that do not count."""

    file: MappedFile
    name: str
    runs: tuple[tuple[int, int], ...]

    def read(self, box: Box = ()) -> Array:
        """The string as UTF-8, in an array of no axes.

        Raises: FormatError for bytes that are not UTF-32.
        """
        import numpy as np

        raw = b"".join(self.file.bytes(offset, nbytes, self.name) for offset, nbytes in self.runs)
        try:
            text = raw.decode("utf-32-le").rstrip("\0").encode()
        except UnicodeError:
            raise FormatError(self.file.path, self.name, "wanted UTF-32 text") from None
        whole = np.array(text, object)
        return whole[box] if box else whole

    def release(self) -> None:
        """Give the pages back."""
        for offset, nbytes in self.runs:
            self.file.release(offset, nbytes)


def plan(specs: Sequence[TensorSpec], options: WriteOptions) -> Layout:
    """The file that mindspore.save_checkpoint writes for these tensors in this order, to the byte.

    extra: `crc=True` appends the CRC-32 that save_checkpoint(..., crc_check=True) appends.
    Raises: UsageError for what mindspore could not load again.
    """
    return layout(specs, options, SLICE)


def layout(specs: Sequence[TensorSpec], options: WriteOptions, limit: int) -> Layout:
    """As `plan`. limit: bytes of a tensor in one record at most."""
    fixed: list[Patch] = []
    extents: dict[str, tuple[Extent, ...]] = {}
    order: list[bytes | tuple[str, int, int]] = []
    at = 0
    for spec in specs:
        kind, dims = TYPE_OF[spec.dtype.name], _dims(spec)
        text = _text(spec) if spec.dtype.kind == "string" else None
        nbytes = spec.nbytes if text is None else len(text)
        runs: list[Extent] = []
        for begin in range(0, max(nbytes, 1), limit):
            size = min(limit, nbytes - begin)
            own = record_head(_tag(spec), kind, dims, size) + (text[begin : begin + size] if text is not None else b"")
            fixed.append(Patch(0, at, own))
            order.append(own)
            at += len(own)
            if text is None:
                order.append((spec.name, len(runs), size))
                runs.append(Extent(0, at, size))
                at += size
        if text is None:
            extents[spec.name] = tuple(runs)
    names = (options.target.name,)
    if not options.extra.get("crc"):
        return Layout(names, extents, tuple(fixed))
    return Layout(names, extents, tuple(fixed), "crc32", partial(_trailer, tuple(order), at))


def _trailer(order: Sequence[bytes | tuple[str, int, int]], end: int, checksums: Checksums) -> tuple[Patch, ...]:
    """The checksum of the whole file, from those of its parts. order: own bytes, or (tensor, run, length)."""
    crc = 0
    for part in order:
        if isinstance(part, bytes):
            crc = crc32(part, crc)
        else:
            name, run, nbytes = part
            crc = combine_crc32(crc, checksums[name][run], nbytes)
    return (Patch(0, end, CRC_MARK + crc.to_bytes(10, "big")),)


def _tag(spec: TensorSpec) -> str:
    try:
        spec.name.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{spec.name!r}: a name in a .ckpt is UTF-8") from None
    if not spec.name:
        raise UsageError("a name in a .ckpt is not empty")
    return spec.name


def _dims(spec: TensorSpec) -> tuple[int, ...]:
    """The dims that mindspore writes.

    Raises: UsageError for an empty vector: mindspore takes its dims, [0], for a scalar's. (Other empty tensors
    save_checkpoint leaves out; load_checkpoint reads them as they are.)
    """
    if spec.dtype.kind == "string":
        return (0,)
    if spec.shape == (0,):
        raise UsageError(f"{spec.name}: mindspore cannot load an empty vector from a .ckpt, got shape (0,)")
    return spec.shape


def _text(spec: TensorSpec) -> bytes:
    """A string as UTF-32; the empty one as a NUL, since numpy has no string of no characters."""
    if spec.shape or spec.strings is None:
        raise UsageError(f"{spec.name}: a .ckpt holds single strings, got an array of shape {spec.shape}")
    try:
        return spec.strings[0].decode().encode("utf-32-le") or bytes(4)
    except UnicodeDecodeError:
        raise UsageError(f"{spec.name}: a string in a .ckpt is text, got {spec.strings[0][:20]!r}") from None


def verify(checkpoint: Checkpoint) -> Iterator[str]:
    """One line if the file's CRC-32 is not that of its bytes; nothing if the file stores none."""
    file = MappedFile(checkpoint.path)
    stored = stored_crc(file)
    if stored is None:
        return
    end, crc = content_end(file), 0
    for at in range(0, end, PIECE):
        length = min(PIECE, end - at)
        crc = crc32(file.bytes(at, length, "crc32"), crc)
        file.release(at, length)
    if crc != stored:
        yield f"{checkpoint.path}: crc32 is {crc:#010x}, its trailer says {stored:#010x}"
