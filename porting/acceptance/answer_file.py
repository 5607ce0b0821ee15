"""Files of predictions, found by content: JSON lines, CSV and TSV, run_classifier's test_results.tsv, npz.

A file says in its first line, or by the names of its arrays, that it holds predictions: a column of predictions or of
scores, and labels, ids or nothing else. Labels that it lacks come from a file of labels.
"""

from __future__ import annotations

import csv
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from porting.acceptance.answers import Answers, Columns, answers_of
from porting.acceptance.inputs import input_of
from porting.errors import FormatError, UsageError, first_line_of
from porting.logs.source import Source
from porting.metrics import Array

Role = Literal["labels", "found", "scores", "ids"]

ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("label", "labels", "gold", "gold_label", "label_id", "label_ids", "y_true", "truth"), "labels"),
    **dict.fromkeys(("prediction", "predictions", "pred", "preds", "predicted", "y_pred", "predicted_label"), "found"),
    **dict.fromkeys(("score", "scores", "logit", "logits", "probability", "probabilities", "prob", "probs"), "scores"),
    **dict.fromkeys(("id", "ids", "idx", "index", "guid", "example_id", "unique_id", "pairid"), "ids"),
}
"""What people call them."""

HEAD = 64 << 10
"""Bytes in which a file shows what it is."""

MOST = 10_000_000
"""Examples of a file at most."""

LARGEST = 1 << 30
"""Bytes of the arrays of an npz at most."""

ZIP = b"PK\x03\x04"


def read_answers(path: str | os.PathLike[str], labels: str | os.PathLike[str] | None = None) -> Answers | None:
    """The predictions that a file holds; None for a file that is none of predictions.

    labels: a file of labels for one that has none: with ids they are matched by them, else in order.
    Raises: FormatError for predictions that are damaged, contradict themselves, or have no labels; UsageError for a
    file of labels that there is not.
    """
    found = columns_of(Path(path))
    if found is None or (found.found is None and found.scores is None):
        return None
    if found.labels is None:
        if labels is None:
            raise FormatError(path, "", "holds predictions and no labels; --labels FILE gives them")
        found = labelled(found, Path(labels))
    if not found.count:
        raise FormatError(path, "", "holds no prediction")
    return answers_of(found, str(path))


def labelled(found: Columns, path: Path) -> Columns:
    """Columns with the labels of a file. Raises: UsageError, FormatError."""
    if not path.is_file():
        raise UsageError(f"--labels {path}: there is no such file")
    given = columns_of(path)
    labels = None if given is None else given.labels if given.labels is not None else _plain(given)
    if given is None or labels is None:
        raise FormatError(path, "", "wanted labels: a column `label`, or one label a line, got none of them")
    inputs = (*found.inputs, *given.inputs)
    if given.ids is not None and found.ids is not None:
        known = dict(zip(given.ids, labels, strict=True))
        missing = [one for one in found.ids if one not in known]
        if missing:
            raise FormatError(path, "", f"has no label for {len(missing)} examples of {found.name}, first {missing[0]}")
        return replace(found, labels=[known[one] for one in found.ids], inputs=inputs)
    if len(labels) != found.count:
        raise FormatError(path, "", f"holds {len(labels)} labels for {found.count} predictions of {found.name}")
    return replace(found, labels=labels, inputs=inputs)


def _plain(given: Columns) -> Sequence[Any] | None:
    """One number a line: labels, where labels are asked for."""
    return given.scores.tolist() if given.scores is not None and given.scores.ndim == 1 else None


def columns_of(path: Path) -> Columns | None:
    """What a file holds by role; None for one that is no table of predictions or labels. Raises: FormatError."""
    if path.suffix != ".gz" and _begins(path, ZIP):
        return _arrays(path)
    with Source(path) as source:
        head = source.head(HEAD).decode("utf-8", "replace")
        first, *more = [line for line in head.splitlines() if line.strip()][:2] or [""]
        read = _reader(first, more[0] if more else "")
        if read is None:
            return None
        columns = read(source, first)
        return replace(columns, name=path.name, inputs=(source.input(),))


def _begins(path: Path, mark: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(mark)) == mark
    except (OSError, ValueError):
        return False


def _reader(first: str, second: str) -> Callable[[Source, str], Columns] | None:
    """How to read a text that begins so; None for none of ours."""
    if first.lstrip().startswith("{"):
        return _json_lines if _predicts(_record(first)) else None
    for mark in ("\t", ",", ";"):
        names = [name.strip().strip('"').lower() for name in first.split(mark)]
        if _predicts(names) and (len(names) > 1 or second.count(mark) == 0):
            return lambda source, _: _table(source, mark)
    return _numbers if _all_numbers(first) and (not second or _all_numbers(second)) else None


def _predicts(names: Mapping[str, Any] | Sequence[str] | None) -> bool:
    """Whether names of columns are those of predictions or labels, and of no training."""
    known = {name.lower() for name in names} if names else set()
    roles = {_role(name) for name in known}
    return bool(roles & {"labels", "found", "scores"}) and not known & {"loss", "step", "epoch", "global_step"}


def _role(name: str) -> Role | None:
    """What a column is; `logits_0` and `logits_1` are scores.

    >>> _role("Prediction"), _role("probs_1"), _role("sentence")
    ('found', 'scores', None)
    """
    plain = name.strip().lower()
    stem, mark, number = plain.rpartition("_")
    if mark and number.isdecimal() and ROLES.get(stem) == "scores":
        return "scores"
    return ROLES.get(plain)


