"""Element types, by the names that numpy and ml_dtypes share.

A dtype is only a name and a width here: conversion moves bits, so bfloat16, float8 and int4 pass
through without ever being rounded, and ml_dtypes is imported only when someone looks at values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["bool", "int", "uint", "float", "complex", "string"]


class DType(NamedTuple):
    """An element type.

    itemsize: bytes per element in memory; 0 for strings, 1 for the sub-byte types, which are held
        one element to a byte as ml_dtypes holds them (a format that packs two to a byte unpacks).
    bits: the width of the value itself.
    """

    name: str
    itemsize: int
    kind: Kind
    bits: int

    @property
    def native(self) -> bool:
        """Whether numpy has it itself."""
        return self.name in _NUMPY_OWN

    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype that carries it (from ml_dtypes where numpy has none)."""
        import numpy as np

        if self.kind == "string":
            return np.dtype(object)
        if self.native:
            return np.dtype(self.name)
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, self.name))

    def __str__(self) -> str:
        return self.name


_NUMPY_OWN = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()
)


def _known() -> dict[str, DType]:
    table: dict[str, DType] = {
        "bool": DType("bool", 1, "bool", 8),
        "string": DType("string", 0, "string", 0),
        "bfloat16": DType("bfloat16", 2, "float", 16),
        "float4_e2m1fn": DType("float4_e2m1fn", 1, "float", 4),
        "complex64": DType("complex64", 8, "complex", 64),
        "complex128": DType("complex128", 16, "complex", 128),
    }
    for bits in (8, 16, 32, 64):
        table[f"int{bits}"] = DType(f"int{bits}", bits // 8, "int", bits)
        table[f"uint{bits}"] = DType(f"uint{bits}", bits // 8, "uint", bits)
    for bits in (2, 4):
        table[f"int{bits}"] = DType(f"int{bits}", 1, "int", bits)
        table[f"uint{bits}"] = DType(f"uint{bits}", 1, "uint", bits)
    for bits in (16, 32, 64):
        table[f"float{bits}"] = DType(f"float{bits}", bits // 8, "float", bits)
    for form in ("e4m3fn", "e4m3fnuz", "e4m3b11fnuz", "e4m3", "e3m4", "e5m2", "e5m2fnuz", "e8m0fnu"):
        table[f"float8_{form}"] = DType(f"float8_{form}", 1, "float", 8)
    return table


DTYPES = _known()


def dtype(name: str) -> DType:
    """The dtype of that name.

    Raises: KeyError for a name the kit does not know.

    >>> dtype("bfloat16").itemsize
    2
    """
    return DTYPES[name]


def from_numpy(kind: np.dtype[Any]) -> DType:
    """The dtype that carries arrays of this numpy dtype, whatever its byte order.

    Raises: KeyError for structured, datetime and other types without a counterpart.
    """
    if kind.kind in "OSU":
        return DTYPES["string"]
    return DTYPES[kind.name]
