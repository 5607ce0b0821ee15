"""Zip archives laid out before their members' bytes are known: offsets first, checksums last.

Members are stored, aligned by a padding field in their local header, and take the zip64 form where
they need it. Two styles: `torch`, byte for byte as PyTorch's writer (checksums in a descriptor behind
the data, zip64 end records always), and `plain`, checksums and sizes in the local header, which every
zip reader takes.

Reference: PKWARE APPNOTE.TXT 6.3.10; torch's caffe2/serialize/inline_container.cc (`getPadding`) and
the miniz it uses (`mz_zip_writer_add_mem_ex_v2`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from porting.checkpoint.checksum import combine_crc32, crc32
from porting.checkpoint.format import Checksums, Extent, Patch

ALIGNMENT = 64

_MAX = 0xFFFFFFFF
_UTF8, _DESCRIPTOR = 0x0800, 0x0008

Style = Literal["torch", "plain"]


class Record(NamedTuple):
    """A member to be written: bytes known now, then a tensor's that come later.

    tensor: name of the tensor, or None.
    nbytes: of the tensor.
    comment: the member's comment in the central directory.
    """

    name: str
    head: bytes = b""
    tensor: str | None = None
    nbytes: int = 0
    comment: str = ""

    @property
    def size(self) -> int:
        """Bytes of the whole member."""
        return len(self.head) + self.nbytes


class Placed(NamedTuple):
    """A record and where it lies: its local header at `header`, its bytes at `data`, the next record at `end`."""

    record: Record
    header: int
    data: int
    end: int

    @property
    def wide(self) -> bool:
        """Whether it needs the zip64 form."""
        return self.record.size >= _MAX or self.header >= _MAX


def place(records: Sequence[Record], style: Style, begin: int = 0) -> tuple[Placed, ...]:
    """Lay records out one after the other from offset `begin`."""
    placed: list[Placed] = []
    at = begin
    for record in records:
        wide = record.size >= _MAX or at >= _MAX
        start = at + 30 + len(record.name.encode()) + len(_zip64_field(record.size, at)) + 4
        data = start + -start % ALIGNMENT
        end = data + record.size
        if style == "torch" and record.size:
            end += 24 if wide else 16
        placed.append(Placed(record, at, data, end))
        at = end
    return tuple(placed)


def extents(placed: Sequence[Placed], file: int) -> dict[str, tuple[Extent, ...]]:
    """Where every tensor's bytes go in output file number `file`."""
    return {
        item.record.tensor: (Extent(file, item.data + len(item.record.head), item.record.nbytes),)
        for item in placed
        if item.record.tensor is not None
    }


def checksum(record: Record, tensors: Checksums) -> int:
    """CRC-32 of a record, given those of the tensors."""
    if record.tensor is None:
        return crc32(record.head)
    return combine_crc32(crc32(record.head), tensors[record.tensor][0], record.nbytes)


def local(placed: Sequence[Placed], file: int, style: Style, crcs: Mapping[str, int]) -> list[Patch]:
    """Local headers, the known bytes behind them and the descriptors, given each record's CRC-32."""
    patches: list[Patch] = []
    for item in placed:
        record = item.record
        raw = record.name.encode()
        field = _zip64_field(record.size, item.header)
        padding = item.data - item.header - 34 - len(raw) - len(field)
        field += b"FB" + struct.pack("<H", padding) + b"Z" * padding
        flags, crc, size = _UTF8, crcs[record.name], min(record.size, _MAX)
        if style == "torch":
            flags |= _DESCRIPTOR if record.size else 0
            crc = size = 0
        version = 45 if style == "plain" and item.wide else 20 if style == "plain" else 0
        date = 0x21 if style == "plain" else 0  # 1980-01-01, the earliest; torch's zeros are no date
        head = struct.pack(
            "<4s5H3I2H", b"PK\x03\x04", version, flags, 0, 0, date, crc, size, size, len(raw), len(field)
        )
        patches.append(Patch(file, item.header, head + raw + field + record.head))
        if style == "torch" and record.size:
            form = "<4sI2Q" if item.wide else "<4s3I"
            tail = struct.pack(form, b"PK\x07\x08", crcs[record.name], record.size, record.size)
            patches.append(Patch(file, item.data + record.size, tail))
    return patches


def directory(placed: Sequence[Placed], file: int, style: Style, crcs: Mapping[str, int]) -> Patch:
    """The central directory and the end records."""
    start = placed[-1].end if placed else 0
    out = bytearray()
    for item in placed:
        record, raw = item.record, item.record.name.encode()
        field = _zip64_field(record.size, item.header)
        comment = record.comment.encode()
        size = min(record.size, _MAX)
        flags = _UTF8 | (_DESCRIPTOR if style == "torch" and record.size else 0)
        version = 45 if style == "plain" and item.wide else 20 if style == "plain" else 0
        date = 0x21 if style == "plain" else 0
        out += struct.pack(
            "<4s6H3I5H2I",
            b"PK\x01\x02",
            version,
            version,
            flags,
            0,
            0,
            date,
            crcs[record.name],
            size,
            size,
            len(raw),
            len(field),
            len(comment),
            0,
            0,
            0,
            min(item.header, _MAX),
        )
        out += raw + field + comment
    length, count = len(out), len(placed)
    if style == "torch" or start + length >= _MAX or count >= 0xFFFF:
        where = start + length
        out += struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 0x031E, 45, 0, 0, count, count, length, start)
        out += struct.pack("<4sIQI", b"PK\x06\x07", 0, where, 1)
    few = min(count, 0xFFFF)
    out += struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, few, few, min(length, _MAX), min(start, _MAX), 0)
    return Patch(file, start, bytes(out))


def _zip64_field(size: int, header: int) -> bytes:
    """The zip64 extra field: those of size (twice) and header offset that do not fit in 32 bits."""
    values = [size, size] if size >= _MAX else []
    if header >= _MAX:
        values.append(header)
    return struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values) if values else b""
