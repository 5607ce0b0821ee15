"""MindSpore's .ckpt."""

from __future__ import annotations

from pathlib import Path

from porting.checkpoint.format import Format, deferred, gated, head

_HERE = "porting.checkpoint.mindspore"


def _may_be(path: Path) -> bool:
    """Begins as a protobuf record of field 1, or as MindSpore's ciphers do."""
    first = head(path, 4)
    return first[:1] == b"\x0a" or first[1:] == b"\x5e\x3a\x7f"


# complex and float8 are left out: mindspore.save_checkpoint writes them, and load_checkpoint then fails on the
# type's name (mindspore 2.10, train/serialization.py, `tensor_to_ms_type`).
FORMAT = Format(
    "mindspore-ckpt",
    "mindspore",
    ".ckpt",
    gated(f"{_HERE}.ckpt:locate", _may_be),
    deferred(f"{_HERE}.ckpt:read"),
    deferred(f"{_HERE}.ckpt:plan"),
    frozenset(
        "bool int4 int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 bfloat16 string".split()
    ),
    verify=deferred(f"{_HERE}.ckpt:verify"),
)
