"""The records that a distillation learns from, checked against model and schema before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from porting.data.schema import LABEL, REAL, SCHEMA, Schema, read_schema
from porting.data.tasks import task_named
from porting.errors import UsageError
from porting.model.spec import Config, ModelSpec
from porting.train.batches import MINDRECORD, Records, columns_of, limits, load
from porting.train.examples import check_account, real_examples

TEXT = ("input_ids", "input_mask", "segment_ids")


def records(
    place: Path,
    options: Mapping[str, Any],
    spec: ModelSpec,
    config: Config,
    *,
    labels: int | None = None,
    judged: bool = False,
) -> Records:
    """All examples of a file or folder. labels: classes, None for text alone. judged: labels have to be there.

    Of task_type ner the labels are one for each token. A student is not taught by labels; those that are there have to
    be the teacher's classes all the same.

    Raises: UsageError for a folder without records, a schema that is missing or lacks a column, sequences that are too
    long for the model; FormatError naming file and record.
    """
    mind = options["dataset_type"] == "mindrecord"
    files = record_files(place, mindrecord=mind)
    task = options.get("task_name")
    for file in files:
        check_account(file, spec, config, task=None if task is None else task_named(task).name, labelled=judged)
    schema = columns_of(files[0]) if mind else _schema(place, options["schema_dir"])
    there = {column.name for column in schema}
    labelled = labels is not None and (judged or LABEL in there)
    features = {name: name for name in (*TEXT, *((LABEL,) if labelled else ()))}
    filled = {REAL: REAL} if REAL in there else {}
    bounds = spec.bounds(config)
    found = real_examples(files[0], load(files, schema, features | filled, limits(spec, bounds, labels or 0)))
    shape = found.arrays["input_ids"].shape
    if len(shape) != 2:
        raise UsageError(f"{place}: input_ids: wanted sequences, got one value per example")
    if shape[1] > bounds["seq"]:
        raise UsageError(f"{place}: sequences of {shape[1]}: the model takes {bounds['seq']} at most")
    for name in features:
        wanted = shape if name in TEXT or options.get("task_type") == "ner" else shape[:1]
        if found.arrays[name].shape != wanted:
            raise UsageError(f"{place}: {name}: wanted shape {wanted}, got {found.arrays[name].shape}")
    return found


def record_files(place: Path, *, mindrecord: bool) -> list[Path]:
    """A file, or those of a folder with `record` in their names, but for accounts and indexes, in the order of names.

    Raises: UsageError where there is none.
    """
    kind = "MindRecord" if mindrecord else "TFRecord"
    if place.is_dir():
        found = sorted(
            path for path in place.iterdir() if "record" in path.name and path.suffix not in (".db", ".json")
        )
        found = [path for path in found if (path.suffix == MINDRECORD) == mindrecord]
    else:
        found = [place] if place.exists() else []
        if found and mindrecord != (place.suffix == MINDRECORD):
            other = "tfrecord" if mindrecord else "mindrecord"
            raise UsageError(f"{place}: is no {kind} by its name; --dataset-type {other} reads it")
    if not found:
        raise UsageError(f"{place}: no {kind} file there")
    return found


def _schema(place: Path, given: Path | None) -> Schema:
    """The schema that is named, or its folder's, or the one beside the records. Raises: UsageError if there is none."""
    folder = place if place.is_dir() else place.parent
    path = given or folder / SCHEMA
    path = path / SCHEMA if path.is_dir() else path
    if not path.is_file():
        raise UsageError(f"{path}: no such schema: --schema-dir names the schema.json of the records")
    return read_schema(path)
