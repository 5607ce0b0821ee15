"""Metrics of a task from its predictions, with intervals: what counts alone cannot give.

Both sides answer the same examples, so their difference is drawn by a bootstrap over examples that are the same on both
(B. Efron, Annals of Statistics 7, 1979): what is hard for one is hard for the other, and the interval is narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from porting.acceptance.trajectory import Metric
from porting.errors import UsageError

Array = np.ndarray[Any, np.dtype[Any]]
Measure = Callable[[Array, Array], float]

RESAMPLES = 2000


def accuracy(labels: Array, found: Array) -> float:
    """The share that is right."""
    return float(np.mean(labels == found))


def f1(labels: Array, found: Array) -> float:
    """Of class 1: the harmonic mean of precision and recall; 0 where neither side has it."""
    both = np.sum((labels == 1) & (found == 1))
    either = np.sum(labels == 1) + np.sum(found == 1)
    return float(2 * both / either) if either else 0.0


def acc_and_f1(labels: Array, found: Array) -> float:
    """Their mean, as GLUE reports MRPC and QQP."""
    return (accuracy(labels, found) + f1(labels, found)) / 2


def matthews(labels: Array, found: Array) -> float:
    """The correlation of labels with predictions, of any number of classes (J. Gorodkin, 2004); 0 of a constant."""
    classes = np.union1d(labels, found)
    ours, theirs = ((side[:, None] == classes).astype(np.float64) for side in (labels, found))
    ours, theirs = ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)
    scale = np.sqrt((ours**2).sum() * (theirs**2).sum())
    return float((ours * theirs).sum() / scale) if scale else 0.0


def pearson(labels: Array, found: Array) -> float:
    """The correlation of values; 0 where one is constant."""
    ours, theirs = (np.asarray(side, np.float64) - np.mean(side) for side in (labels, found))
    scale = np.sqrt((ours**2).sum() * (theirs**2).sum())
    return float((ours * theirs).sum() / scale) if scale else 0.0


def spearman(labels: Array, found: Array) -> float:
    """The correlation of ranks."""
    return pearson(_ranks(labels), _ranks(found))


def auc(labels: Array, found: Array) -> float:
    """The share of pairs of class 1 and 0 that the scores order rightly, ties half; 0.5 where a class is missing."""
    ones = labels == 1
    count, others = int(ones.sum()), int((~ones).sum())
    if not count or not others:
        return 0.5
    return float((_ranks(found)[ones].sum() - count * (count + 1) / 2) / (count * others))


def _ranks(values: Array) -> Array:
    """From 1, those of equal values their mean."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[places.reshape(-1)])


MEASURES: Mapping[str, Measure] = {
    "accuracy": accuracy,
    "f1": f1,
    "acc_and_f1": acc_and_f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
    "auc": auc,
}


def metric(name: str, labels: Array, found: Array) -> Metric:
    """One metric. Raises: UsageError for one that is not known, or sides of different length."""
    return Metric(_measure(name, labels, found)(labels, found), int(labels.size))


def bootstrap(name: str, labels: Array, found: Array, *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Bounds of a metric. Raises: UsageError likewise."""
    measure = _measure(name, labels, found)
    return _bounds([measure(labels[rows], found[rows]) for rows in _drawn(labels.size, seed)], level)


def paired_difference(
    name: str, labels: Array, source: Array, target: Array, *, level: float = 0.9, seed: int = 0
) -> tuple[float, float]:
    """Bounds of a metric's difference, target minus source, on the same examples. Raises: UsageError likewise."""
    measure = _measure(name, labels, source)
    _measure(name, labels, target)
    apart = [measure(labels[r], target[r]) - measure(labels[r], source[r]) for r in _drawn(labels.size, seed)]
    return _bounds(apart, level)


def _measure(name: str, labels: Array, found: Array) -> Measure:
    if name not in MEASURES:
        raise UsageError(f"metric {name}: not known; there are {', '.join(MEASURES)}")
    if labels.shape != found.shape or labels.ndim != 1 or not labels.size:
        raise UsageError(f"metric {name}: wanted a prediction for each label, got {found.shape} for {labels.shape}")
    return MEASURES[name]


def _drawn(count: int, seed: int) -> Iterator[Array]:
    random = np.random.default_rng(seed)
    for _ in range(RESAMPLES):
        yield random.integers(0, count, count)


def _bounds(values: list[float], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
