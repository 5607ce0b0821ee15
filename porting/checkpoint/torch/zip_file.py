"""PyTorch's checkpoint since 1.6: a zip file with a pickle and a record per storage (.bin, .pt, .pth).

Tensors are views of the mapped file, with torch's own offsets and strides. The pickle is interpreted,
never executed (`torch_pickle`). Nested checkpoints are flattened to dotted names; what is not a tensor
stands in `metadata["tree"]` (`torch_tree`), attributes of mappings in `metadata["attributes"]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from porting.checkpoint.entry import Checkpoint
from porting.checkpoint.shard_index import is_index, read_index
from porting.checkpoint.storage import Storage
from porting.checkpoint.torch.entries import byte_strides, entries_of, merged, parse
from porting.checkpoint.torch.values import StorageRef, TensorView
from porting.checkpoint.zip_names import first_name
from porting.checkpoint.zips.archive import Archive, open_archive
from porting.checkpoint.zips.inflate import Contents, contents
from porting.errors import FormatError

WEIGHTS = "pytorch_model.bin"
"""The name that transformers gives the weights in a folder."""

PICKLE_LIMIT = 64 << 20


def _is_torch_zip(path: Path) -> bool:
    """Whether a file is a zip file with a `data.pkl` in its top folder."""
    name = first_name(path)
    if name is None:
        return False
    if _is_pickle_name(name):
        return True
    try:
        return any(_is_pickle_name(member) for member in open_archive(path).members)
    except FormatError:
        return False


def _is_pickle_name(name: str) -> bool:
    return name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1)


def locate(path: Path) -> Path | None:
    """A torch zip file, an index of such shards, or a folder with either under transformers' name."""
    if path.is_dir():
        return next((found for name in (WEIGHTS, WEIGHTS + ".index.json") if (found := locate(path / name))), None)
    if is_index(path):
        return path if _first_shard_is_torch(path) else None
    return path if _is_torch_zip(path) else None


def _first_shard_is_torch(path: Path) -> bool:
    try:
        return _is_torch_zip(next(iter(read_index(path).shards.values())))
    except FormatError:
        # Damaged beyond telling what its shards are: by the name that it would have.
        return ".bin" in path.name


def read(path: Path) -> Checkpoint:
    """The checkpoint, lazily.

    Raises: FormatError for damage, and for what is no checkpoint: TorchScript, a pickled module.
    """
    if is_index(path):
        return merged(read_index(path), _read_file, "torch")
    return _read_file(path)


def _read_file(path: Path) -> Checkpoint:
    archive = open_archive(path)
    top = _top_folder(archive)
    if f"{top}constants.pkl" in archive.members or any(name.startswith(f"{top}code/") for name in archive.members):
        raise FormatError(path, "", "is a TorchScript archive, a program with weights; save model.state_dict() instead")
    byteorder = f"{top}byteorder"
    order = archive.bytes(byteorder, 16) if byteorder in archive.members else b"little"
    if order not in {b"little", b"big"}:
        raise FormatError(path, byteorder, f"wanted little or big, got {order[:16]!r}")
    name = f"{top}data.pkl"
    pickle = memoryview(archive.bytes(name, PICKLE_LIMIT))
    flat, _, storages = parse(path, name, pickle)
    held = {key: _checked(archive, f"{top}data/{key}", ref) for key, ref in storages.items()}

    def storage(view: TensorView) -> Storage:
        offset = view.offset * view.dtype.itemsize
        return held[view.storage.key].tensor(offset, view.shape, view.dtype, byte_strides(view))

    def place(view: TensorView) -> str:
        return f"{path.name}: {top}data/{view.storage.key}"

    entries = entries_of(flat, storage, place, swapped=order == b"big")
    return Checkpoint(path, "torch", entries, (path,), flat.metadata())


def _top_folder(archive: Archive) -> str:
    """The folder that all records lie in, with its slash.

    Raises: FormatError if no pickle says which: a shard is opened because an index names it, whatever it holds.
    """
    pickle = next((name for name in archive.members if _is_pickle_name(name)), None)
    if pickle is None:
        raise FormatError(archive.file.path, "", "is no PyTorch checkpoint: the archive has no data.pkl")
    return pickle.removesuffix("data.pkl")


def _checked(archive: Archive, name: str, ref: StorageRef) -> Contents:
    """The record of a storage found to be as long as the pickle says."""
    member = archive.members.get(name)
    if member is None:
        raise FormatError(archive.file.path, name, "the record is missing")
    if member.size != ref.nbytes:
        raise FormatError(archive.file.path, name, f"wanted a record of {ref.nbytes} bytes, got {member.size}")
    return contents(archive, member)


def verify(checkpoint: Checkpoint) -> Iterator[str]:
    """Compare the CRC-32 of every record."""
    for path in checkpoint.files:
        if not is_index(path):
            yield from open_archive(path).wrong_checksums()
