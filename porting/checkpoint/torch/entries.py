"""From torch's pickle to entries: what the zip format and the legacy format have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from porting.checkpoint.byteorder import Swapped
from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.checkpoint.shard_index import ShardIndex
from porting.checkpoint.storage import Storage, contiguous_strides
from porting.checkpoint.torch.pickle import load
from porting.checkpoint.torch.tree import Flat, flatten
from porting.checkpoint.torch.values import PickleError, StorageRef, TensorView
from porting.errors import FormatError


def byte_strides(view: TensorView) -> tuple[int, ...] | None:
    """A view's strides in bytes; None if it is row-major, whatever the strides of its axes of length 1."""
    size = view.dtype.itemsize
    plain = contiguous_strides(view.shape, 1)
    if not all(view.shape) or all(n == 1 or a == b for n, a, b in zip(view.shape, view.strides, plain, strict=True)):
        return None
    return tuple(step * size for step in view.strides)


def parse(path: Path, place: str, data: memoryview, at: int = 0) -> tuple[Flat, int, dict[str, StorageRef]]:
    """The tensors and the tree of the pickle at `at`, the offset behind it, the storages by key.

    Raises: FormatError naming the opcode's offset.
    """
    try:
        value, end, storages = load(data, at)
        # A value that is shared costs 2 bytes each time, so an honest tree has fewer nodes than this.
        return flatten(value, limit=4 * (end - at)), end, storages
    except PickleError as error:
        where = place if error.offset is None else f"{place} at {error.offset}"
        raise FormatError(path, where, error.problem) from None


def entries_of(
    flat: Flat, storage: Callable[[TensorView], Storage], place: Callable[[TensorView], str], *, swapped: bool
) -> dict[str, TensorEntry]:
    """Entries of all tensors; one that shows the same bytes as an earlier one is tied to it.

    swapped: whether the file's byte order is not this machine's.
    """
    entries: dict[str, TensorEntry] = {}
    first: dict[TensorView, str] = {}
    for name, view in flat.tensors.items():
        owner = first.setdefault(view, name)
        kept = storage(view)
        if swapped and view.dtype.itemsize > 1:
            kept = Swapped(kept, view.dtype)
        tied = None if owner == name else owner
        entries[name] = TensorEntry(name, view.shape, view.dtype, kept, place(view), tied)
    return entries


def merged(index: ShardIndex, read: Callable[[Path], Checkpoint], name: str) -> Checkpoint:
    """One checkpoint of all shards, in the index's order.

    Raises: FormatError if shards and index do not hold the same tensors.
    """
    shards = {shard: read(path) for shard, path in index.shards.items()}
    entries: dict[str, TensorEntry] = {}
    missing: list[str] = []
    for tensor, shard in index.weight_map.items():
        entry = shards[shard].entries.get(tensor)
        if entry is None:
            missing.append(f"{tensor} in {shard}")
        else:
            entries[tensor] = entry
    extra = [
        f"{tensor} in {shard}" for shard, held in shards.items() for tensor in held if tensor not in index.weight_map
    ]
    if missing:
        raise FormatError(index.path, "", f"tensors that the index promises are missing: {', '.join(missing[:8])}")
    if extra:
        raise FormatError(index.path, "", f"tensors that the index does not name: {', '.join(extra[:8])}")
    files = (index.path, *index.shards.values())
    return Checkpoint(index.path, name, entries, files, dict(index.metadata))
