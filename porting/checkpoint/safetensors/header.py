"""The header of a safetensors file: what may stand in it, reading it, and writing it as the official library does.

A file is 8 bytes of little-endian length, a JSON object of that length, and the tensors' bytes without a gap:
`{"__metadata__": {str: str}, name: {"dtype": str, "shape": [int], "data_offsets": [begin, end]}}`.
Reference: github.com/huggingface/safetensors, README "Format", and safetensors/src/tensor.rs (0.8).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeGuard

from porting.checkpoint.dtypes import DTYPES, DType
from porting.checkpoint.format import TensorSpec
from porting.checkpoint.shape import checked_shape
from porting.checkpoint.shard_index import parse_json
from porting.checkpoint.storage import MappedFile
from porting.errors import FormatError, UsageError

LIMIT = 100_000_000
"""Bytes of a header at most (MAX_HEADER_SIZE of the official library)."""

ROOM = 25_000_000
"""Bytes of a header that are read: some 200,000 tensors. JSON made to fill memory takes up to 35 times its size."""

METADATA = "__metadata__"
_METADATA_KEY = re.compile(r'"__metadata__"\s*:\s*')

# In the order of the official enum, which its writer sorts by, last first. Its F6_E2M3 and F6_E3M2 are left
# out: no framework writes them and the packing of four elements into three bytes is not specified.
CODES = {
    "BOOL": "bool",
    "F4": "float4_e2m1fn",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
# MindSpore's int4 is I8 with a mark in the metadata; safetensors itself has none.
_CODE_OF = {name: code for code, name in CODES.items()} | {"int4": "I8"}
_RANK = {code: rank for rank, code in enumerate(CODES)}


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor's place. offset, nbytes: in the file."""

    code: str
    dtype: DType
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """A header that was read. slots: by name, in the order of their offsets."""

    slots: Mapping[str, Slot]
    metadata: Mapping[str, str]


def opens_like_one(start: bytes) -> bool:
    """Whether the first 16 bytes of a file are a safetensors header's: a length within the limit, then JSON."""
    return (
        len(start) >= 10
        and 2 <= struct.unpack_from("<Q", start)[0] <= LIMIT
        and start[8:9] == b"{"
        and (start[9:].lstrip()[:1] in {b'"', b"}", b""})
    )


def declared_metadata(file: MappedFile) -> Mapping[str, Any]:
    """The metadata alone, without a look at the tensors; empty where it is missing or damaged."""
    length = int.from_bytes(file.bytes(0, 8, "header"), "little")
    if length > min(ROOM, file.size - 8):
        return {}
    text = str(file.bytes(8, length, "header"), "utf-8", "replace")
    key = _METADATA_KEY.search(text)
    if key is None:
        return {}
    try:
        value, _ = json.JSONDecoder().raw_decode(text, key.end())
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_header(file: MappedFile) -> Header:
    """The header, every claim in it held against the file.

    Raises: FormatError for a length beyond the file or `ROOM`, JSON that is none, a dtype that is not known, offsets
    that overlap, leave a gap or end elsewhere than the file, a size that does not fit the shape.
    """
    length = int.from_bytes(file.bytes(0, 8, "header"), "little")
    room = min(ROOM, file.size - 8)
    if not 2 <= length <= room:
        raise FormatError(file.path, "header", f"wanted a length of 2 to {room} bytes, got {length}")
    value = parse_json(file.bytes(8, length, "header"), file.path, "header")
    if not isinstance(value, dict):
        raise FormatError(file.path, "header", "wanted a JSON object")
    metadata = value.pop(METADATA, None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise FormatError(file.path, METADATA, "wanted an object of strings")
    slots = {name: _slot(file, name, item, 8 + length) for name, item in value.items()}
    ordered = dict(sorted(slots.items(), key=lambda item: (item[1].offset, item[1].nbytes)))
    end = 8 + length
    for name, slot in ordered.items():
        if slot.offset != end:
            raise FormatError(
                file.path, name, f"wanted its bytes at offset {end}, got {slot.offset}: a gap or an overlap"
            )
        end += slot.nbytes
    if end != file.size:
        raise FormatError(file.path, "", f"wanted {end} bytes by the header, the file has {file.size}")
    return Header(ordered, metadata)


def _slot(file: MappedFile, name: str, item: Any, start: int) -> Slot:
    """One entry of the header. start: where the tensors begin."""
    if not isinstance(item, dict):
        raise FormatError(file.path, name, "wanted an object with dtype, shape and data_offsets")
    code, dims, offsets = item.get("dtype"), item.get("shape"), item.get("data_offsets")
    if not isinstance(code, str) or code not in CODES:
        raise FormatError(file.path, name, f"dtype {str(code)[:40]!r} is not known; there are {', '.join(CODES)}")
    if not _integers(dims):
        raise FormatError(file.path, name, "wanted a shape of integers")
    if not _integers(offsets) or len(offsets) != 2:
        raise FormatError(file.path, name, "wanted two data_offsets")
    dtype = DTYPES[CODES[code]]
    shape = checked_shape(dims, dtype.itemsize, file.path, name)
    bits = prod(shape) * dtype.bits
    begin, end = offsets
    if bits % 8 or not 0 <= begin <= end or end - begin != bits // 8:
        raise FormatError(file.path, name, f"wanted {bits / 8:g} bytes for {code} {list(shape)}, got offsets {offsets}")
    return Slot(code, dtype, shape, start + begin, end - begin)


def _integers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int for item in value)


def in_file_order(specs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The order in which the official writer lays tensors out: wide dtypes first, then by name."""
    return sorted(specs, key=lambda spec: (-_RANK[_CODE_OF[spec.dtype.name]], spec.name))


def stored_bytes(spec: TensorSpec) -> int:
    """Bytes in the file.

    Raises: UsageError for an odd number of four-bit elements, which the official library does not read.
    """
    bits = prod(spec.shape) * DTYPES[CODES[_CODE_OF[spec.dtype.name]]].bits
    if bits % 8:
        raise UsageError(f"{spec.name}: safetensors holds no odd number of {spec.dtype} elements, got {spec.shape}")
    return bits // 8


def header_bytes(specs: Sequence[TensorSpec], metadata: Mapping[str, str]) -> bytes:
    """Length and header of specs in file order, padded to 8 bytes with spaces.

    Keys of the metadata are sorted; the official writer has them in random order.
    Raises: UsageError for a name that JSON or the format cannot hold.
    """
    header: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for spec in specs:
        if spec.name == METADATA:
            raise UsageError(f"{METADATA}: safetensors keeps this name for itself")
        end = at + stored_bytes(spec)
        header[spec.name] = {"dtype": _CODE_OF[spec.dtype.name], "shape": list(spec.shape), "data_offsets": [at, end]}
        at = end
    try:
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"safetensors: a name or metadata is not Unicode: {error.object[error.start :][:20]!r}"
        ) from None
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
