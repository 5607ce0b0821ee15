"""The metrics of GLUE's tasks, in numpy: what transformers' glue_compute_metrics takes from scikit-learn and SciPy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from porting.backends.protocol import Array
from porting.errors import UsageError

METRIC: Mapping[str, str] = {"cola": "matthews", "mrpc": "acc_and_f1", "qqp": "acc_and_f1", "sts-b": "corr"}
"""The metric by which the best state of a task is kept, where it is not accuracy. Source: the GLUE paper, table 1."""


def metrics(task: str, outputs: Array, labels: Array) -> dict[str, float]:
    """All metrics of a task, the one that `METRIC` names among them.

    outputs: (examples,) predicted classes, or the values of a regression. labels: (examples,).
    One that is not defined (a correlation with a constant) is NaN; F1 and Matthews are 0 there, as scikit-learn's are.
    Raises: UsageError where there is no example, or not one output per label.
    """
    if not len(labels) or outputs.shape != labels.shape:
        raise UsageError(f"{task}: wanted an output for each label, got {outputs.shape} and {labels.shape}")
    kind = METRIC.get(task, "accuracy")
    if kind == "corr":
        pearson, spearman = _correlation(outputs, labels), _correlation(_ranks(outputs), _ranks(labels))
        return {"pearson": pearson, "spearman": spearman, "corr": (pearson + spearman) / 2}
    accuracy = float((outputs == labels).mean())
    if kind == "matthews":
        return {"accuracy": accuracy, "matthews": _matthews(outputs, labels)}
    if kind == "acc_and_f1":
        f1 = _f1(outputs, labels)
        return {"accuracy": accuracy, "f1": f1, "acc_and_f1": (accuracy + f1) / 2}
    return {"accuracy": accuracy}


def _f1(outputs: Array, labels: Array) -> float:
    """Of class 1: twice the true positives over all that are said or are to be positive."""
    said, wanted = outputs == 1, labels == 1
    both = int(said.sum()) + int(wanted.sum())
    return 2 * int((said & wanted).sum()) / both if both else 0.0


def _matthews(outputs: Array, labels: Array) -> float:
    """The correlation of the two classes, 0 where either is always the same."""
    found = _correlation(outputs == 1, labels == 1)
    return 0.0 if np.isnan(found) else found


def _correlation(one: Array, two: Array) -> float:
    """Pearson's, in float64; NaN where either is constant."""
    a, b = np.asarray(one, np.float64), np.asarray(two, np.float64)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else float("nan")


def _ranks(values: Array) -> Array:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Array = (ends - (counts - 1) / 2)[place]
    return ranks
