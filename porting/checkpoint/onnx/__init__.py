"""ONNX: a model's initializers, read under their torch names, written into a given graph."""

from __future__ import annotations

from pathlib import Path

from porting.checkpoint.format import Format, deferred, gated, head

_HERE = "porting.checkpoint.onnx"
_DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 bfloat16 complex64 complex128"
_NARROW = "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn int4 uint4"


MODEL_WIRES = {1: 0, 5: 0} | dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), 2)
"""Wire types (0 a number, 2 a run of bytes) of ModelProto's fields by their numbers: onnx/onnx.proto."""

_OPENINGS = frozenset(number << 3 | wire for number, wire in MODEL_WIRES.items())


def _may_be(path: Path) -> bool:
    """Begins with a field that a ModelProto has; which fields follow, `is_model` asks."""
    first = head(path, 1)
    return bool(first) and first[0] in _OPENINGS


FORMAT = Format(
    "onnx",
    "onnx",
    ".onnx",
    gated(f"{_HERE}.model:locate", _may_be),
    deferred(f"{_HERE}.model:read"),
    deferred(f"{_HERE}.write:plan"),
    frozenset(f"{_DTYPES} {_NARROW} string".split()),
    adapt=deferred(f"{_HERE}.write:adapt"),
)
