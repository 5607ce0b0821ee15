"""PyTorch's checkpoint before 1.6: five pickles, then every storage's length and bytes. Read only.

magic number · protocol version · system · the object · storage keys · per key: int64 elements, bytes.

Storages are little-endian whatever the machine that wrote them: what the system pickle says of it is ignored.

Reference: torch/serialization.py, `_legacy_save` and `_legacy_load`; torch/csrc/serialization.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from porting.checkpoint.entry import Checkpoint
from porting.checkpoint.shard_index import is_index, read_index
from porting.checkpoint.storage import Mapped, MappedFile, Storage
from porting.checkpoint.torch.entries import byte_strides, entries_of, merged, parse
from porting.checkpoint.torch.pickle import load
from porting.checkpoint.torch.values import PickleError, StorageRef, TensorView
from porting.checkpoint.torch.zip_file import WEIGHTS
from porting.errors import FormatError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001

_OPENING = b"\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"."


def locate(path: Path) -> Path | None:
    """A file that begins as a pickle, an index of such shards, or a folder with either under transformers' name.

    Plain pickles are taken too, so that `read` can say why they are refused.
    """
    if path.is_dir():
        return next((found for name in (WEIGHTS, WEIGHTS + ".index.json") if (found := locate(path / name))), None)
    if is_index(path):
        try:
            return path if _is_pickle(next(iter(read_index(path).shards.values()))) else None
        except FormatError:
            return None
    return path if _is_pickle(path) else None


def _is_pickle(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(3)
    except OSError:
        return False
    return len(head) == 3 and head[0] == 0x80 and 2 <= head[1] <= 5 and head[2:] in _FIRST


_FIRST = tuple(bytes([code]) for code in (0x8A, 0x95, 0x63, 0x7D, 0x5D, 0x28))
"""Opcodes that a pickle begins with: a number, a frame, a class, a dict, a list, a mark."""


def read(path: Path) -> Checkpoint:
    """The checkpoint, lazily.

    Raises: FormatError for damage, a plain pickle, or a pickle with code in it.
    """
    if is_index(path):
        return merged(read_index(path), _read_file, "torch-legacy")
    return _read_file(path)


def _read_file(path: Path) -> Checkpoint:
    file = MappedFile(path)
    data = file.view
    if bytes(data[2 : 2 + len(_OPENING)]) != _OPENING:
        raise FormatError(path, "", "is a plain pickle, not written by torch.save; pickles of that kind are not read")
    _, at = _plain(path, data, 0, "magic number")
    protocol, at = _plain(path, data, at, "protocol version")
    if type(protocol) is not int or protocol != PROTOCOL:
        raise FormatError(path, "protocol version", f"wanted {PROTOCOL}")
    _, at = _plain(path, data, at, "system")
    flat, at, storages = parse(path, "object", data, at)
    keys, at = _plain(path, data, at, "storage keys")
    offsets = _offsets(file, at, keys, storages)

    def storage(view: TensorView) -> Storage:
        size = view.dtype.itemsize
        return Mapped(file, offsets[view.storage.key] + view.offset * size, view.shape, view.dtype, byte_strides(view))

    def place(view: TensorView) -> str:
        return f"{path.name} at {offsets[view.storage.key]}"

    entries = entries_of(flat, storage, place, swapped=False)
    return Checkpoint(path, "torch-legacy", entries, (path,), flat.metadata())


def _plain(path: Path, data: memoryview, at: int, place: str) -> tuple[Any, int]:
    """The value of a pickle without tensors at `at`, and the offset behind it."""
    try:
        value, end, _ = load(data, at, persistent=False)
    except PickleError as error:
        raise FormatError(path, f"{place} at {at if error.offset is None else error.offset}", error.problem) from None
    return value, end


def _offsets(file: MappedFile, at: int, keys: Any, storages: Mapping[str, StorageRef]) -> dict[str, int]:
    """Where each storage's bytes begin; lengths found to be those that the object's pickle gives."""
    if not isinstance(keys, list) or any(not isinstance(key, str) or key not in storages for key in keys):
        raise FormatError(file.path, "storage keys", "wanted a list of the storages that the object refers to")
    offsets: dict[str, int] = {}
    for key in keys:
        place = f"storage {key}"
        ref = storages[key]
        count = int.from_bytes(file.bytes(at, 8, place), "little")
        size = ref.nbytes // (ref.dtype.itemsize if ref.dtype else 1)
        if count != size:
            raise FormatError(file.path, f"{place} at {at}", f"wanted {size} elements, got {count}")
        file.bytes(at + 8, ref.nbytes, place)
        offsets[key] = at + 8
        at += 8 + ref.nbytes
    if len(offsets) != len(keys) or len(offsets) != len(storages):
        raise FormatError(file.path, "storage keys", f"wanted {len(storages)} storages, each once, got {len(keys)}")
    if at != file.size:
        raise FormatError(file.path, f"offset {at}", f"{file.size - at} bytes are left behind the last storage")
    return offsets
