"""What a side answered to the examples of a task, and the metrics that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from porting.acceptance.predictions import CORRELATIONS, metric
from porting.acceptance.resampling import bounds, drawn_measures
from porting.acceptance.task import wilson
from porting.acceptance.trajectory import Input, Metric
from porting.errors import FormatError
from porting.metrics import Array

Kind = Literal["classes", "values"]

BROKEN = -1
"""The class of a prediction that is no finite number: no label is that."""

LARGEST = 2.0**53
"""Of whole numbers: beyond it float64, in which tables are read, has not all of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """One side's answers.

    labels: int64 or str [n] of classes, float64 [n] of values. found: likewise; None where there are scores of two
    classes alone. scores: float64 [n], larger for class 1; None of values and of several classes. ids: str [n], each
    once, None where the file has none. broken: predictions that are no finite numbers. inputs: what was read.
    """

    name: str
    kind: Kind
    labels: Array
    found: Array | None
    scores: Array | None
    ids: Array | None
    inputs: tuple[Input, ...]
    broken: int = 0
    notes: tuple[str, ...] = ()

    def judged(self) -> dict[str, Array]:
        """What each metric that these answers have looks at: [n]."""
        if self.kind == "values":
            return {} if self.found is None else dict.fromkeys(CORRELATIONS, self.found)
        binary = bool(np.isin(self.labels, (0, 1)).all()) if self.labels.dtype.kind == "i" else False
        looked: dict[str, Array] = {}
        if self.found is not None:
            of_two = ("f1", "acc_and_f1") if binary and bool((self.found <= 1).all()) else ()
            looked |= dict.fromkeys(("accuracy", "matthews", *of_two), self.found)
        if binary and self.scores is not None:
            looked["auc"] = self.scores
        return looked

    def metrics(self) -> dict[str, Metric]:
        """Every metric with its 95 % interval, where there is one."""
        given = self.judged()
        names = [name for name in given if name != "accuracy"]
        drawn = drawn_measures(names, self.labels, [{name: given[name] for name in names}])
        found = {}
        for name, answers in given.items():
            one = metric(name, self.labels, answers)
            by_draws = bounds(drawn[name][0], 0.95) if drawn and name in drawn else None
            interval = wilson(one.value, answers.size) if name == "accuracy" else by_draws
            found[name] = replace(one, interval=interval)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What a file holds, before it is known what it means: cells by role, with their line for what is wrong.

    labels, found: number or word [n]; scores: numbers [n] or [n, classes].
    """

    name: str
    inputs: tuple[Input, ...]
    labels: Sequence[Any] | None = None
    found: Sequence[Any] | None = None
    scores: Array | None = None
    ids: Sequence[str] | None = None

    @property
    def count(self) -> int:
        """Examples."""
        known = (self.labels, self.found, self.scores, self.ids)
        return next((len(one) for one in known if one is not None), 0)


def answers_of(columns: Columns, path: str) -> Answers:
    """What columns with labels mean: classes, unless a label or a prediction is a number that is not whole.

    A single column of scores and no prediction is a score of class 1 where the labels are 0 and 1, else the value.
    Raises: FormatError for labels that are no finite numbers nor words, or unlike the predictions.
    """
    labels = _cells(columns.labels or (), path, "label")
    found = None if columns.found is None else _cells(columns.found, path, "prediction")
    scores = columns.scores
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise FormatError(path, f"example {_first(~np.isfinite(labels))}", "its label is no finite number")
    binary = labels.dtype.kind == "f" and bool(np.isin(labels, (0.0, 1.0)).all())
    if found is None and scores is not None and scores.ndim == 1 and not binary:
        found, scores = scores, None
    if found is not None and found.dtype.kind != labels.dtype.kind:
        kinds = ["words" if side.dtype.kind == "U" else "numbers" for side in (labels, found)]
        raise FormatError(path, "", f"its labels are {kinds[0]} and its predictions {kinds[1]}")
    if labels.dtype.kind == "f" and not (_whole(labels) and (found is None or _whole(found))):
        return _values(columns, labels, found, path)
    return _classes(columns, labels, found, scores, path)


def _values(columns: Columns, labels: Array, found: Array | None, path: str) -> Answers:
    if found is None:
        raise FormatError(path, "", "its labels are values, and there is no prediction for them")
    broken = int((~np.isfinite(found)).sum())
    made = Answers(columns.name, "values", labels, found, None, _ids(columns, path), columns.inputs, broken)
    return _noted(made)


def _classes(columns: Columns, labels: Array, found: Array | None, scores: Array | None, path: str) -> Answers:
    ids, broken, notes = _ids(columns, path), np.zeros(labels.size, bool), []
    if labels.dtype.kind == "f":
        labels = _integers(labels, path)
    if found is not None and found.dtype.kind == "f":
        broken |= ~np.isfinite(found)
        found = _integers(np.where(np.isfinite(found), found, BROKEN), path)
    if scores is not None:
        good = np.isfinite(scores.reshape(labels.size, -1)).all(axis=1)
        broken |= ~good
    if scores is not None and scores.ndim == 2:
        if labels.dtype.kind != "i":
            raise FormatError(path, "", "its labels are words: which score is of which, nobody says")
        chosen = np.where(good, np.where(np.isnan(scores), -np.inf, scores).argmax(axis=1), BROKEN)
        if found is not None and (other := int((found != chosen).sum())):
            notes.append(f"{other} predictions are not the class of the highest score: the predictions were taken")
        found = chosen if found is None else found
        with np.errstate(invalid="ignore"):
            scores = scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else None
    made = Answers(columns.name, "classes", labels, found, scores, ids, columns.inputs, int(broken.sum()), tuple(notes))
    return _noted(made)


def _noted(made: Answers) -> Answers:
    told = f"{made.broken} predictions are no finite numbers"
    return replace(made, notes=(*made.notes, told)) if made.broken else made


def _ids(columns: Columns, path: str) -> Array | None:
    """Raises: FormatError for one that stands there twice."""
    if columns.ids is None:
        return None
    ids = np.asarray(columns.ids, str)
    known, counts = np.unique(ids, return_counts=True)
    if known.size < ids.size:
        raise FormatError(path, "", f"the id {known[counts > 1][0]} stands there {counts.max()} times")
    return ids


def _cells(cells: Sequence[Any], path: str, role: str) -> Array:
    """Numbers as float64, if all are; else words. Raises: FormatError for what is neither."""
    try:
        return np.array([float(cell) for cell in cells], np.float64)
    except (TypeError, ValueError, OverflowError):
        pass
    bad = next((n for n, cell in enumerate(cells) if not isinstance(cell, (str, int, float))), None)
    if bad is not None:
        raise FormatError(path, f"example {bad}", f"its {role} is neither a number nor a word")
    return np.array([str(cell) for cell in cells], np.str_)


def _integers(values: Array, path: str) -> Array:
    if (np.abs(values) > LARGEST).any():
        raise FormatError(path, f"example {_first(np.abs(values) > LARGEST)}", "a class of that size is none")
    return values.astype(np.int64)


def _whole(values: Array) -> bool:
    known = values[np.isfinite(values)]
    return bool((known == np.floor(known)).all())


def _first(mask: Array) -> int:
    return int(mask.argmax())
