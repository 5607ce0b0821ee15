"""What the records of a file hold: name, dtype and shape of each feature, as MindSpore's schema.json says it.

Reference: mindspore.dataset.TFRecordDataset and Schema; the TinyBERT guide of MindSpore's models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from porting.checkpoint.wire import WireError
from porting.data.example import Value, decode_example
from porting.data.tfrecord import read_records
from porting.errors import FormatError

TYPES = ("int64", "float32", "string")
"""Dtypes of TFRecord features."""


@dataclass(frozen=True, slots=True)
class Column:
    """A feature of every record. shape: of one axis; -1 where the length differs from record to record."""

    name: str
    dtype: str
    shape: tuple[int, ...]


Schema = tuple[Column, ...]


def to_json(schema: Schema) -> str:
    """As schema.json of a TFRecord file.

    `numRows` is left out: MindSpore takes it as a limit, and one schema serves train, dev and test.
    """
    columns = {c.name: {"type": c.dtype, "rank": len(c.shape), "shape": list(c.shape)} for c in schema}
    return json.dumps({"datasetType": "TF", "columns": columns}, indent=1) + "\n"


def read_schema(path: str | Path) -> Schema:
    """The columns of a schema.json, in either of MindSpore's forms (by name, or a list).

    Raises: FormatError for a file that is not one.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(path, "", f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        columns = json.loads(text)["columns"]
        rows = columns.items() if isinstance(columns, dict) else [(row["name"], row) for row in columns]
        return tuple(_column(str(name), row) for name, row in rows)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FormatError(path, "", 'wanted a schema: {"columns": {NAME: {"type": …, "shape": […]}}}') from None


def _column(name: str, row: Mapping[str, Any]) -> Column:
    rank = int(row.get("rank", 1))
    shape = tuple(int(size) for size in row.get("shape", (-1,) * rank))
    return Column(name, str(row["type"]), shape)


def dtype_of(value: Value) -> str:
    """The dtype of a feature's values, in the schema's words."""
    return "string" if isinstance(value, list) else str(value.dtype)


def mismatch(schema: Schema, features: Mapping[str, Value]) -> str:
    """Why a record is not what the schema says, or nothing."""
    for column in schema:
        value = features.get(column.name)
        if value is None:
            return f"{column.name}: wanted {_words(column)}, got no such feature, only {', '.join(features) or 'none'}"
        # TFRecord stores every integer as int64, MindRecord as it is told; models take int32
        same = column.dtype == dtype_of(value) or {column.dtype, dtype_of(value)} == {"int32", "int64"}
        length = int(np.prod(column.shape, dtype=int)) if min(column.shape, default=1) >= 0 else len(value)
        if not same or len(value) != length:
            return f"{column.name}: wanted {_words(column)}, got {dtype_of(value)} [{len(value)}]"
    return ""


def _words(column: Column) -> str:
    return f"{column.dtype} {list(column.shape)}"


def examples(path: str | Path, schema: Schema | None = None) -> Iterator[dict[str, Value]]:
    """The features of each record of a TFRecord file, checked against a schema if one is given.

    Raises: FormatError that names the record, for a damaged file, for payloads that are no Example, for a record
    that the schema does not describe.
    """
    for record in read_records(path):
        place = f"record {record.number} at byte {record.offset}"
        try:
            features = decode_example(record.payload)
        except WireError as error:
            raise FormatError(path, place, f"is no tf.train.Example: {error}") from None
        problem = mismatch(schema, features) if schema is not None else ""
        if problem:
            raise FormatError(path, place, problem)
        yield features


def integers(names: Sequence[str], length: int) -> Schema:
    """Columns of `length` integers each."""
    return tuple(Column(name, "int64", (length,)) for name in names)
