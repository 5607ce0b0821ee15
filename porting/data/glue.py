"""GLUE's files, and others of their shape, as records: feature for feature what run_classifier writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from porting.data.layout import Laid
from porting.data.pool import cores, in_order
from porting.data.records import Encoder, Label
from porting.data.rows import Bad, Block, Row, RowReader, Source, blocks, open_source
from porting.data.sinks import MindRecordSink, TFRecordSink, require_schema, write_schema
from porting.data.tasks import Split, Task, split_of
from porting.data.tokenizing import Tokens
from porting.errors import FormatError, UsageError
from porting.version import VERSION

SMALL = 2 << 20
"""Bytes of input per worker below which starting one costs more than it saves."""

NAMED = 20
"""Rows that are left out and named with their line; the others are counted."""

SUFFIXES = {"tfrecord": ".tfrecord", "mindrecord": ".mindrecord"}


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker has to know."""

    tokens: Tokens
    source: Source
    task: Task
    length: int
    framed: bool


@dataclass(slots=True)
class Count:
    """What became of the rows. left_out, remarks: by reason. named: the first left out: line, reason, what."""

    rows: int = 0
    written: int = 0
    cut: int = 0
    blank: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    named: list[tuple[int, str, str]] = field(default_factory=list)

    def miss(self, line: int, row: Bad | None) -> None:
        """Count a line that gives no record."""
        if row is None:
            self.blank += 1
            return
        self.rows += 1
        self.left_out[row.reason] += 1
        if len(self.named) < NAMED:
            self.named.append((line, row.reason, row.detail))

    def add(self, other: Count) -> None:
        """Take in what became of later rows."""
        self.rows += other.rows
        self.written += other.written
        self.cut += other.cut
        self.blank += other.blank
        self.left_out += other.left_out
        self.remarks += other.remarks
        self.named += other.named[: NAMED - len(self.named)]


@dataclass(frozen=True, slots=True)
class Done:
    """A block's records, framed as one piece or as sequences with labels."""

    count: Count
    upto: int
    framed: bytes
    sequences: list[tuple[Laid, Label]]


@dataclass(frozen=True, slots=True)
class Account:
    """What was made of one file."""

    source: Path
    output: Path
    task: Task
    split: Split
    count: Count
    padding: int
    length: int
    tokens: Tokens

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        count = self.count
        return {
            "tool": f"porting-kit {VERSION}",
            "source": str(self.source),
            "task": self.task.name,
            "split": self.split,
            "labels": list(self.task.labels),
            "max_seq_length": self.length,
            **self.tokens.account(),
            "rows": count.rows,
            "records": count.written + self.padding,
            "padding_records": self.padding,
            "texts_cut": count.cut,
            "blank_lines": count.blank,
            "left_out": dict(count.left_out),
            "first_left_out": [{"line": line, "reason": why, "got": what} for line, why, what in count.named],
            "kept_with_remark": dict(count.remarks),
        }


