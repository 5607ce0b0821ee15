"""numpy's .npz: a zip file of .npy arrays.

Stored arrays are views of the mapped file, Fortran order included; those of numpy.savez_compressed are
unpacked when they are first read. Arrays of Python objects are pickles, and refused.

numpy has no names for bfloat16, float8 and int4: it writes their bytes as `<V2`, `<V1` or `<f1`, and the
name is lost. This format writes the same, bit for bit, and puts `dtype=bfloat16` into the array's comment in
the zip directory, where numpy does not look: `numpy.load(path)["w"].view(ml_dtypes.bfloat16)` works on
both, and reading back knows what it was. Such an array without the note is refused as unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from math import prod
from pathlib import Path

from porting.checkpoint.byteorder import Swapped
from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.checkpoint.format import Checksums, Finish, Layout, Patch, TensorSpec, WriteOptions
from porting.checkpoint.npz import header as npy_header
from porting.checkpoint.npz.header import Header
from porting.checkpoint.storage import InMemory, Storage
from porting.checkpoint.zip_names import first_name
from porting.checkpoint.zips import layout as zip_layout
from porting.checkpoint.zips.archive import STORED, Archive, Member, open_archive
from porting.checkpoint.zips.inflate import contents
from porting.checkpoint.zips.layout import Placed, Record
from porting.errors import FormatError, UsageError

_SUFFIX = ".npy"

_NOTE = "dtype="

_TEXTS, _TEXT_LIMIT = 1_000_000, 64 << 20
"""Elements and bytes of one array of text at most: text is held in memory."""


def locate(path: Path) -> Path | None:
    """A zip file whose first member is a .npy."""
    name = first_name(path)
    if name is None:
        return None
    return path if name.endswith(_SUFFIX) else None


def read(path: Path) -> Checkpoint:
    """The arrays, lazily.

    Raises: FormatError for damage, for arrays of objects, and for members that are not arrays.
    """
    archive = open_archive(path)
    entries: dict[str, TensorEntry] = {}
    for member in archive.members.values():
        if not member.name.endswith(_SUFFIX):
            raise FormatError(path, member.name, "is not a .npy file")
        name = member.name.removesuffix(_SUFFIX)
        entries[name] = _entry(archive, member, name)
    return Checkpoint(path, "npz", entries, (path,))


def _entry(archive: Archive, member: Member, name: str) -> TensorEntry:
    path = archive.file.path
    note = member.comment.removeprefix(_NOTE) if member.comment.startswith(_NOTE) else ""
    header = npy_header.parse(partial(_first_bytes, archive, member), path, member.name, note)
    want = header.size + prod(header.shape) * header.width
    if member.size != want:
        raise FormatError(path, member.name, f"wanted {want} bytes for shape {header.shape}, got {member.size}")
    build = _text if header.dtype.kind == "string" else _storage
    return TensorEntry(name, header.shape, header.dtype, build(archive, member, header), f"{path.name}: {member.name}")


def _first_bytes(archive: Archive, member: Member, count: int) -> bytes:
    """The first `count` unpacked bytes of a member, unpacking no more than it must."""
    if member.method == STORED:
        return bytes(archive.file.bytes(member.offset, min(count, member.size), member.name))
    found = b""
    for piece in islice(archive.pieces(member, max(count, 512)), 8):
        found += piece[:count]
        if len(found) >= count:
            break
    return found[:count]


def _storage(archive: Archive, member: Member, header: Header) -> Storage:
    strides = None
    if header.fortran and len(header.shape) > 1:
        steps = [header.width]
        for size in header.shape[:-1]:
            steps.append(steps[-1] * max(size, 1))
        strides = tuple(steps)
    found = contents(archive, member).tensor(header.size, header.shape, header.dtype, strides)
    return Swapped(found, header.dtype) if header.swapped and header.width > 1 else found


def _text(archive: Archive, member: Member, header: Header) -> Storage:
    """An array of text, read now: strings are held as objects, in UTF-8, as in every other format."""
    import numpy as np

    if prod(header.shape) > _TEXTS:
        raise FormatError(archive.file.path, member.name, f"wanted at most {_TEXTS} texts, got shape {header.shape}")
    raw = archive.bytes(member.name, _TEXT_LIMIT)[header.size :]
    if not header.width or not all(header.shape):
        flat = np.full(prod(header.shape), b"", object)
    else:
        order = ">" if header.swapped else "<"
        width = header.width // 4 if header.letter == "U" else header.width
        values = np.frombuffer(raw, f"{order}{header.letter}{width}").tolist()
        flat = np.empty(len(values), object)
        flat[:] = [value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value for value in values]
    return InMemory(flat.reshape(header.shape, order="F" if header.fortran else "C"))


def plan(specs: Sequence[TensorSpec], options: WriteOptions) -> Layout:
    """One file, arrays stored and aligned at 64 bytes. Tied tensors are written again.

    Raises: UsageError for a name that would lead out of the archive, or options that npz has no place for.
    """
    if options.shard_size is not None or options.extra:
        raise UsageError("format npz: is one file without options")
    for spec in specs:
        if spec.name.startswith("/") or ".." in spec.name.replace("\\", "/").split("/") or "\0" in spec.name:
            raise UsageError(f"format npz: cannot hold the name {spec.name!r}")
    placed = zip_layout.place([_record(spec) for spec in specs], "plain")
    return Layout((options.target.name,), zip_layout.extents(placed, 0), (), "crc32", _finisher(placed))


def _record(spec: TensorSpec) -> Record:
    note = "" if spec.dtype.native else _NOTE + spec.dtype.name
    head = npy_header.encode(spec.dtype, spec.shape)
    return Record(spec.name + _SUFFIX, head, spec.name, spec.nbytes, note)


def _finisher(placed: Sequence[Placed]) -> Finish:
    """The headers and the directory, once the arrays' checksums are known."""

    def finish(checksums: Checksums) -> list[Patch]:
        crcs = {item.record.name: zip_layout.checksum(item.record, checksums) for item in placed}
        return [*zip_layout.local(placed, 0, "plain", crcs), zip_layout.directory(placed, 0, "plain", crcs)]

    return finish


def verify(checkpoint: Checkpoint) -> Iterator[str]:
    """Compare the CRC-32 of every array."""
    yield from open_archive(checkpoint.path).wrong_checksums()
