"""Metrics of a task from its predictions; their intervals are `porting.acceptance.resampling`'s."""

from __future__ import annotations

import numpy as np

from porting.acceptance.trajectory import Metric
from porting.errors import UsageError
from porting.metrics import MEASURES, Array, Measure

CORRELATIONS = ("pearson", "spearman")
"""Metrics of values, the others being of classes."""

OF_NUMBERS = (*CORRELATIONS, "auc")
"""Metrics that have no value where a value or a score is no finite number."""


def metric(name: str, labels: Array, found: Array) -> Metric:
    """One metric, NaN where a value or a score is no finite number.

    Raises: UsageError for one that is not known, or sides of different length.
    """
    measure = _measure(name, labels, found)
    if name in OF_NUMBERS and not np.isfinite(found).all():
        return Metric(float("nan"), int(labels.size))
    with np.errstate(all="ignore"):  # what is no number is judged as such
        return Metric(measure(labels, found), int(labels.size))


def _measure(name: str, labels: Array, found: Array) -> Measure:
    if name not in MEASURES:
        raise UsageError(f"metric {name}: not known; there are {', '.join(MEASURES)}")
    if labels.shape != found.shape or labels.ndim != 1 or not labels.size:
        raise UsageError(f"metric {name}: wanted a prediction for each label, got {found.shape} for {labels.shape}")
    return MEASURES[name]
