"""Zip archives read in place: the central directory checked, members found, nothing unpacked.

The standard library's zipfile is lenient where a checkpoint must not be: records may overlap, local
headers may contradict the directory, and sizes are believed. Here every number is held against the
bytes that are there before it is used.

Reference: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3 (zip64).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from porting.checkpoint.checksum import crc32
from porting.checkpoint.pieces import HELD
from porting.checkpoint.storage import MappedFile
from porting.checkpoint.zip_names import LOCAL_MAGIC
from porting.errors import FormatError

STORED, DEFLATED = 0, 8

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")

_MAX = 0xFFFFFFFF
"""Stands where a number is in the zip64 form."""

_MEMBERS = 500_000
"""Members at most: each costs some 600 bytes of memory here and 46 in the file."""

_RATIO = 1100
"""Deflate cannot do better than 1032 to 1 (zlib, "Maximum Compression Factor")."""

_SLACK = 64 << 20
"""Unpacked bytes that any archive may claim; beyond that at most 64 times its size (else: a zip bomb)."""


class Member(NamedTuple):
    """One record of an archive.

    offset: where its bytes begin in the file, after the local header.
    packed, size: bytes in the file and when unpacked; equal for stored members.
    crc: CRC-32 of the unpacked bytes, as the central directory has it.
    comment: the member's own comment in the central directory.
    """

    name: str
    method: int
    offset: int
    packed: int
    size: int
    crc: int
    comment: str


class Archive(NamedTuple):
    """The members of one mapped zip file by name, in the directory's order."""

    file: MappedFile
    members: Mapping[str, Member]

    def pieces(self, member: Member, piece: int = 1 << 20) -> Iterator[bytes | memoryview]:
        """The unpacked bytes of a member, about `piece` at a time.

        Raises: FormatError if they do not inflate to exactly the size that was claimed.
        """
        raw = self.file.bytes(member.offset, member.packed, member.name)
        if member.method == STORED:
            for at in range(0, member.size, piece):
                yield raw[at : at + piece]
                self._passed(member, at, piece)
            return
        engine, done, rest = zlib.decompressobj(-15), 0, b""
        at = 0
        while not engine.eof and (rest or at < len(raw)):
            chunk = rest or raw[at : at + piece]
            if not rest:
                self._passed(member, at, piece)
                at += piece
            try:
                out = engine.decompress(chunk, piece)
            except zlib.error as error:
                raise FormatError(self.file.path, member.name, f"damaged: {error}") from None
            rest = engine.unconsumed_tail
            done += len(out)
            if done > member.size:
                break
            yield out
        if done != member.size or not engine.eof:
            raise FormatError(
                self.file.path,
                member.name,
                f"wanted {member.size} unpacked bytes, got {'more' if done > member.size else done}",
            )

    def _passed(self, member: Member, at: int, length: int) -> None:
        """Give back the pages behind a reader, HELD bytes at a time: a member may be larger than memory."""
        start = at - at % HELD
        if at + length >= start + HELD:
            self.file.release(member.offset + start, min(at + length, member.packed) - start)

    def bytes(self, name: str, limit: int) -> bytes:
        """A whole small member.

        Raises: FormatError if there is none of that name, or it is longer than `limit`.
        """
        member = self.members.get(name)
        if member is None:
            raise FormatError(self.file.path, name, "the record is missing")
        if member.size > limit:
            raise FormatError(self.file.path, name, f"wanted at most {limit} bytes, got {member.size}")
        return b"".join(self.pieces(member))

    def wrong_checksums(self) -> Iterator[str]:
        """A line per member whose CRC-32 does not fit its bytes.

        An archive whose CRCs are all zero has none: torch.serialization.set_crc32_options(False) writes so.
        """
        if not any(member.crc for member in self.members.values()):
            return
        for member in self.members.values():
            value = 0
            try:
                for piece in self.pieces(member):
                    value = crc32(piece, value)
            except FormatError as error:
                yield str(error)
                continue
            if value != member.crc:
                yield f"{self.file.path}: {member.name}: wanted CRC-32 {member.crc:08x}, got {value:08x}"
            self.file.release(member.offset, member.packed)


def open_archive(path: Path) -> Archive:
    """Map a zip file and check its directory against it.

    Raises: FormatError for anything that is not a plain, single-disk, unencrypted archive whose members
    lie one after the other.
    """
    file = MappedFile(path)
    start, size, count = _directory(file)
    members: dict[str, Member] = {}
    begins: list[tuple[int, int, str]] = []
    at = start
    for _ in range(count):
        member, header, at = _central(file, at, start + size)
        if member.name in members:
            raise FormatError(path, member.name, "occurs twice in the archive")
        members[member.name] = member
        begins.append((header, member.offset + member.packed, member.name))
    if at != start + size:
        raise FormatError(path, "central directory", f"wanted {count} members, got bytes left over")
    begins.sort()
    for (_, end, name), (begin, _, following) in zip(begins, [*begins[1:], (start, start, "directory")], strict=True):
        if end > begin:
            raise FormatError(path, name, f"overlaps {following}: ends at {end}, which begins at {begin}")
    unpacked = sum(member.size for member in members.values() if member.method == DEFLATED)
    if unpacked > max(_SLACK, 64 * file.size):
        raise FormatError(path, "", f"claims to unpack {file.size} bytes into {unpacked}: a zip bomb")
    return Archive(file, members)


