"""The protobuf wire format, scanned in place.

A checkpoint of 1 GB must not be parsed into objects: the readers walk the records of a mapped file
and keep offsets. Everything is validated against the bytes that are there, so a length that lies
is an error with its offset and never an allocation.

Reference: protobuf.dev, "Encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """Bytes that are not protobuf; `offset` is where, counted from the start of the buffer scanned."""

    def __init__(self, offset: int, problem: str) -> None:
        self.offset = offset
        self.problem = problem
        super().__init__(f"offset {offset}: {problem}")


class Field(NamedTuple):
    """One field of a message.

    number, wire: field number and wire type.
    value: the integer of a varint or fixed field (unsigned); the length of a bytes field.
    offset: where the payload begins in the buffer.
    """

    number: int
    wire: int
    value: int
    offset: int

    @property
    def end(self) -> int:
        """One past the payload of a bytes field."""
        return self.offset + self.value

    def bytes(self, buffer: memoryview) -> memoryview:
        """The payload of a bytes field."""
        if self.wire != BYTES:
            raise WireError(self.offset, f"field {self.number}: wanted bytes, got wire type {self.wire}")
        return buffer[self.offset : self.end]

    def text(self, buffer: memoryview) -> str:
        """The payload as UTF-8."""
        try:
            return str(self.bytes(buffer), "utf-8")
        except UnicodeDecodeError:
            raise WireError(self.offset, f"field {self.number}: wanted UTF-8 text") from None

    @property
    def signed(self) -> int:
        """A varint read as int64, which is how protobuf stores negative integers."""
        return self.value - (1 << 64) if self.value >= 1 << 63 else self.value


def varint(buffer: memoryview, at: int, end: int) -> tuple[int, int]:
    """The unsigned varint at `at` and the offset after it.

    Raises: WireError if it does not end before `end` or is longer than 10 bytes.
    """
    result = shift = 0
    start = at
    while True:
        if at >= end:
            raise WireError(start, "a number is cut off")
        byte = buffer[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise WireError(start, "a number is longer than 10 bytes")


def scan(buffer: memoryview, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The fields of the message in buffer[start:end], in order, payloads untouched.

    Raises: WireError at the first byte that cannot be protobuf.
    """
    stop = len(buffer) if end is None else end
    at = start
    while at < stop:
        begin = at
        key, at = varint(buffer, at, stop)
        number, wire = key >> 3, key & 7
        if not number:
            raise WireError(begin, "field number 0")
        if wire == VARINT:
            value, after = varint(buffer, at, stop)
            yield Field(number, wire, value, at)
            at = after
        elif wire == BYTES:
            length, at = varint(buffer, at, stop)
            if length > stop - at:
                raise WireError(begin, f"field {number} claims {length} bytes, {stop - at} are left")
            yield Field(number, wire, length, at)
            at += length
        elif wire in (FIXED32, FIXED64):
            width = 4 if wire == FIXED32 else 8
            if width > stop - at:
                raise WireError(begin, f"field {number} is cut off")
            yield Field(number, wire, int.from_bytes(buffer[at : at + width], "little"), at)
            at += width
        else:
            raise WireError(begin, f"wire type {wire}")


def packed(field: Field, buffer: memoryview) -> Iterator[int]:
    """The integers of a repeated varint field, packed or not."""
    if field.wire == VARINT:
        yield field.value
        return
    at, end = field.offset, field.end
    if field.wire != BYTES:
        raise WireError(at, f"field {field.number}: wanted integers")
    while at < end:
        value, at = varint(buffer, at, end)
        yield value


_SHORT = [bytes((value,)) for value in range(0x80)]


def encode_varint(value: int) -> bytes:
    """An integer as a varint; negative ones as their 64-bit two's complement.

    >>> encode_varint(300).hex()
    'ac02'
    """
    if 0 <= value < 0x80:
        return _SHORT[value]
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def integer(number: int, value: int) -> bytes:
    """A varint field."""
    return encode_varint(number << 3 | VARINT) + encode_varint(value)


def fixed32(number: int, value: int) -> bytes:
    """A fixed32 field."""
    return encode_varint(number << 3 | FIXED32) + struct.pack("<I", value)


def head(number: int, length: int) -> bytes:
    """Key and length of a bytes field whose payload follows elsewhere."""
    return encode_varint(number << 3 | BYTES) + encode_varint(length)


def message(number: int, payload: bytes | str) -> bytes:
    """A bytes, string or message field."""
    data = payload.encode() if isinstance(payload, str) else payload
    return head(number, len(data)) + data
