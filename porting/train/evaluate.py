"""The metrics of GLUE's tasks, in numpy: what transformers' glue_compute_metrics takes from scikit-learn and SciPy."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan

from porting.backends.protocol import Array
from porting.errors import UsageError
from porting.metrics import MEASURES, pearson, spearman

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
        both = {"pearson": pearson(labels, outputs, constant=nan), "spearman": spearman(labels, outputs, constant=nan)}
        return {**both, "corr": sum(both.values()) / 2}
    names = {"matthews": ("matthews",), "acc_and_f1": ("f1", "acc_and_f1")}.get(kind, ())
    return {name: MEASURES[name](labels, outputs) for name in ("accuracy", *names)}
