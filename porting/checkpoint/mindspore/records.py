"""The records of a MindSpore .ckpt: protobuf, walked in place.

    Checkpoint { repeated Value value = 1 }
    Value      { string tag = 1; oneof { TensorProto tensor = 2; MapTensorProto maptensor = 3 } }
    TensorProto { repeated int64 dims = 1; string tensor_type = 2; bytes tensor_content = 3 }

A tensor above 512 MiB is several Values in a row, each with the tag, all the dims and a slice of the bytes.
Reference: mindspore 2.10, train/checkpoint_pb2.py and train/serialization.py (`_write_parameter_bytes_data`,
`_load_ckpt_into_param_dict`, `_parse_ckpt_proto`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from porting.checkpoint.shape import checked_shape
from porting.checkpoint.storage import MappedFile
from porting.checkpoint.wire import BYTES, VARINT, Field, WireError, head, integer, message, packed, scan, varint
from porting.errors import FormatError

# By mindspore's str(dtype). The last four are saved by mindspore.save_checkpoint and not loaded again.
TYPES = {
    "Bool": "bool",
    "Int4": "int4",
    "Int8": "int8",
    "Int16": "int16",
    "Int32": "int32",
    "Int64": "int64",
    "UInt8": "uint8",
    "UInt16": "uint16",
    "UInt32": "uint32",
    "UInt64": "uint64",
    "Float16": "float16",
    "BFloat16": "bfloat16",
    "Float32": "float32",
    "Float64": "float64",
    "str": "string",
    "Complex64": "complex64",
    "Complex128": "complex128",
    "Float8E4M3FN": "float8_e4m3fn",
    "Float8E5M2": "float8_e5m2",
}
_WIDEST = 16  # bytes of a Complex128
NOT_LOADED = frozenset({"complex64", "complex128", "float8_e4m3fn", "float8_e5m2"})
TYPE_OF = {dtype: name for name, dtype in TYPES.items()}

CRC_MARK = b"crc_num"
TRAILER = len(CRC_MARK) + 10
"""Bytes of the checksum at a file's end: the mark and a big-endian CRC-32 in ten bytes."""

ENCRYPTED = {b"\xd8\x5e\x3a\x7f": "AES-GCM", b"\xd9\x5e\x3a\x7f": "AES-CBC", b"\xda\x5e\x3a\x7f": "SM4-CBC"}


class Record(NamedTuple):
    """One Value.

    kind: TensorProto's tensor_type; "" for a MapParameter, whose content is not looked at.
    offset, nbytes: of its content in the file.
    """

    tag: str
    kind: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def stored_crc(file: MappedFile) -> int | None:
    """The CRC-32 at the file's end, or None."""
    if file.size < TRAILER:
        return None
    trailer = bytes(file.bytes(file.size - TRAILER, TRAILER, "trailer"))
    return int.from_bytes(trailer[len(CRC_MARK) :], "big") if trailer.startswith(CRC_MARK) else None


def content_end(file: MappedFile) -> int:
    """Where the records end: at the trailer or the end of the file."""
    return file.size - (TRAILER if stored_crc(file) is not None else 0)


def records(file: MappedFile) -> Iterator[Record]:
    """All records in order; nothing but their heads is touched.

    Raises: FormatError at the first byte that is not such a record.
    """
    try:
        for value in scan(file.view, 0, content_end(file)):
            yield _record(file, value)
    except WireError as error:
        raise FormatError(file.path, f"offset {error.offset}", error.problem) from None


def _record(file: MappedFile, value: Field) -> Record:
    buffer = file.view
    if (value.number, value.wire) != (1, BYTES):
        raise WireError(value.offset, f"wanted a parameter, got field {value.number}")
    parts = {part.number: part for part in scan(buffer, value.offset, value.end)}
    tag = parts[1].text(buffer) if 1 in parts else ""
    if tag and 2 in parts:
        return _tensor(file, tag, parts[2])
    if tag and 3 in parts:
        return Record(tag, "", (), parts[3].offset, 0)
    raise WireError(value.offset, "wanted a parameter with a name and a tensor")


def _tensor(file: MappedFile, tag: str, tensor: Field) -> Record:
    buffer = file.view
    tensor.bytes(buffer)
    dims: list[Field] = []
    parts: dict[int, Field] = {}
    for part in scan(buffer, tensor.offset, tensor.end):
        if part.number == 1:
            dims.append(part)
        else:
            parts[part.number] = part
    if 2 not in parts or 3 not in parts:
        raise WireError(tensor.offset, f"{tag}: wanted a tensor with a type and its bytes")
    parts[3].bytes(buffer)
    sizes = (size - (1 << 64) if size >= 1 << 63 else size for field in dims for size in packed(field, buffer))
    shape = checked_shape(sizes, _WIDEST, file.path, tag)
    return Record(tag, parts[2].text(buffer), shape, parts[3].offset, parts[3].value)


def begins_with_record(start: bytes) -> bool:
    """Whether a file's first bytes are those of a record as protobuf writes it, with a type that MindSpore has.

    Strict, because any protobuf file, ONNX models among them, could be taken for a damaged checkpoint.
    Looks at the record's head only, so that a file that is cut off is still found.
    """
    buffer = memoryview(start)
    try:
        value_at, value_length = _enter(buffer, 0, 1)
        tag_at, tag_length = _enter(buffer, value_at, 1)
        tensor_at, tensor_length = _enter(buffer, tag_at + tag_length, 2)
        at = tensor_at
        while at < len(buffer) and buffer[at] == 1 << 3 | VARINT:
            _, at = varint(buffer, at + 1, len(buffer))
        type_at, type_length = _enter(buffer, at, 2)
        content_at, content_length = _enter(buffer, type_at + type_length, 3)
        named = str(buffer[tag_at : tag_at + tag_length], "utf-8")
        kind = str(buffer[type_at : type_at + type_length], "ascii")
    except (WireError, UnicodeDecodeError):
        return False
    nested = content_at + content_length == tensor_at + tensor_length == value_at + value_length
    return bool(named) and nested and (kind in TYPES or kind == "HiFloat8")


def _enter(buffer: memoryview, at: int, number: int) -> tuple[int, int]:
    """Offset and length of the payload of the bytes field `number` at `at`.

    Raises: WireError if another field stands there.
    """
    if at >= len(buffer) or buffer[at] != number << 3 | BYTES:
        raise WireError(at, f"wanted field {number}")
    length, at = varint(buffer, at + 1, len(buffer))
    return at, length


def record_head(tag: str, kind: str, dims: tuple[int, ...], nbytes: int) -> bytes:
    """All of a record but its content, byte for byte as protobuf writes it."""
    tensor = b"".join(integer(1, size) for size in dims) + message(2, kind) + head(3, nbytes)
    value = message(1, tag) + head(2, len(tensor) + nbytes) + tensor
    return head(1, len(value) + nbytes) + value


def encryption(path: Path) -> str | None:
    """The cipher of a file that mindspore has encrypted, by its first bytes."""
    with path.open("rb") as file:
        return ENCRYPTED.get(file.read(4))
