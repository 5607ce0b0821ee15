"""Raw Snappy, decoded. TensorFlow compressed tables for a while in 2017, and readers still meet them.

Reference: google/snappy, format_description.txt.
"""

from __future__ import annotations

from porting.checkpoint.wire import WireError, varint

_BEST_RATIO = 22
"""No element makes more of its bytes: a copy of 64 takes three."""


def decompress(data: memoryview) -> bytes:
    """The uncompressed bytes.

    Raises: WireError if the stream is malformed or claims more than its elements can amount to.
    """
    length, at = varint(data, 0, len(data))
    if length > _BEST_RATIO * len(data):
        raise WireError(0, f"{len(data)} bytes of Snappy cannot hold the {length} that they claim")
    out = bytearray()
    while at < len(data):
        begin = at
        tag = data[at]
        size, at = (_literal if tag & 3 == 0 else _copy)(data, at, tag, out)
        if len(out) > length or not size:
            raise WireError(begin, f"wanted {length} bytes of Snappy, got more")
    if len(out) != length:
        raise WireError(at, f"wanted {length} bytes of Snappy, got {len(out)}")
    return bytes(out)


def _literal(data: memoryview, at: int, tag: int, out: bytearray) -> tuple[int, int]:
    """Append a literal; its size, and the offset after it."""
    size = tag >> 2
    begin = at + 1
    if size >= 60:
        begin += size - 59
        size = int.from_bytes(data[at + 1 : begin], "little")
    size += 1
    if begin + size > len(data):
        raise WireError(at, f"a literal of {size} bytes is cut off")
    out += data[begin : begin + size]
    return size, begin + size


def _copy(data: memoryview, at: int, tag: int, out: bytearray) -> tuple[int, int]:
    """Append a copy of what is `distance` back (it may reach into itself); its size, and the offset after it."""
    width = (0, 1, 2, 4)[tag & 3]
    if at + 1 + width > len(data):
        raise WireError(at, "a copy is cut off")
    distance = int.from_bytes(data[at + 1 : at + 1 + width], "little")
    size = (tag >> 2) + 1
    if width == 1:
        distance |= tag >> 5 << 8
        size = (tag >> 2 & 7) + 4
    if not 0 < distance <= len(out):
        raise WireError(at, f"a copy from {distance} back, {len(out)} bytes are there")
    start = len(out) - distance
    piece = out[start : start + size]
    out += (piece * (size // len(piece) + 1))[:size]
    return size, at + 1 + width
