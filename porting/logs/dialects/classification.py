"""PyTorch's scripts for text classification: a result a line, counts, and times in seconds (or 秒)."""

from __future__ import annotations

from dataclasses import replace

from porting.acceptance.trajectory import Metric
from porting.logs.columns import Found, Token
from porting.logs.dialect import Dialect, Event, Part, last, line, whole
from porting.logs.names import metric

RESULTS = ("acc", "acc_and_f1", "f1", "mcc", "corr", "pearson", "spearmanr", "auc", "accuracy", "matthews")
COUNTS = {
    "Num examples": "examples",
    "Num Epochs": "epochs",
    "Batch size": "batch_size",
    "Total train batch size (w. parallel, distributed & accumulation)": "batch_size",
    "Total optimization steps": "optimization_steps",
}
TIMES = {"Training time": "training_seconds", "Evaluation time": "evaluation_seconds"}
UNIT = "(?:秒|s|sec|seconds?)"


def _result(name: str) -> Event:
    pattern = line(rf"(?:^|[\s:\-\]])(?:eval_)?{name} = (?P<value>%(NUMBER)s)%(END)s")
    return Event(name, f"{name} = ".encode(), pattern)


def _plain_count(text: bytes) -> dict[str, Token]:
    return {"value": text.replace(b",", b"")}


def _count(key: str) -> Event:
    head = key.replace("(", r"\(").replace(")", r"\)").replace(".", r"\.")
    return Event(key, f"{key} = ".encode(), line(head + r" = ([\d,]{1,20})%(END)s"), _plain_count)


def _time(key: str) -> Event:
    return Event(key, f"{key} ".encode(), line(key + rf":? +(?P<value>%(NUMBER)s) *{UNIT}%(END)s"))


def _settle(found: Found) -> Part:
    numbers = {key: value for key, rows in found.items() if (value := last(rows, "value")) is not None}
    environment = {to: whole(numbers[key].value) for key, to in COUNTS.items() if key in numbers}
    examples = int(numbers["Num examples"].value) if "Num examples" in numbers else None
    metrics: dict[str, Metric] = {}
    for name in RESULTS:
        if name in numbers and (known := metric(name)) is not None:
            metrics[known] = replace(numbers[name], count=examples)
    for key, to in TIMES.items():
        if key in numbers:
            metrics[to] = numbers[key]
    return Part(metrics=metrics, environment=environment)


DIALECT = Dialect(
    "classification",
    "PyTorch text classification",
    "INFO  acc = 0.7988994497248624",
    (*map(_result, RESULTS), *map(_count, COUNTS), *map(_time, TIMES)),
    _settle,
)
