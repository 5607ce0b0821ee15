"""The summary at the end of ModelZoo's training scripts: a value a line, each measured once."""

from __future__ import annotations

import numpy as np

from porting.acceptance.trajectory import Metric
from porting.logs.columns import Found
from porting.logs.dialect import Dialect, Event, Part, Points, last, line, word

WORDS = {
    "Network": "network",
    "RankSize": "ranks",
    "BatchSize": "batch_size",
    "DeviceType": "device",
    "CaseName": "case",
}
NUMBERS = ("ActualFPS", "TrainingTime", "ActualLoss", "TrainAccuracy", "E2ETrainingTime")
FINALS = {
    "Final Performance images/sec": "images_per_second",
    "Final Train Accuracy": "TrainAccuracy",
    "Final Training Duration sec": "E2ETrainingTime",
    "E2E Training Duration sec": "E2ETrainingTime",
}
ONE_MEAN = "the summary's rates are single numbers: their spread is unknown"


def _event(key: str, mark: str) -> Event:
    name = FINALS.get(key, key)
    if key in WORDS:
        return Event(key, f"{key}{mark}".encode(), line(rf"{key}{mark}(?P<value>[^\n]{{1,200}})$"), words=_VALUE)
    unit = r"(?: ?(?:ms|s|sec))?"
    return Event(name, f"{key}{mark}".encode(), line(rf"{key}{mark}\s?(?P<value>%(NUMBER)s){unit}%(END)s"))


_VALUE = frozenset({"value"})


def _settle(found: Found) -> Part:
    environment = {to: word(found[key], "value") for key, to in WORDS.items() if key in found}
    numbers = {key: value for key, rows in found.items() if (value := last(rows, "value")) is not None}
    series: dict[str, Points] = {}
    if time := numbers.get("TrainingTime"):
        series["seconds"] = _one(time, 1e3)
    if rate := numbers.get("ActualFPS") or numbers.get("images_per_second"):
        series["examples_per_second"] = _one(rate, 1.0)
    named = {"ActualLoss": "final_loss", "TrainAccuracy": "accuracy", "E2ETrainingTime": "training_seconds"}
    metrics = {to: numbers[key] for key, to in named.items() if key in numbers}
    return Part(series, metrics, environment=environment, limits=(ONE_MEAN,) if series else ())


def _one(value: Metric, unit: float) -> Points:
    return Points(np.array([0]), np.array([value.value / unit]), value.resolution / unit)


DIALECT = Dialect(
    "modelzoo",
    "ModelZoo summary",
    "TrainingTime = 54.181",
    (
        *(_event(key, " = ") for key in (*WORDS, *NUMBERS)),
        *(_event(key, " : ") for key in FINALS),
    ),
    _settle,
)
