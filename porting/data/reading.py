"""The features of a TFRecord file's records, checked against a schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

from porting.checkpoint.wire import WireError
from porting.data.features import Value, decode_example
from porting.data.schema import Column, Schema
from porting.data.tfrecord import read_records
from porting.errors import FormatError


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
        length = prod(column.shape) if min(column.shape, default=1) >= 0 else len(value)
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
