"""Finds the prefix of a TensorFlow checkpoint: from itself, from one of its files, or from its folder.

Savers keep a file `checkpoint` in the folder, which names the latest one.
Reference: tensorflow, python/checkpoint/checkpoint_management.py (a CheckpointState in text format).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from glob import escape
from pathlib import Path, PurePosixPath

from porting.checkpoint.format import head
from porting.checkpoint.tensorflow.leveldb import is_table
from porting.errors import FormatError

_FILE = re.compile(r"(.+)\.(?:index|data-\d{5}-of-\d{5})")
_LATEST = re.compile(rb'^\s*model_checkpoint_path\s*:\s*"((?:[^"\\\n]|\\.)*)"', re.MULTILINE)
_LARGEST = 1 << 20
SHARD = re.compile(r"(.+)-(?:\d{5}|\?{5})-of-(\d{5})")
"""A file of a sharded V1 checkpoint, or the pattern for all of them, as savers write it into the state."""


def index_path(prefix: Path) -> Path:
    """PREFIX.index."""
    return prefix.with_name(f"{prefix.name}.index")


def data_path(prefix: Path, shard: int, shards: int) -> Path:
    """PREFIX.data-00000-of-00001 and so on."""
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")


def locate(path: Path) -> Path | None:
    """The prefix that `path` is, is a file of, or is the folder of.

    Raises: FormatError for a folder with several bundles, or one whose state file names what is not there.
    """
    found = _in_folder(path) if path.is_dir() else None
    if found is not None:
        return found
    if _is_bundle(path):
        return path
    match = _FILE.fullmatch(path.name)
    if match is None or not path.is_file():
        return None
    prefix = path.with_name(match[1])
    return prefix if _is_bundle(prefix) or ".data-" in path.name else None


def _is_bundle(prefix: Path) -> bool:
    """Whether there is an index, or what is left of one beside its data."""
    index = index_path(prefix)
    if not prefix.name or not index.is_file():
        return False
    return is_table(index) or any(_FILE.fullmatch(path.name) for path in _beside(prefix, ".data-*-of-*"))


def _beside(prefix: Path, ending: str) -> Iterator[Path]:
    return prefix.parent.glob(escape(prefix.name) + ending)


def _in_folder(folder: Path) -> Path | None:
    named = named_by_state(folder)
    if named is not None:
        return named if _is_bundle(named) else None
    found = sorted(path.with_name(path.name.removesuffix(".index")) for path in folder.glob("*.index"))
    bundles = [prefix for prefix in found if _is_bundle(prefix)]
    if len(bundles) > 1:
        names = ", ".join(prefix.name for prefix in bundles)
        raise FormatError(folder, "", f"holds several bundles: {names}; give the path of one")
    return bundles[0] if bundles else None


def named_by_state(folder: Path) -> Path | None:
    """The prefix or file that the state file names, in this folder; None if there is no state file.

    A folder that has been moved still holds its checkpoints: of an absolute path only the name counts.
    Raises: FormatError if what it names is outside the folder or not there.
    """
    state = folder / "checkpoint"
    match = _LATEST.search(head(state, _LARGEST))
    if match is None:
        return None
    try:
        named = PurePosixPath(match[1].decode("unicode_escape").encode("latin-1").decode())
    except UnicodeError:
        raise FormatError(state, "model_checkpoint_path", "wanted UTF-8") from None
    if named.is_absolute():
        named = PurePosixPath(named.name)
    if not named.name or ".." in named.parts or "\0" in str(named):
        raise FormatError(state, "model_checkpoint_path", f"{named} is not in this folder")
    sharded = SHARD.fullmatch(named.name)
    found = folder / named.with_name(sharded[1]) if sharded else folder / named
    if not _present(found):
        raise FormatError(state, "model_checkpoint_path", f"{named} is not in this folder")
    return found


def _present(path: Path) -> bool:
    """Whether there is a V1 file, a V1 shard or a V2 index of that name."""
    if path.is_file() or index_path(path).is_file():
        return True
    return any(match[1] == path.name for shard in _beside(path, "-*-of-*") if (match := SHARD.fullmatch(shard.name)))
