"""What a pickle of torch may hold, as inert values of our own. Nothing here is torch's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from porting.checkpoint.dtypes import DType


class PickleError(ValueError):
    """A pickle that is damaged, hostile, or holds what a checkpoint has no place for."""

    def __init__(self, problem: str, offset: int | None = None) -> None:
        self.problem = problem
        self.offset = offset
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle uses, `module.name`; only ever compared, never imported."""

    name: str


@dataclass(frozen=True, slots=True)
class StorageRef:
    """A run of bytes that tensors are views of.

    key: the record that holds it.
    dtype: of the elements it was saved with; None for bytes.
    nbytes: its length.
    """

    key: str
    dtype: DType | None
    nbytes: int


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor as torch describes it; offset and strides in elements of `dtype`, inside the storage."""

    storage: StorageRef
    dtype: DType
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that JSON has no word for. kind: bytes, complex, device, dtype, layout, set or size."""

    kind: str
    value: Any


class Mapped(dict[Any, Any]):
    """A mapping of the file: a dict, an OrderedDict, a Counter or the fields of an argparse.Namespace.

    attributes: those set on an OrderedDict (a state_dict's `_metadata`), or None.
    """

    __slots__ = ("attributes",)

    def __init__(self) -> None:
        super().__init__()
        self.attributes: Mapped | None = None

    def build(self, state: Mapped) -> None:
        """Take a state as OrderedDict does: beside the items."""
        self.attributes = state


class Fields(Mapped):
    """An argparse.Namespace, as fairseq keeps in its checkpoints: a mapping from field to value."""

    __slots__ = ()

    def build(self, state: Mapped) -> None:
        """Take a state: it is the fields."""
        self.update(state)


class NumpyType:
    """A numpy dtype on its way to become a scalar; its byte order comes with BUILD."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"


TORCH_DTYPES: Mapping[str, str] = {
    name: name
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "bfloat16", "complex64", "complex128"),
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    )
}
"""torch's names of the dtypes that it can hold and the kit knows: the same words in both."""

STORAGES: Mapping[str, str | None] = {
    "BoolStorage": "bool",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ByteStorage": "uint8",
    "HalfStorage": "float16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "BFloat16Storage": "bfloat16",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": None,
}
"""Element type of each storage class; None for bytes."""