def block_converter(job: Job) -> Callable[[Block], Done]:
    """The worker's function: one block of lines to records."""
    tokenizer, layout, reader = job.tokens.tokenizer(), job.tokens.layout(job.length), RowReader(job.source, job.task)
    encoder = Encoder(layout, job.task.regression)

    def convert(block: Block) -> Done:
        count, framed, sequences = Count(), list[bytes](), list[tuple[Laid, Label]]()
        for number, row in enumerate(reader.rows(block.data), block.first):
            if not isinstance(row, Row):
                count.miss(number, row)
                continue
            laid = layout.lay(tokenizer.packed(row.a), tokenizer.packed(row.b) if row.b else b"")
            count.cut += laid.cut
            if row.remarks:
                count.remarks.update(row.remarks)
            if job.framed:
                framed.append(encoder.tfrecord(laid, row.label))
            else:
                sequences.append((laid, row.label))
        count.written = len(framed) + len(sequences)
        count.rows += count.written
        return Done(count, block.upto, b"".join(framed), sequences)

    return convert


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. pad_to: padding examples fill the last batch of that size, as run_classifier does on a TPU."""

    task: Task
    tokens: Tokens
    length: int = 128
    split: str | None = None
    kind: str = "tfrecord"
    quoted: bool = False
    strict: bool = False
    pad_to: int = 1
    workers: int | None = None
    overwrite: bool = False


def sources_in(source: Path) -> list[Path]:
    """The file itself, or the data files of a folder: train…, dev…, valid…, test… with .tsv, .json, .jsonl or .txt.

    Raises: UsageError for a folder without any.
    """
    if not source.is_dir():
        return [source]
    found = sorted(
        path
        for path in source.iterdir()
        if path.suffix in {".tsv", ".json", ".jsonl", ".txt"}
        and path.stem.startswith(("train", "dev", "valid", "test"))
    )
    if not found:
        raise UsageError(f"{source}: holds no train, dev or test file (.tsv, .json, .jsonl, .txt)")
    return found


def glue_to_records(
    sources: Sequence[Path],
    output: Path,
    request: Request,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Account]:
    """Convert every file to a record file, with a schema.json and an account (`NAME.port.json`) beside it.

    output: a folder; or a record file's name, for one source.
    progress: called with the bytes read and all bytes.
    Raises: UsageError, FormatError; outputs that were finished before stay.
    """
    files = [file for source in sources for file in sources_in(source)]
    suffix = SUFFIXES.get(request.kind)
    if suffix is None:
        raise UsageError(f"--format: wanted {' or '.join(SUFFIXES)}, got {request.kind}")
    if output.suffix in {".tfrecord", ".tf_record", ".mindrecord"}:
        if len(files) > 1:
            raise UsageError(f"{output}: wanted a folder for {len(files)} files, got a file's name")
        targets = [output]
    else:
        output.mkdir(parents=True, exist_ok=True)
        targets = [output / (file.stem + suffix) for file in files]
    twice = [str(target) for target, times in Counter(targets).items() if times > 1]
    if twice:
        raise UsageError(f"{twice[0]}: two sources would be written to it")
    total, before, accounts = sum(file.stat().st_size for file in files if file.is_file()), 0, list[Account]()
    for file, target in zip(files, targets, strict=True):
        report = None if progress is None else lambda done, start=before: progress(start + done, total)
        accounts.append(_convert(file, target, request, report))
        before += file.stat().st_size
    return accounts


def _convert(file: Path, target: Path, request: Request, report: Callable[[int], None] | None) -> Account:
    split = split_of(file, request.split)
    source = open_source(file, request.task, split, quoted=request.quoted)
    framed = request.kind == "tfrecord"
    encoder = Encoder(request.tokens.layout(request.length), request.task.regression)
    schema = encoder.layout.schema(regression=request.task.regression)
    require_schema(target.parent, schema, overwrite=request.overwrite, mindrecord=not framed)
    job = Job(request.tokens, source, request.task, request.length, framed)
    workers = request.workers or min(cores(), 1 + file.stat().st_size // SMALL)
    kind, count = TFRecordSink if framed else MindRecordSink, Count()
    with (
        kind(target, encoder, overwrite=request.overwrite) as sink,
        closing(in_order("porting.data.glue:block_converter", job, blocks(source), workers=workers)) as done,
    ):
        for part in done:
            sink.add(part.framed, part.sequences)
            count.add(part.count)
            if report is not None:
                report(part.upto)
        _judge(file, count, request)
        padding = -count.written % request.pad_to
        sink.pad(padding)
        account = Account(file, target, request.task, split, count, padding, request.length, request.tokens)
        write_schema(target.parent, schema, mindrecord=not framed)
        sink.commit(json.dumps(account.to_json(), indent=1, ensure_ascii=False) + "\n")
    return account


def _judge(file: Path, count: Count, request: Request) -> None:
    """Raises: FormatError if no row could be used, or one could not and `strict` is asked."""
    if count.written and not (request.strict and count.left_out):
        return
    if not count.rows:
        raise FormatError(file, "", "holds no rows")
    line, why, what = count.named[0]
    many = (
        "no row can be used" if not count.written else f"{count.left_out.total()} of {count.rows} rows cannot be used"
    )
    raise FormatError(file, f"line {line}", f"{why}: {what}; {many}")


def account_lines(account: Account) -> list[str]:
    """What was made, what was cut, what was left out and why."""
    count = account.count
    padded = f", {account.padding} of them padding" if account.padding else ""
    records = count.written + account.padding
    lines = [f"{account.output}: {records} records{padded} from {count.rows} rows of {account.source}"]
    if account.split == "test":
        lines.append("  a test set: every label is the first one, as in run_classifier")
    if count.cut:
        lines.append(f"  {count.cut} texts were cut to {account.length} tokens")
    if count.blank:
        lines.append(f"  {count.blank} blank lines")
    lines += [f"  kept: {times} with {remark}" for remark, times in count.remarks.items()]
    lines += [f"  left out: {times} rows, {reason}" for reason, times in count.left_out.items()]
    lines += [f"    line {line}: {reason}: {what}" for line, reason, what in count.named]
    return lines
