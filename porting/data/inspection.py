"""What a record file is and holds, found by reading all of it once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from porting.data.features import Value
from porting.data.reading import dtype_of, examples, mismatch
from porting.data.schema import Schema, account_path, read_schema
from porting.errors import FormatError

NAMED = 5
"""Records that are named of each kind of contradiction; the others are counted."""


@dataclass(slots=True)
class Feature:
    """One feature over all records. lengths, values: smallest and largest; None where there is none."""

    name: str
    dtype: str
    present: int = 0
    lengths: tuple[int, int] | None = None
    values: tuple[float, float] | None = None

    def add(self, value: Value) -> None:
        """Take a record's values in."""
        self.present += 1
        self.lengths = _widened(self.lengths, len(value), len(value))
        if not isinstance(value, list) and len(value):
            self.values = _widened(self.values, value.min().item(), value.max().item())


def _widened(span: tuple[Any, Any] | None, low: Any, high: Any) -> tuple[Any, Any]:
    return (low, high) if span is None else (min(span[0], low), max(span[1], high))


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found. problems: where records contradict each other or the schema. first: the first record."""

    path: Path
    kind: str
    nbytes: int
    records: int
    features: tuple[Feature, ...]
    first: Mapping[str, Value]
    account: Mapping[str, Any] | None
    problems: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "bytes": self.nbytes,
            "records": self.records,
            "features": [asdict(feature) for feature in self.features],
            "account": self.account,
            "problems": list(self.problems),
        }


def inspect_records(path: str | Path, *, schema: str | Path | None = None) -> Inspection:
    """Read every record of a TFRecord or MindRecord file, with its checksums where it has some.

    Raises: FormatError for a file that is cut off, damaged or neither.
    """
    place = Path(path)
    wanted = read_schema(schema) if schema is not None else None
    if place.suffix == ".mindrecord":
        from porting.backends.mindspore.mindrecord import read_mindrecord

        return _inspect(place, "MindRecord", read_mindrecord(place), wanted)
    return _inspect(place, "TFRecord", examples(place), wanted)


def _inspect(path: Path, kind: str, records: Iterable[Mapping[str, Value]], schema: Schema | None) -> Inspection:
    features: dict[str, Feature] = {}
    first: Mapping[str, Value] = {}
    problems: list[str] = []
    count = 0
    for record in records:
        first = first or record
        problem = mismatch(schema, record) if schema is not None else ""
        for name, value in record.items():
            if name not in features:
                features[name] = Feature(name, dtype_of(value))
            elif features[name].dtype != dtype_of(value):
                problem = f"{name}: {dtype_of(value)} here, {features[name].dtype} before"
            features[name].add(value)
        if not problem and record.keys() != first.keys():
            problem = f"features {', '.join(record)}; the first has {', '.join(first)}"
        if problem:
            problems.append(f"record {count}: {problem}")
        count += 1
    if len(problems) > NAMED:
        problems[NAMED:] = [f"… and {len(problems) - NAMED} more records"]
    return Inspection(
        path, kind, path.stat().st_size, count, tuple(features.values()), first, read_account(path), tuple(problems)
    )


def read_account(path: Path) -> Mapping[str, Any] | None:
    """The account of how a record file was made, if it lies beside it.

    Raises: FormatError for one that is no JSON object.
    """
    place = account_path(path)
    try:
        value = json.loads(place.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FormatError(place, "", f"cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise FormatError(place, "", f"wanted a JSON object, got {type(value).__name__}")
    return value


SHOWN = 24
"""Values of the first record that are shown."""


def inspection_lines(found: Inspection) -> list[str]:
    """In words: a line per feature, the first record, what made it, contradictions."""
    lines = [f"{found.path}: {found.kind}, {found.records} records, {found.nbytes} bytes"]
    width = max((len(feature.name) for feature in found.features), default=0)
    for f in found.features:
        low, high = f.lengths or (0, 0)
        length = f"[{low}]" if low == high else f"[{low} to {high}]"
        values = f"  {f.values[0]:g} to {f.values[1]:g}" if f.values else ""
        rare = "" if f.present == found.records else f"  in {f.present} records only"
        lines.append(f"  {f.name.ljust(width)}  {f.dtype:7} {length:8}{values}{rare}")
    if found.first:
        lines.append("first record")
        lines += [f"  {name.ljust(width)}  {_some(value)}" for name, value in found.first.items()]
    if found.account:
        lines.append("made from")
        lines += [f"  {key}: {value}" for key, value in found.account.items() if isinstance(value, str | int | float)]
    return [*lines, *(f"problem: {problem}" for problem in found.problems)]


def _some(value: Value) -> str:
    shown = [str(v) for v in (value if isinstance(value, list) else np.asarray(value).tolist())[:SHOWN]]
    return " ".join(shown) + (" …" if len(value) > SHOWN else "")