def _record(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _all_numbers(line: str) -> bool:
    try:
        return bool([float(cell) for cell in line.split("\t")])
    except ValueError:
        return False


def _json_lines(source: Source, first: str) -> Columns:
    names = {role: name for name in _record(first) or {} if (role := _role(name))}
    cells: dict[Role, list[Any]] = {role: [] for role in names}
    for number, line in enumerate(_limited(source), 1):
        record = _record(line)
        if record is None:
            raise FormatError(source.path, f"line {number}", "is no JSON object")
        for role, name in names.items():
            if record.get(name) is None:
                raise FormatError(source.path, f"line {number}", f"has no {name}")
            cells[role].append(record[name])
    return _columns(source.path, cells)


def _table(source: Source, mark: str) -> Columns:
    """Rows under a head. Raises: FormatError for a row with another number of cells."""
    rows = csv.reader(_limited(source), delimiter=mark, quoting=csv.QUOTE_NONE if mark == "\t" else csv.QUOTE_MINIMAL)
    try:
        head = next(rows)
        places: dict[Role, list[int]] = {}
        for place, name in enumerate(head):
            if role := _role(name):
                places.setdefault(role, []).append(place)
        twice = [role for role, known in places.items() if len(known) > 1 and role != "scores"]
        if twice:
            told = ", ".join(head[place] for place in places[twice[0]])
            raise FormatError(source.path, "line 1", f"has several columns of one kind: {told}")
        cells: dict[Role, list[Any]] = {role: [] for role in places}
        for number, row in enumerate(rows, 2):
            if len(row) != len(head):
                raise FormatError(source.path, f"line {number}", f"wanted {len(head)} cells, got {len(row)}")
            for role, known in places.items():
                values = [row[place].strip() for place in known]
                if not all(values):
                    raise FormatError(source.path, f"line {number}", f"has no {head[known[values.index('')]]}")
                cells[role].append(values if role == "scores" and len(known) > 1 else values[0])
    except (csv.Error, StopIteration) as error:
        raise FormatError(source.path, "", f"is no table: {error}") from None
    return _columns(source.path, cells)


def _numbers(source: Source, first: str) -> Columns:
    """run_classifier's test_results.tsv: a line an example, a number a class, and no head; or one number a line."""
    width = first.count("\t") + 1
    rows = []
    for number, line in enumerate(_limited(source), 1):
        cells = line.split("\t")
        if len(cells) != width or not _all_numbers(line):
            raise FormatError(source.path, f"line {number}", f"wanted {width} numbers, got {line[:60]!r}")
        rows.append(cells if width > 1 else cells[0])
    return _columns(source.path, {"scores": rows})


def _limited(source: Source) -> Iterator[str]:
    """The lines. Raises: FormatError for more than there may be, or one that is too long to be read."""
    for number, line in enumerate(source.lines()):
        if number > MOST:
            raise FormatError(source.path, "", f"holds more than {MOST} examples")
        yield line
    if source.notes:
        raise FormatError(source.path, "", source.notes[0])


def _columns(path: Path, cells: Mapping[Role, list[Any]]) -> Columns:
    scores = None if "scores" not in cells else _scores(cells["scores"], path)
    ids = None if "ids" not in cells else [str(one) for one in cells["ids"]]
    return Columns(path.name, (), cells.get("labels"), cells.get("found"), scores, ids)


def _scores(rows: Any, path: Path) -> Array:
    """Scores as float64 [n] or [n, classes]. Raises: FormatError for anything else."""
    try:
        scores = np.array(rows, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise FormatError(path, "", "its scores are no numbers, or not as many in every line") from None
    if scores.ndim not in (1, 2) or not scores.size:
        raise FormatError(path, "", f"its scores are of the shape {scores.shape}, wanted (examples, classes)")
    return scores[:, 0] if scores.ndim == 2 and scores.shape[1] == 1 else scores


def _arrays(path: Path) -> Columns | None:
    """An npz. Raises: FormatError for one that is damaged, holds objects, or arrays of different length."""
    try:
        with zipfile.ZipFile(path) as archive:
            known = {name: _role(name.removesuffix(".npy")) for name in archive.namelist() if name.endswith(".npy")}
            if not {"labels", "found", "scores"} & set(known.values()):
                return None
            if sum(archive.getinfo(name).file_size for name in known) > LARGEST:
                raise FormatError(path, "", f"holds arrays of more than {LARGEST} bytes")
        with np.load(path, allow_pickle=False) as file:
            cells = {role: file[name.removesuffix(".npy")] for name, role in known.items() if role}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, KeyError, MemoryError) as error:
        raise FormatError(path, "", f"is no file of arrays: {first_line_of(error)}") from None
    counts = {role: len(one) if one.ndim else 0 for role, one in cells.items()}
    if len(set(counts.values())) > 1 or any(one.ndim > (2 if role == "scores" else 1) for role, one in cells.items()):
        shapes = ", ".join(f"{role} {one.shape}" for role, one in cells.items())
        raise FormatError(path, "", f"wanted an answer for each example, got {shapes}")
    rows = {role: one if role == "scores" else one.tolist() for role, one in cells.items()}
    return replace(_columns(path, rows), inputs=(input_of(path),))