def _directory(file: MappedFile) -> tuple[int, int, int]:
    """Offset, bytes and number of members of the central directory."""
    tail = max(0, file.size - _END.size - 0xFFFF)
    end = bytes(file.view[tail:]).rfind(b"PK\x05\x06")
    if end < 0 or tail + end + _END.size > file.size:
        raise FormatError(file.path, "", "not a whole zip file: the end record is missing (cut off?)")
    end += tail
    _, disk, first, here, count, size, start, comment = _END.unpack(file.bytes(end, _END.size, "end record"))
    if end + _END.size + comment != file.size:
        raise FormatError(file.path, "end record", "wanted the end of the file behind it")
    limit = end
    if end >= _LOCATOR64.size and bytes(file.view[end - _LOCATOR64.size :][:4]) == b"PK\x06\x07":
        where = _LOCATOR64.unpack(file.bytes(end - _LOCATOR64.size, _LOCATOR64.size, "zip64 locator"))[2]
        if where + _END64.size + _LOCATOR64.size != end:
            raise FormatError(file.path, "zip64 locator", f"wanted the zip64 end record before it, got offset {where}")
        short = (count, size, start)
        magic, _, _, _, disk, first, here, count, size, start = _END64.unpack(
            file.bytes(where, _END64.size, "zip64 end record")
        )
        wide = zip((count, size, start), short, (0xFFFF, _MAX, _MAX), strict=True)
        if magic != b"PK\x06\x06" or any(few not in {value, most} for value, few, most in wide):
            raise FormatError(file.path, "zip64 end record", "says something else than the end record")
        limit = where
    if disk or first or here != count:
        raise FormatError(file.path, "end record", "an archive of several disks")
    if start + size != limit or count * _CENTRAL.size > size:
        raise FormatError(
            file.path, "central directory", f"wanted {count} members up to offset {limit}, got {size} bytes at {start}"
        )
    if count > _MEMBERS:
        raise FormatError(file.path, "central directory", f"wanted at most {_MEMBERS} members, got {count}")
    return start, size, count


def _central(file: MappedFile, at: int, end: int) -> tuple[Member, int, int]:
    """The directory entry at `at`: its member, the offset of its local header, the offset after it."""
    if at + _CENTRAL.size > end:
        raise FormatError(file.path, "central directory", "cut off")
    (magic, _, _, flags, method, _, _, crc, packed, size, name_len, extra_len, comment_len, disk, _, _, header) = (
        _CENTRAL.unpack(file.bytes(at, _CENTRAL.size, "central directory"))
    )
    place = f"central directory at {at}"
    at += _CENTRAL.size
    if magic != b"PK\x01\x02" or at + name_len + extra_len + comment_len > end:
        raise FormatError(file.path, place, "damaged")
    raw = bytes(file.view[at : at + name_len])
    name = _name(file, raw, flags, place)
    extra = bytes(file.view[at + name_len : at + name_len + extra_len])
    size, packed, header = _zip64(file, name, extra, (size, packed, header))
    at += name_len + extra_len
    comment = bytes(file.view[at : at + comment_len]).decode("utf-8", "replace")
    if flags & 0x2041 or disk not in {0, 0xFFFF}:
        raise FormatError(file.path, name, "is encrypted or on another disk")
    if method not in {STORED, DEFLATED}:
        raise FormatError(file.path, name, f"wanted a stored or deflated member, got compression method {method}")
    if (method == STORED and size != packed) or size > packed * _RATIO:
        raise FormatError(file.path, name, f"{packed} bytes cannot hold {size}")
    offset = _behind_local_header(file, header, raw, name, method)
    file.bytes(offset, packed, name)
    return Member(name, method, offset, packed, size, crc, comment), header, at + comment_len


def _name(file: MappedFile, raw: bytes, flags: int, place: str) -> str:
    try:
        name = raw.decode("utf-8" if flags & 0x800 else "cp437")
    except UnicodeDecodeError:
        raise FormatError(file.path, place, "a name that is not UTF-8") from None
    if not name or "\0" in name or name.startswith("/") or ".." in name.replace("\\", "/").split("/"):
        raise FormatError(file.path, place, f"a name that leads elsewhere: {name!r}")
    return name


def _zip64(file: MappedFile, name: str, extra: bytes, short: tuple[int, int, int]) -> tuple[int, int, int]:
    """Size, packed size and header offset: those at their 32-bit maximum stand in the zip64 extra field."""
    wide = b""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            wide = extra[at + 4 : at + 4 + length]
        at += 4 + length
    values: list[int] = []
    for value in short:
        if value != _MAX:
            values.append(value)
        elif len(wide) >= 8:
            values.append(int.from_bytes(wide[:8], "little"))
            wide = wide[8:]
        else:
            raise FormatError(file.path, name, "its zip64 field is cut off")
    return values[0], values[1], values[2]


def _behind_local_header(file: MappedFile, header: int, raw: bytes, name: str, method: int) -> int:
    """Offset of a member's bytes, its local header found to agree with the directory."""
    magic, _, _, local_method, *_, name_len, extra_len = _LOCAL.unpack(file.bytes(header, _LOCAL.size, name))
    begin: int = header + _LOCAL.size
    if magic != LOCAL_MAGIC or local_method != method or bytes(file.bytes(begin, name_len, name)) != raw:
        raise FormatError(file.path, name, f"its local header at {header} says something else than the directory")
    return begin + int(name_len) + int(extra_len)
