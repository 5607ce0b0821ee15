"""Checkpoints in several files: the `*.index.json` that PyTorch and safetensors shards share.

An index is a JSON object `{"metadata": {...}, "weight_map": {tensor name: shard file name}}` beside its
shards (huggingface_hub, "Serialization", `save_torch_model`). Shards are plain names in the index's own
folder: a name that leads elsewhere is an error. A shard may be a symbolic link, as all files in the
cache of huggingface_hub are: the links are the user's own, only what a file says is not trusted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from porting.checkpoint.format import TensorSpec, whole
from porting.errors import FormatError

SUFFIX = ".index.json"

LIMIT = 10_000_000
"""Bytes of an index at most, as in huggingface_hub (MAX_INDEX_FILE_SIZE)."""


class ShardIndex(NamedTuple):
    """An index as it was read.

    weight_map: the shard's file name for every tensor, in the index's order.
    metadata: what the index says beside that (`total_size`).
    """

    path: Path
    weight_map: Mapping[str, str]
    metadata: Mapping[str, Any]

    @property
    def shards(self) -> dict[str, Path]:
        """Path of every shard by its file name, in the order of the names."""
        return {name: self.path.parent / name for name in sorted(set(self.weight_map.values()))}


def parse_json(text: bytes | memoryview, path: Path, place: str) -> Any:
    """JSON as its standard has it: UTF-8, no key twice in an object, no lone surrogates, no NaN.

    Raises: FormatError naming `path` and `place`.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            seen: set[str] = set()
            twice = next(key for key, _ in items if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise ValueError(f"{twice!r} occurs twice")
        return found

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    try:
        decoded = str(text, "utf-8")
        value = json.loads(decoded, object_pairs_hook=pairs, parse_constant=constant)
        if "\\ud" in decoded.lower():  # only an escape can make half a surrogate pair
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise FormatError(path, place, "not JSON: nested too deeply") from None
    except ValueError as error:
        raise FormatError(path, place, f"not JSON: {error}") from None
    return value


def is_index(path: Path) -> bool:
    """Whether a file is an index: text that opens as a JSON object and names a `weight_map`.

    It may still be damaged: `read_index` says how.
    """
    try:
        if not path.is_file() or path.stat().st_size > LIMIT:
            return False
        with path.open("rb") as file:
            opening = file.read(64)
            return opening.lstrip().startswith(b"{") and b'"weight_map"' in opening + file.read(LIMIT)
    except (OSError, ValueError):
        return False


def indexes_in(folder: Path) -> tuple[Path, ...]:
    """The indexes that lie in a folder, by name."""
    try:
        return tuple(path for path in sorted(folder.iterdir()) if path.name.endswith(SUFFIX) and is_index(path))
    except OSError:
        return ()


def read_index(path: Path) -> ShardIndex:
    """The index, its shards not opened yet.

    Raises: FormatError if it is damaged, if a shard's name leads out of the folder, or if shards are
    missing (all of them in one line).
    """
    value = parse_json(whole(path, LIMIT), path, "")
    weight_map = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(path, "weight_map", "wanted an object with a shard's name for every tensor")
    for name, shard in weight_map.items():
        if not _plain(shard):
            raise FormatError(path, f"weight_map: {name}", f"wanted a file name in the same folder, got {shard!r}")
    metadata = value.get("metadata")
    index = ShardIndex(path, weight_map, metadata if isinstance(metadata, dict) else {})
    missing = [name for name, shard in index.shards.items() if not shard.is_file()]
    if missing:
        raise FormatError(path, "", f"shards are missing: {', '.join(missing)}")
    return index


def _plain(name: object) -> bool:
    """A file name and nothing else, on any system.

    >>> [_plain(name) for name in ("a.bin", "../a.bin", "/a.bin", "sub/a.bin", "C:a.bin", "..", "")]
    [True, False, False, False, False, False, False]
    """
    if not isinstance(name, str) or name in {"", ".", ".."} or len(name.encode()) > 255:
        return False
    return not any(character in "/\\:\0" for character in name)


def shard_names(target: Path, count: int) -> tuple[str, ...]:
    """File names of `count` shards; one shard is no shard and keeps the target's name.

    >>> shard_names(Path("out/model.safetensors"), 2)
    ('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors')
    """
    if count == 1:
        return (target.name,)
    return tuple(f"{target.stem}-{i:05d}-of-{count:05d}{target.suffix}" for i in range(1, count + 1))


def index_name(target: Path) -> str:
    """File name of the index of a sharded target.

    >>> index_name(Path("out/model.safetensors"))
    'model.safetensors.index.json'
    """
    return target.name + SUFFIX


def distribute(
    specs: Sequence[TensorSpec], limit: int | None, *, share_ties: bool = False
) -> tuple[tuple[TensorSpec, ...], ...]:
    """Specs to shards of at most `limit` bytes, in order; a larger tensor has a shard of its own.

    share_ties: a tied spec takes no room and stays in the shard of the one it shares bytes with.
    Always at least one shard, if only an empty one.
    """
    shards: list[list[TensorSpec]] = [[]]
    where: dict[str, int] = {}
    used = 0
    for spec in specs:
        if share_ties and spec.tied in where:
            shards[where[spec.tied]].append(spec)
            continue
        if limit is not None and shards[-1] and used + spec.nbytes > limit:
            shards.append([])
            used = 0
        where[spec.name] = len(shards) - 1
        shards[-1].append(spec)
        used += spec.nbytes
    return tuple(tuple(shard) for shard in shards)


def index_bytes(weight_map: Mapping[str, str], total_size: int) -> bytes:
    """The index file as huggingface_hub writes it. total_size: bytes of all tensors."""
    content = {"metadata": {"total_size": total_size}, "weight_map": dict(weight_map)}
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
