"""TFRecord files as batches of a session, shuffled by seed and epoch: any batch can be asked for by its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from porting.backends.protocol import Array, Batch
from porting.checkpoint.wire import WireError
from porting.data.features import Value, decode_example
from porting.data.reading import dtype_of
from porting.data.schema import Column, Schema
from porting.data.tfrecord import read_records
from porting.errors import FormatError, UsageError
from porting.model.spec import ModelSpec

DTYPES = {"int64": np.int32, "int32": np.int32, "float32": np.float32}
"""What a session is fed, by the schema's type: ids and labels fit 32 bits, and MindSpore takes no more."""

MINDRECORD = ".mindrecord"
"""How the names of such files end: MindSpore's own, as those of its index beside them."""


@dataclass(frozen=True, slots=True)
class Records:
    """Examples in memory, in the order of the files. arrays: (examples, *shape) by feature."""

    arrays: Mapping[str, Array]
    count: int

    def batches(self, size: int) -> Iterator[Batch]:
        """All of them in their order, so many at a time; what is left over is a smaller batch."""
        for start in range(0, self.count, size):
            yield {name: array[start : start + size] for name, array in self.arrays.items()}


@dataclass(frozen=True, slots=True)
class Shuffled:
    """Batches of records (porting.train.loop.Batches). What is left over at an epoch's end is not used in it.

    seed: of the order, another in every epoch; None for the order of the files.
    """

    records: Records
    size: int
    seed: int | None = None

    def __post_init__(self) -> None:
        """Raises: UsageError for a batch of no example, or of more than there are, and for a seed below 0."""
        if not 1 <= self.size <= self.records.count:
            raise UsageError(f"batch size: wanted 1 to the {self.records.count} examples, got {self.size}")
        if self.seed is not None and self.seed < 0:
            raise UsageError(f"seed: wanted at least 0, got {self.seed}")

    @property
    def per_epoch(self) -> int:
        """Whole batches of one epoch."""
        return self.records.count // self.size

    def batch(self, epoch: int, number: int) -> Batch:
        """A batch by its place, both from 0."""
        order = _order(self.records.count, self.seed, epoch)
        rows = order[number * self.size : (number + 1) * self.size]
        return {name: array[rows] for name, array in self.records.arrays.items()}


@lru_cache(2)
def _order(count: int, seed: int | None, epoch: int) -> Array:
    """Places of the examples. Philox is keyed by seed and epoch: no earlier epoch has to be drawn."""
    if seed is None:
        return np.arange(count)
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


def load(
    paths: Sequence[Path], schema: Schema | None, features: Mapping[str, str], below: Mapping[str, int]
) -> Records:
    """Read all examples, each checked as it is read, so that a wrong one is told before the first step.

    paths: TFRecord files, or MindRecord files by their suffix. schema: None for that of the first record.
    features: by feature of the model the column that it is read from ({"label_values": "label_ids"}). below: by feature
    the end of its values, from 0 (`limits`).
    Raises: FormatError naming file and record: one that is cut off, is no Example, lacks a column, has other numbers of
    values than the schema, or a value out of range. UsageError for a feature that is not in the schema, or no example.
    """
    columns = {column.name: column for column in schema or columns_of(paths[0])}
    missing = sorted({column for column in features.values() if column not in columns})
    if missing:
        raise UsageError(f"schema: wanted columns {', '.join(missing)}; it has {', '.join(columns)}")
    rows: dict[str, list[Array]] = {name: [] for name in features}
    for path in paths:
        for place, found in _examples(path):
            for name, column in features.items():
                row = _row(path, place, columns[column], found)
                _check_range(path, place, column, row, below.get(name))
                rows[name].append(row.astype(DTYPES[columns[column].dtype]))
    count = len(next(iter(rows.values()), ()))
    if not count:
        raise UsageError(f"{', '.join(map(str, paths))}: no example")
    return Records({name: np.stack(values) for name, values in rows.items()}, count)


def limits(spec: ModelSpec, bounds: Mapping[str, int], labels: int) -> dict[str, int]:
    """The end of the values of each feature, of a model's bounds and its number of classes."""
    ends = {**bounds, "labels": labels}
    return {feature.name: ends[feature.below] for feature in spec.features if feature.below in ends}


def _examples(path: Path) -> Iterator[tuple[str, Mapping[str, Value]]]:
    """Each record's place, for messages, and its features."""
    if path.suffix == MINDRECORD:
        from porting.backends.mindspore.mindrecord import read_mindrecord

        yield from ((f"record {number}", found) for number, found in enumerate(read_mindrecord(path)))
        return
    for record in read_records(path):
        place = f"record {record.number} at byte {record.offset}"
        yield place, _decoded(path, place, record.payload)


def columns_of(path: Path) -> Schema:
    """The columns of a file's first record. Raises: UsageError for a file without one."""
    _, found = next(_examples(path), ("", None))
    if found is None:
        raise UsageError(f"{path}: no example")
    return tuple(Column(name, dtype_of(value), (len(value),)) for name, value in found.items())


def _decoded(path: Path, place: str, payload: bytes) -> dict[str, Value]:
    try:
        return decode_example(payload)
    except WireError as error:
        raise FormatError(path, place, f"is no tf.train.Example: {error}") from None


def _row(path: Path, place: str, column: Column, found: Mapping[str, Value]) -> Array:
    """One column of one example: of the shape of the schema; of no axes where that is one value."""
    value = found.get(column.name)
    if value is None:
        raise FormatError(path, place, f"wanted {column.name}, as the schema says; it has {', '.join(found) or 'none'}")
    kind = dtype_of(value)
    if kind != column.dtype or column.dtype not in DTYPES:
        raise FormatError(path, place, f"{column.name}: wanted {column.dtype}, as the schema says, got {kind}")
    wanted = int(np.prod(column.shape))
    if min(column.shape, default=1) < 1 or len(value) != wanted:
        raise FormatError(path, place, f"{column.name}: wanted {wanted} values, as the schema says, got {len(value)}")
    return np.asarray(value).reshape(() if wanted == 1 else column.shape)


def _check_range(path: Path, place: str, column: str, row: Array, end: int | None) -> None:
    """Raises: FormatError for a value below 0 or not below `end`."""
    if end is None or not row.size:
        return
    low, high = int(row.min()), int(row.max())
    if low < 0 or high >= end:
        raise FormatError(path, place, f"{column}: wanted 0 to {end - 1}, got {low if low < 0 else high}")
