"""Metrics of classes and of values, in numpy.

labels: (examples,) what is right. found: (examples,) what was said, of `auc` the scores of class 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Measure = Callable[[Array, Array], float]


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


def pearson(labels: Array, found: Array, *, constant: float = 0.0) -> float:
    """The correlation of values. constant: what it is where one side is."""
    ours, theirs = (np.asarray(side, np.float64) for side in (labels, found))
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    scale = np.sqrt((ours**2).sum() * (theirs**2).sum())
    return float((ours * theirs).sum() / scale) if scale else constant


def spearman(labels: Array, found: Array, *, constant: float = 0.0) -> float:
    """The correlation of ranks. constant: as of `pearson`."""
    return pearson(_ranks(labels), _ranks(found), constant=constant)


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
