"""Documents of a corpus: plain text and WikiExtractor's output, from files, folders and bz2.

Plain text has a sentence a line and an empty line between documents, as BERT's script wants it. WikiExtractor writes
`<doc …>` and `</doc>` around an article, or a JSON object with a `text` per line; there a line is a paragraph,
which is cut into sentences, and the line that repeats the title goes.
"""

from __future__ import annotations

import bz2
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from porting.errors import FormatError, UsageError

Document = list[str]
"""Sentences."""

OPENING = re.compile(r"<doc( [^>]*)?>")
TITLE = re.compile(r'title="([^"]*)"')
CLOSING = "</doc>"

_CLOSERS = "」』”’）"  # noqa: RUF001 - Chinese
_END = re.compile(
    r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[^\W_a-z])"
    rf"|(?<=[。！？])[{_CLOSERS}]*(?![。！？{_CLOSERS}])"  # noqa: RUF001 - Chinese
)
"""Where a sentence ends: a mark, a space, no small letter after it; or a Chinese mark. Closing quotes stay with it."""

_NO_END = re.compile(r"(?:\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|cf|No|Vol|pp|Inc|Ltd|Co|e\.g|i\.e))\.$")
"""What ends with a full stop and ends no sentence: initials and the commonest abbreviations."""


@dataclass(frozen=True, slots=True)
class Read:
    """A document and how many bytes of all files have been read when it ends."""

    sentences: Document
    upto: int


def sentences(paragraph: str) -> list[str]:
    """A paragraph cut into sentences, by rule: BERT's next-sentence task needs boundaries, not perfect ones.

    >>> sentences("Dr. A. Smith came. Did he? Version 2.0 is out.")
    ['Dr. A. Smith came.', 'Did he?', 'Version 2.0 is out.']
    """
    found, start = [], 0
    for match in _END.finditer(paragraph):
        part = paragraph[start : match.start()].strip()
        abbreviated = match[0][:1].isspace() and _NO_END.search(part)
        if part and not abbreviated:
            found.append(paragraph[start : match.end()].strip())
            start = match.end()
    rest = paragraph[start:].strip()
    return [*found, rest] if rest else found


def corpus_files(sources: Sequence[Path]) -> list[Path]:
    """Every file of the sources, those of folders in the order of their names. Hidden files are left out.

    Raises: UsageError for a source that is not there, and for none at all.
    """
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            inside = sorted(path for path in source.rglob("*") if path.is_file())
            found += [
                path for path in inside if not any(part.startswith(".") for part in path.relative_to(source).parts)
            ]
        elif source.exists():
            found.append(source)
        else:
            raise UsageError(f"{source}: there is no such file or folder")
    if not found:
        raise UsageError("wanted text, got no file")
    return found


def documents(files: Sequence[Path]) -> Iterator[Read]:
    """The documents of all files in order, one in memory at a time. As in BERT's script, a document of plain text does
    not end with its file, only at an empty line.

    Raises: FormatError for a file that is no UTF-8 text, a damaged bz2, JSON without a text, an article without an end.
    """
    before, plain = 0, Document()
    for path in files:
        try:
            with path.open("rb") as file:
                kind, lines = _opened(path, file)
                if kind == "plain":
                    for line in lines:
                        text = line.strip()
                        if text:
                            plain.append(text)
                        elif plain:
                            yield Read(plain, before + file.tell())
                            plain = []
                else:
                    if plain:
                        yield Read(plain, before)
                        plain = []
                    for article in _articles(path, lines) if kind == "doc" else _objects(path, lines):
                        yield Read(article, before + file.tell())
                before += file.tell()
        except (OSError, EOFError) as error:
            raise FormatError(path, "", f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if plain:
        yield Read(plain, before)


def _opened(path: Path, file: BinaryIO) -> tuple[str, Iterator[str]]:
    """What kind of text a file holds, and its lines."""
    packed = file.read(3) == b"BZh"
    file.seek(0)
    lines, begun, kind = _lines(path, bz2.BZ2File(file) if packed else file), list[str](), "plain"
    for line in lines:
        begun.append(line)  # an empty line ends a document that began in the file before
        text = line.strip()
        if text:
            kind = "doc" if OPENING.match(text) else "json" if text.startswith("{") and '"text"' in text else "plain"
            break
    return kind, chain(begun, lines)


def _lines(path: Path, file: BinaryIO | bz2.BZ2File) -> Iterator[str]:
    number = 0
    while line := file.readline():  # not by iteration, which forbids asking where the file is
        number += 1
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(path, f"line {number}, byte {error.start}", "wanted UTF-8 text") from None


def _articles(path: Path, lines: Iterator[str]) -> Iterator[Document]:
    """Between <doc …> and </doc>."""
    article: Document | None = None
    title = None
    for line in lines:
        text = line.strip()
        if OPENING.match(text):
            if article is not None:
                raise FormatError(path, text[:80], "a <doc> begins before the last one ended")
            article, named = Document(), TITLE.search(text)
            title = named[1] if named else None
        elif text == CLOSING:
            if article:
                yield article
            article = None
        elif article is not None and text != title:
            article += sentences(text)
        elif text:
            title = None  # the title stands once; after that the same words are text
            if article is None:
                raise FormatError(path, text[:80], "wanted <doc …>, got text outside of an article")
    if article is not None:
        raise FormatError(path, "end", "wanted </doc>, got the end of the file: it is cut off")


def _objects(path: Path, lines: Iterator[str]) -> Iterator[Document]:
    """A JSON object per line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            text, title = value["text"], value.get("title")
            paragraphs = text.split("\n")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise FormatError(path, f"line {number}", 'wanted a JSON object with a "text"') from None
        if title is not None and paragraphs[0].strip() == title:
            paragraphs = paragraphs[1:]
        article = [sentence for paragraph in paragraphs for sentence in sentences(paragraph)]
        if article:
            yield article
