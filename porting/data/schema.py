"""What the records of a file hold: name, dtype and shape of each feature, as MindSpore's schema.json says it.

Reference: mindspore.dataset.TFRecordDataset and Schema; the TinyBERT guide of MindSpore's models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porting.errors import FormatError

SCHEMA = "schema.json"
"""The name of the file, in the folder of the records."""

LABEL, REAL = "label_ids", "is_real_example"
"""Columns of GLUE's records: the label, whatever its kind, and 0 where an example only fills a batch."""

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


def integers(names: Sequence[str], length: int) -> Schema:
    """Columns of `length` integers each."""
    return tuple(Column(name, "int64", (length,)) for name in names)


def account_path(path: Path) -> Path:
    """Where the account of how a record file was made lies."""
    return path.with_name(path.name + ".port.json")
