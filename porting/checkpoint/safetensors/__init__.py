"""safetensors, as PyTorch's side writes it and as MindSpore does."""

from __future__ import annotations

from pathlib import Path

from porting.checkpoint.format import Format, deferred, gated, head

_HERE = "porting.checkpoint.safetensors.files"
_PLAIN = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 bfloat16"
_FLOAT8 = "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu"


def _may_be(path: Path) -> bool:
    """A folder, an index in JSON, or a file with `{` after a length of eight bytes."""
    if path.is_dir():
        return True
    first = head(path, 64)
    return first[8:9] == b"{" or first.lstrip()[:1] == b"{"


FORMAT = Format(
    "safetensors",
    "pytorch",
    ".safetensors",
    gated(f"{_HERE}:locate_plain", _may_be),
    deferred(f"{_HERE}:read_plain"),
    deferred(f"{_HERE}:plan_plain"),
    frozenset(f"{_PLAIN} {_FLOAT8} float4_e2m1fn complex64".split()),
)
# complex64, float8 and float4 are left out: mindspore.load_checkpoint knows none of them in safetensors
# (mindspore 2.10, parallel/transform_safetensors.py, `dtype_size`).
MINDSPORE = Format(
    "mindspore-safetensors",
    "mindspore",
    ".safetensors",
    gated(f"{_HERE}:locate_mindspore", _may_be),
    deferred(f"{_HERE}:read_mindspore"),
    deferred(f"{_HERE}:plan_mindspore"),
    frozenset(f"{_PLAIN} int4".split()),
    verify=deferred(f"{_HERE}:verify_mindspore"),
)
