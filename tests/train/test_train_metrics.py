"""GLUE's metrics against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from porting.errors import UsageError
from porting.train.evaluate import METRIC, metrics

SAID, WANTED = np.array([1, 1, 0, 0, 1, 0]), np.array([1, 0, 0, 1, 1, 0])  # TP 2, FP 1, FN 1, TN 2


def test_classes():
    assert metrics("sst-2", SAID, WANTED) == {"accuracy": pytest.approx(4 / 6)}
    assert metrics("mrpc", SAID, WANTED)["f1"] == pytest.approx(4 / 6)
    assert metrics("cola", SAID, WANTED)["matthews"] == pytest.approx((2 * 2 - 1 * 1) / math.sqrt(3 * 3 * 3 * 3))
    assert metrics("cola", np.ones(6, int), WANTED)["matthews"] == 0
    assert metrics("qqp", np.zeros(2, int), np.zeros(2, int)) == {"accuracy": 1, "f1": 0, "acc_and_f1": 0.5}


def test_values_with_ties():
    found = metrics("sts-b", np.array([1.0, 2.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0, 9.0]))
    assert found["pearson"] == pytest.approx(13.25 / math.sqrt(4.75 * 38.75))
    assert found["spearman"] == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert found["corr"] == pytest.approx((found["pearson"] + found["spearman"]) / 2)
    assert math.isnan(metrics("sts-b", np.ones(3), np.arange(3.0))["pearson"])


def test_what_is_named_is_there_and_nothing_to_measure_is_refused():
    assert all(name in metrics(task, SAID, WANTED) for task, name in METRIC.items())
    with pytest.raises(UsageError, match="mnli: wanted an output for each label"):
        metrics("mnli", SAID[:0], WANTED[:0])
    with pytest.raises(UsageError, match="wanted an output for each label"):
        metrics("mnli", SAID, WANTED[:3])
