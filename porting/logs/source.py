"""The text of a log as blocks of whole lines, whatever it is packed in, in bounded memory."""

from __future__ import annotations

import codecs
import io
import os
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Self

import xxhash

from porting.acceptance.trajectory import Input
from porting.errors import FormatError

BLOCK = 512 << 10
"""Bytes read at a time: what a core's own cache holds beside what is found in them."""

LONGEST = 1 << 20
"""Bytes of a line at most. A longer one is left out, and said."""

GZIP = b"\x1f\x8b"
BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Marks and encodings; the longer before those that they begin with."""


class _Hashed(io.RawIOBase):
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self.file, self.digest, self.size = file, xxhash.xxh3_128(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self.file.readinto(buffer)  # type: ignore[attr-defined]
        self.digest.update(memoryview(buffer)[:count])
        self.size += count
        return int(count)


class Source:
    """A file that is being read once, front to back. A context manager that closes it.

    notes: what was met so far. tail: the last line, if nothing ends it; known once `blocks` is exhausted.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file. Raises: FormatError if it cannot be read."""
        self.path = Path(path)
        self.notes: list[str] = []
        self.tail = b""
        try:
            if not self.path.is_file():
                problem = "is a folder" if self.path.is_dir() else "is not a file"
                raise FormatError(path, "", problem if self.path.exists() else "does not exist")
            self._raw = _Hashed(self.path.open("rb", buffering=0))
        except OSError as error:
            raise FormatError(path, "", f"cannot be read: {error.strerror}") from None
        except ValueError:
            raise FormatError(path, "", "is no name of a file") from None
        self._chunks = self._decoded()
        self._ahead: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._raw.file.close()

    def head(self, size: int) -> bytes:
        """The first bytes of the text, which `blocks` still gives."""
        while sum(map(len, self._ahead)) < size and (chunk := next(self._chunks, b"")):
            self._ahead.append(chunk)
        return b"".join(self._ahead)[:size]

    def blocks(self) -> Iterator[bytes]:
        r"""The text in blocks of whole lines, each ended by `\n`: other ends become that."""
        rest, skipped, lost = b"", 0, 0
        for chunk in self._text():
            cut = chunk.rfind(b"\n") + 1
            if skipped:  # within a line that is too long
                end = chunk.find(b"\n")
                skipped += len(chunk) if end < 0 else end
                if end < 0:
                    continue
                lost, skipped, rest, chunk, cut = lost + 1, 0, b"", chunk[end + 1 :], cut - end - 1  # noqa: PLW2901
            if cut:
                yield rest + chunk[:cut] if rest else chunk[:cut]
                rest = chunk[cut:]
            else:
                rest += chunk
            if len(rest) > LONGEST:
                rest, skipped = b"", len(rest)
        self.tail = rest
        if lost or skipped:
            self.notes.append(f"{lost + bool(skipped)} lines of more than {LONGEST} bytes were left out")

    def whole(self, limit: int) -> bytes:
        """All of the text. Raises: FormatError if it has more bytes than limit."""
        parts, size = [], 0
        for chunk in self._text():
            size += len(chunk)
            if size > limit:
                raise FormatError(self.path, "", f"is a document of more than {limit} bytes")
            parts.append(chunk)
        return b"".join(parts)

    def lines(self) -> Iterator[str]:
        """The text line by line, with the last one even if nothing ends it; without empty ones."""
        for block in self.blocks():
            yield from (line for line in block.decode("utf-8", "replace").split("\n") if line.strip())
        if self.tail.strip():
            yield self.tail.decode("utf-8", "replace")

    def input(self) -> Input:
        """Size and hash of the file as it lies there."""
        while self._raw.read(BLOCK):
            pass
        return Input(str(self.path), self._raw.size, f"xxh3_128:{self._raw.digest.hexdigest()}")

    def _text(self) -> Iterator[bytes]:
        held = b""  # a `\r` whose `\n` may come
        ahead, self._ahead = self._ahead, []
        for chunk in chain(ahead, self._chunks):
            text = held + chunk if held else chunk
            held = b""
            if b"\r" in text:
                if text.endswith(b"\r"):
                    text, held = text[:-1], b"\r"
                text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            if text:
                yield text
        if held:
            yield b"\n"

    def _decoded(self) -> Iterator[bytes]:
        chunks = self._unpacked()
        first = next(chunks, b"")
        encoding = next((name for mark, name in BOMS.items() if first.startswith(mark)), "")
        if encoding in ("", "utf-8-sig"):
            yield first.removeprefix(codecs.BOM_UTF8)
            yield from chunks
            return
        decode = codecs.getincrementaldecoder(encoding)("replace").decode
        yield decode(first).encode("utf-8", "replace")
        for chunk in chunks:
            yield decode(chunk).encode("utf-8", "replace")

    def _unpacked(self) -> Iterator[bytes]:
        first = self._raw.read(BLOCK) or b""
        if not first.startswith(GZIP):
            while first:
                yield first
                first = self._raw.read(BLOCK) or b""
            return
        unpack = zlib.decompressobj(31)
        try:
            while first:
                yield unpack.decompress(first, BLOCK)
                first = unpack.unconsumed_tail or unpack.unused_data or self._raw.read(BLOCK) or b""
                if unpack.eof and first:
                    if not first.startswith(GZIP):  # padding behind the last member
                        break
                    unpack = zlib.decompressobj(31)
            if not unpack.eof:
                self.notes.append("the gzip stream ends early: what was there was read")
        except zlib.error as error:
            self.notes.append(f"the gzip stream is damaged ({error}): what came before was read")
