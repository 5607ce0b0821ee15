"""Where records go: a TFRecord or a MindRecord file with its account, whole or not at all, and a schema.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from porting.checkpoint.output import Output, write_text
from porting.data.layout import Laid
from porting.data.records import Encoder, Label
from porting.data.schema import SCHEMA, Schema, account_path, read_schema, to_json
from porting.errors import UsageError


class Sink(Protocol):
    """A record file being written; a context manager that leaves nothing unless `commit` was called."""

    def add(self, framed: bytes, sequences: Sequence[tuple[Laid, Label]]) -> None: ...
    def pad(self, count: int) -> None: ...
    def commit(self, account: str) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class TFRecordSink:
    """Joins framed records."""

    def __init__(self, path: Path, encoder: Encoder, *, overwrite: bool) -> None:
        self._encoder, self._at = encoder, 0
        self._output = Output(path.parent, [path.name], companions=[account_path(path).name], overwrite=overwrite)

    def add(self, framed: bytes, sequences: Sequence[tuple[Laid, Label]]) -> None:
        del sequences
        self._output.write(0, self._at, framed)
        self._at += len(framed)

    def pad(self, count: int) -> None:
        self.add(self._encoder.tfrecord(self._encoder.padding(), 0, real=False) * count, ())

    def commit(self, account: str) -> None:
        self._output.write(1, 0, account.encode())
        self._output.commit()

    def __enter__(self) -> Self:
        self._output.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._output.discard()


class MindRecordSink:
    """Hands sequences to MindSpore. Integers are int32 there, as the scripts of MindSpore's models write them."""

    def __init__(self, path: Path, encoder: Encoder, *, overwrite: bool) -> None:
        from porting.backends.mindspore.mindrecord import MindRecordWriter

        self._encoder = encoder
        schema = encoder.layout.schema(regression=encoder.regression)
        columns = {column.name: column.dtype.replace("int64", "int32") for column in schema}
        self._account = Output(path.parent, [account_path(path).name], overwrite=overwrite)
        self._begin = partial(MindRecordWriter, path, columns, overwrite=overwrite)

    def add(self, framed: bytes, sequences: Sequence[tuple[Laid, Label]]) -> None:
        del framed
        self._writer.write(self._encoder.arrays(laid, label) for laid, label in sequences)

    def pad(self, count: int) -> None:
        self._writer.write(self._encoder.arrays(self._encoder.padding(), 0, real=False) for _ in range(count))

    def commit(self, account: str) -> None:
        self._account.write(0, 0, account.encode())
        self._account.commit()
        self._writer.commit()

    def __enter__(self) -> Self:
        self._account.__enter__()
        try:
            self._writer = self._begin()
        except BaseException:
            self._account.discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._account.discard()
        self._writer.__exit__(kind, error, trace)


def require_schema(folder: Path, schema: Schema, *, overwrite: bool, mindrecord: bool = False) -> None:
    """See that a folder's schema.json, if there is one, is this one: records of two shapes must not share it.

    Raises: UsageError if it is another, unless `overwrite`.
    """
    path = folder / SCHEMA
    if path.exists() and not overwrite and read_schema(path) != _stored(schema, mindrecord=mindrecord):
        raise UsageError(f"{path}: describes other records than those asked for; --overwrite replaces it")


def write_schema(folder: Path, schema: Schema, *, mindrecord: bool = False) -> None:
    """Write a folder's schema.json."""
    text = to_json(_stored(schema, mindrecord=mindrecord))
    if mindrecord:
        text = json.dumps({**json.loads(text), "datasetType": "MindRecord"}, indent=1) + "\n"
    write_text(folder / SCHEMA, text)


def _stored(schema: Schema, *, mindrecord: bool) -> Schema:
    """The columns as a file holds them: whole numbers have 32 bits in a MindRecord."""
    if not mindrecord:
        return schema
    return tuple(replace(column, dtype={"int64": "int32"}.get(column.dtype, column.dtype)) for column in schema)
