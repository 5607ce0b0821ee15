"""Rows of a data set's file: cut into blocks by the parent, read one by one by the workers.

A tab-separated line is read as the originals read it: quotation marks are characters like others. A row that cannot be
used is never lost: it comes back as `Bad` with its line and its reason.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from porting.data.tasks import Columns, Split, Task, headed
from porting.errors import FormatError

BLOCK = 256 << 10
"""Bytes that a worker gets at a time: some thousand rows."""

BOM = b"\xef\xbb\xbf"
NEWS = "_!_"
"""What the news sets of Chinese sites put between columns."""


class Row(NamedTuple):  # made for every row: a tuple is made five times as fast as a frozen dataclass
    """A row that can be used. label: a class's number or a value. remarks: what was odd and kept."""

    a: str
    b: str | None
    label: int | float
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that cannot be used. reason: what is counted; detail: what stands there."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Source:
    """How a file's rows are read. kind: tab, news (`_!_`), or json (an object or a list of fields per line).

    first: number of the first row's line, from 1. skip: bytes before it.
    """

    path: Path
    kind: str
    columns: Columns
    first: int
    skip: int
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines. first: number of the first one. upto: bytes of the file that are read when it is done."""

    first: int
    data: bytes
    upto: int


def open_source(path: Path, task: Task, split: Split, *, quoted: bool) -> Source:
    """Look at the beginning of a file.

    quoted: fields may be wrapped in quotation marks as csv writers do, with tabs and line ends inside.
    Raises: FormatError for a file that cannot be read, is empty or has a header that lacks a column.
    """
    try:
        with path.open("rb") as file:
            head = file.read(1 << 20)
    except OSError as error:
        raise FormatError(path, "", f"cannot be read: {error.strerror or error}") from None
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise FormatError(path, "", "wanted UTF-8 text, got UTF-16")
    body = head.removeprefix(BOM)
    if not body.strip():
        raise FormatError(path, "", "is empty")
    skip = len(head) - len(body)
    if body.lstrip()[:1] in {b"{", b"["}:
        return _json_source(path, task, split, body, skip)
    line, end, _ = body.partition(b"\n")
    fields = line.decode("utf-8", "replace").rstrip("\r").split("\t")
    columns = headed(path, task, split, fields)
    kind = "news" if NEWS in fields[0] and len(fields) == 1 else "tab"
    if columns is None:
        columns = task.plain_test if split == "test" and kind == "tab" else task.plain
        columns = _of_two(columns, fields, task, split) if kind == "tab" else columns
        return Source(path, "json" if quoted else kind, columns, 1, skip, whole=quoted)
    return Source(path, "json" if quoted else kind, columns, 2, skip + len(line) + len(end), whole=quoted)


def _of_two(columns: Columns, fields: list[str], task: Task, split: Split) -> Columns:
    """The columns of a headerless file of one or two columns, of a task of one text: the label is what is a label."""
    if task.b or len(fields) > 2 or task.regression:
        return columns
    if split == "test" and len(fields) == 1:
        return Columns(0, None, None)
    if split != "test" and len(fields) == 2:
        at = 0 if fields[0] in task.labels and fields[1] not in task.labels else 1
        return Columns(1 - at, None, at)
    return columns


def _json_source(path: Path, task: Task, split: Split, body: bytes, skip: int) -> Source:
    """An object per line, or one list of objects."""
    whole = body.lstrip().startswith(b"[")
    try:
        example = _array(path)[0] if whole else json.loads(body.lstrip().partition(b"\n")[0])
    except (ValueError, IndexError):
        raise FormatError(path, "line 1", "wanted a JSON object per line, or one list of them") from None
    if not isinstance(example, dict):
        raise FormatError(path, "line 1", f"wanted a JSON object, got {type(example).__name__}")
    keys = list(example)
    found = headed(path, task, split, keys)
    if found is None:
        raise FormatError(path, "line 1", f"wanted a key {' or '.join(task.a)}, got {', '.join(keys)}")

    def key(at: int | str | None) -> str | None:
        return keys[at] if isinstance(at, int) else None

    return Source(path, "json", Columns(key(found.a) or "", key(found.b), key(found.label)), 1, skip, whole=whole)


def _array(path: Path) -> list[Any]:
    value = json.loads(path.read_bytes().removeprefix(BOM))
    return value if isinstance(value, list) else [value]


def blocks(source: Source) -> Iterator[Block]:
    """The rows of a file in blocks of whole lines.

    Raises: FormatError if the system cannot read on, or a quoted file cannot be cut into rows.
    """
    try:
        if source.whole:
            yield from _rewritten(source)
            return
        with source.path.open("rb") as file:
            file.seek(source.skip)
            number, upto = source.first, source.skip
            while data := file.read(BLOCK):
                data += file.readline()
                upto += len(data)
                yield Block(number, data, upto)
                number += data.count(b"\n")
    except OSError as error:
        raise FormatError(source.path, "", f"cannot be read: {error.strerror or error}") from None


def _rewritten(source: Source) -> Iterator[Block]:
    """Rows that are not lines, as JSON lines; they are numbered as rows."""
    size, number = source.path.stat().st_size, source.first
    rows = _quoted(source) if isinstance(source.columns.a, int) else iter(_array(source.path))
    while some := list(islice(rows, 2000)):
        data = "\n".join(json.dumps(row) for row in some).encode()
        yield Block(number, data, min(size, source.skip + len(data)))
        number += len(some)


def _quoted(source: Source) -> Iterator[list[str]]:
    with source.path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t")
        try:
            yield from islice(reader, source.first - 1, None)
        except (csv.Error, UnicodeDecodeError) as error:
            raise FormatError(source.path, f"line {reader.line_num}", str(error)) from None


class RowReader:
    """Reads the rows of one source."""

    def __init__(self, source: Source, task: Task) -> None:
        self._columns, self._kind, self._regression = source.columns, source.kind, task.regression
        self._numbers = {label: number for number, label in enumerate(task.labels)}

    def rows(self, data: bytes) -> Iterator[Row | Bad | None]:
        """Each line as a row; None for a blank one."""
        lines: Sequence[str | Bad]
        try:
            lines = data.decode("utf-8").removesuffix("\n").split("\n")
        except UnicodeDecodeError:
            lines = [_decoded(line) for line in data.removesuffix(b"\n").split(b"\n")]
        for line in lines:
            yield self._read(line) if isinstance(line, str) else line

    def _read(self, line: str) -> Row | Bad | None:
        text = line.rstrip("\r")
        if not text:
            return None
        if self._kind != "json":
            return self._row(text.split("\t" if self._kind == "tab" else NEWS))
        try:
            fields = json.loads(text)
        except ValueError as error:
            return Bad("not JSON", str(error))
        return self._row(fields) if fields != [] else None

    def _row(self, fields: Any) -> Row | Bad:
        columns = self._columns
        try:
            a = fields[columns.a]
            b = None if columns.b is None else fields[columns.b]
            label = None if columns.label is None else fields[columns.label]
        except (KeyError, IndexError, TypeError):
            return Bad("columns are missing", _missing(columns, fields))
        if len(fields) < columns.width and columns.label is not None:
            return Bad("columns are missing", f"wanted {columns.width}, got {len(fields)}")
        if not isinstance(a, str) or not isinstance(b, str | None):
            return Bad("text is not a string", repr(b if isinstance(a, str) else a)[:80])
        number = (0.0 if self._regression else 0) if columns.label is None else self._label(label)
        return number if isinstance(number, Bad) else Row(a, b, number, self._remarks(len(fields), a, b))

    def _label(self, value: Any) -> int | float | Bad:
        """The class's number, or the value of a regression."""
        if value is None or value == "":
            return Bad("no label", "it is empty")
        text = str(value).strip()
        if not self._regression:
            number = self._numbers.get(text)
            return Bad("unknown label", repr(text)[:80]) if number is None else number
        try:
            score = float(text)
        except ValueError:
            score = math.nan
        return score if math.isfinite(score) else Bad("label is not a number", repr(text)[:80])

    def _remarks(self, width: int, a: str, b: str | None) -> tuple[str, ...]:
        """What is odd about a row and kept as the originals keep it."""
        found: tuple[str, ...] = ()
        if 0 < self._columns.width < width:
            found += ("more columns than the header",)
        if not a or a.isspace() or (b is not None and (not b or b.isspace())):
            found += ("an empty text",)
        if self._kind == "tab" and (_wrapped(a) or (b and _wrapped(b))):
            found += ("a text wrapped in quotation marks, which were kept",)
        return found


def _wrapped(text: str) -> bool:
    return text[:1] == '"' and len(text) > 1 and text[-1] == '"'


def _decoded(line: bytes) -> str | Bad:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        return Bad("not UTF-8", f"byte {error.start} of the line")


def _missing(columns: Columns, fields: Any) -> str:
    if isinstance(fields, dict):
        wanted = [str(c) for c in (columns.a, columns.b, columns.label) if c is not None]
        return f"wanted {', '.join(wanted)}, got {', '.join(map(str, fields))}"
    if not isinstance(fields, list):
        return f"wanted an object, got {type(fields).__name__}"
    highest = max(c for c in (columns.a, columns.b, columns.label) if isinstance(c, int)) + 1
    return f"wanted {max(columns.width, highest)}, got {len(fields)}"
