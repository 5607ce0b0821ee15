"""PyTorch: zip files since 1.6, read and written, and the older form, read."""

from __future__ import annotations

from pathlib import Path

from porting.checkpoint.format import Format, deferred, gated, head
from porting.checkpoint.zip_names import zip_may_name

_HERE = "porting.checkpoint.torch"
_DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 bfloat16 complex64 complex128"
_FLOAT8 = "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu"

_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))


def _may_be(path: Path) -> bool:
    """A folder, an index in JSON, or a zip file with a pickle of that name."""
    return _may_list(path) or zip_may_name(path, b"data.pkl")


def _may_be_legacy(path: Path) -> bool:
    """A folder, an index in JSON, or a pickle of some protocol."""
    return _may_list(path) or head(path, 2) in _PICKLES


def _may_list(path: Path) -> bool:
    return path.is_dir() or head(path, 64).lstrip()[:1] == b"{"


FORMAT = Format(
    "torch",
    "pytorch",
    ".bin",
    gated(f"{_HERE}.zip_file:locate", _may_be),
    deferred(f"{_HERE}.zip_file:read"),
    deferred(f"{_HERE}.write:plan"),
    frozenset(f"{_DTYPES} {_FLOAT8}".split()),
    verify=deferred(f"{_HERE}.zip_file:verify"),
)
LEGACY = Format(
    "torch-legacy",
    "pytorch",
    ".bin",
    gated(f"{_HERE}.legacy:locate", _may_be_legacy),
    deferred(f"{_HERE}.legacy:read"),
)
