"""TensorFlow: tensor bundles (V2) and single-file checkpoints (V1)."""

from __future__ import annotations

from glob import escape
from pathlib import Path

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.format import Format, deferred, gated

_HERE = "porting.checkpoint.tensorflow"
_TABLE = bytes.fromhex("57fb808b247547db")
"""The last bytes of a LevelDB table."""


def _may_be(path: Path) -> bool:
    """Not a regular file that neither ends as a table nor is named after one beside it."""
    if not path.is_file():
        return True
    if any(mark in path.name for mark in (".index", ".data-")) or path.with_name(path.name + ".index").exists():
        return True
    with path.open("rb") as file:
        return file.seek(0, 2) >= len(_TABLE) and file.seek(-len(_TABLE), 2) >= 0 and file.read() == _TABLE


def _may_be_v1(path: Path) -> bool:
    """As above, but a prefix only where there is a file that may be one of its shards."""
    if path.exists():
        return _may_be(path)
    return any(path.parent.glob(f"{escape(path.name)}-*-of-*"))


BUNDLE = Format(
    "tf-bundle",
    "tensorflow",
    ".ckpt",
    gated(f"{_HERE}.locate:locate", _may_be),
    deferred(f"{_HERE}.bundle:read"),
    deferred(f"{_HERE}.bundle_plan:plan"),
    frozenset(DTYPES) - {"float8_e3m4", "float8_e4m3", "float8_e8m0fnu"},
    verify=deferred(f"{_HERE}.bundle:verify"),
)
V1 = Format(
    "tf-v1",
    "tensorflow",
    ".ckpt",
    gated(f"{_HERE}.v1:locate", _may_be_v1),
    deferred(f"{_HERE}.v1:read"),
    verify=deferred(f"{_HERE}.v1:verify"),
)
