"""One name for each quantity, whatever a dialect calls it."""

from __future__ import annotations

SERIES = {
    "loss": "loss",
    "lm loss": "loss",
    "total_loss": "loss",
    "grad_norm": "grad_norm",
    "grad norm": "grad_norm",
    "gnorm": "grad_norm",
    "global_norm": "grad_norm",
    "lr": "lr",
    "learning_rate": "lr",
    "learning rate": "lr",
    "loss_scale": "loss_scale",
    "loss scale": "loss_scale",
    "overflow": "overflow",
    "overflow cond": "overflow",
    "seconds": "seconds",
    "step_time": "seconds",
    "examples_per_second": "examples_per_second",
    "memory_mb": "memory_mb",
}

METRICS = {
    "acc": "accuracy",
    "accuracy": "accuracy",
    "f1": "f1",
    "acc_and_f1": "acc_and_f1",
    "mcc": "matthews",
    "matthews": "matthews",
    "matthews_correlation": "matthews",
    "matthews_corrcoef": "matthews",
    "pearson": "pearson",
    "pearsonr": "pearson",
    "spearman": "spearman",
    "spearmanr": "spearman",
    "corr": "corr",
    "auc": "auc",
}


def series(name: str) -> str:
    """The name of a series.

    >>> series("lm loss")
    'loss'
    """
    return SERIES.get(name, name)


def metric(name: str) -> str | None:
    """The name of a task's metric; None for what is none.

    >>> metric("eval_mcc")
    'matthews'
    """
    return METRICS.get(name.removeprefix("eval_").removeprefix("eval/").lower())
