"""From a cell's result to its figures, and for every figure that there is not, the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from porting.acceptance.speed import Steady, steady
from porting.acceptance.trajectory import Numbers
from porting.bench.cell import Cell, Result
from porting.bench.reading import HOST, mean_over_time
from porting.errors import readable

FIGURES: Mapping[str, str] = {
    "eval_accuracy": "the share of the evaluation's examples, after the last epoch",
    "eval_loss": "mean over the evaluation's examples, after the last epoch",
    "train_loss": "mean over the steps of the last epoch",
    "epoch_time": "seconds of all steps, without what was compiled and warmed up, over the epochs",
    "average_power": "watts of the device, over the steady steps",
    "average_memory": "MiB in use on the device, of the processes on a CPU, over the steady steps",
    "average_utilization": "share of the device, of all cores on a CPU, over the steady steps",
    "step_time": "seconds, the median of the steady steps",
    "examples_per_second": "over the steady steps",
    "compile_time": "seconds of compiling and warming up: before the steady steps, beyond as many steady ones",
    "peak_memory": "MiB, the most that a sample saw on the device",
    "peak_rss": "MiB, the most that the process ever had resident",
}
"""All figures, the field case's first and in its order. Shares are of 1."""

OF_DEVICE = tuple(name for name in FIGURES if not name.endswith(("_loss", "_accuracy")))
"""What an emulated device says nothing of."""

READINGS = {"average_power": 2, "average_utilization": 3, "average_memory": 4}
"""Where they stand in a reading of a result."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A cell with its result.

    values: of all FIGURES, None where there is none; reasons: for these. steady: None of a cell that is not done.
    """

    cell: Cell
    result: Result
    values: Mapping[str, float | None]
    reasons: Mapping[str, str]
    steady: Steady | None = None

    @property
    def state(self) -> str:
        """One of porting.bench.cell.STATES."""
        return str(self.result["state"])

    @property
    def emulated(self) -> str:
        """What stands in for the device, if so."""
        return str(self.result.get("emulated", ""))

    @property
    def backend(self) -> str:
        """As it was resolved; as it was asked for, where it was not."""
        return str(self.result.get("backend", self.cell.backend))

    @property
    def seconds(self) -> Numbers:
        """Of every step."""
        return np.asarray(self.result.get("seconds", ()), np.float64)

    @property
    def ends(self) -> Numbers:
        """When each step ended, in seconds from the first's beginning."""
        found: Numbers = np.cumsum(self.seconds)
        return found

    def during(self, name: str) -> list[tuple[float, float | None]]:
        """(seconds, value) of the cell's device over the steady steps. name: one of READINGS."""
        if self.steady is None or not self.result["reads"]:
            return []
        start, end = float(self.seconds[: self.steady.first].sum()), float(self.seconds.sum())
        mine = [one for one in self.result["readings"] if one[1] == self.result["reads"]]
        return [(one[0], one[READINGS[name]]) for one in mine if start <= one[0] <= end]


def measured(cell: Cell, result: Result) -> Measured:
    """All figures of a cell, or why there are none."""
    if result["state"] != "done":
        reason = readable(f"{str(result['state']).replace('_', ' ')}: {result['reason']}")
        return Measured(cell, result, dict.fromkeys(FIGURES), dict.fromkeys(FIGURES, reason))
    found = steady_after_first(np.asarray(result["seconds"]))
    bare = Measured(cell, result, {}, {}, found)
    values: dict[str, float | None] = dict.fromkeys(FIGURES)
    values |= _learned(result) | _timed(cell, result, found) | _sampled(bare)
    reasons = {name: _reason(bare, name) for name, value in values.items() if value is None}
    if bare.emulated:
        values |= dict.fromkeys(OF_DEVICE)
        reasons |= dict.fromkeys(OF_DEVICE, f"emulated ({bare.emulated}): of what stands in, not of the device")
    return Measured(cell, result, values, reasons, found)


def steady_after_first(seconds: Numbers) -> Steady:
    """The steady state, which the first step is never in: graphs are compiled and libraries loaded in it.

    Where a machine's other work makes steps vary by factors, the data alone would not tell it from the others.
    """
    if seconds.size < 2:
        return steady(seconds)
    rest = steady(seconds[1:])
    first = rest.first + 1
    return replace(rest, first=first, compile=max(0.0, float(seconds[:first].sum()) - first * rest.median))


def _learned(result: Result) -> dict[str, float | None]:
    said = result["evaluation"]
    last = np.asarray(result["loss"][-result["per_epoch"] :])
    return {"eval_accuracy": said.get("accuracy"), "eval_loss": said["loss"], "train_loss": float(last.mean())}


def _timed(cell: Cell, result: Result, found: Steady) -> dict[str, float | None]:
    epochs = len(result["seconds"]) / result["per_epoch"]
    return {
        "epoch_time": (sum(result["seconds"]) - found.compile) / epochs,
        "step_time": found.median,
        "examples_per_second": cell.batch_size * found.values.size / float(found.values.sum()),
        "compile_time": found.compile,
    }


def _sampled(bare: Measured) -> dict[str, float | None]:
    means = {name: mean_over_time(bare.during(name)) for name in READINGS}
    busy, peak = means["average_utilization"], bare.result["peak_rss"]
    memory = [value for _, value in bare.during("average_memory") if value is not None]
    return {
        **means,
        "average_utilization": None if busy is None else busy / 100,
        "peak_memory": None if bare.result["reads"] == HOST else max(memory, default=None),
        "peak_rss": None if peak is None else peak / (1 << 20),
    }


def _reason(bare: Measured, name: str) -> str:
    """Why a figure of a cell that is done is not there."""
    result = bare.result
    if name == "eval_accuracy":
        return "a regression has none"
    if name == "peak_rss":
        return "the system does not tell"
    if result["reads"] == HOST and name in ("average_power", "peak_memory"):
        return (
            "a CPU's power is not told" if name == "average_power" else "a CPU has no memory of its own: see peak_rss"
        )
    if not result["reads"]:
        return _unknown(result["readings"], result["monitor"]["missing"])
    if not bare.during("average_power"):
        return f"no sample of {result['reads']} in the {float(bare.seconds.sum()):.3g} s of the steps"
    return f"{result['reads']} does not tell it"


def _unknown(readings: Sequence[Sequence[Any]], missing: Sequence[str]) -> str:
    there = sorted({str(one[1]) for one in readings} - {HOST})
    if there:
        return f"which of {', '.join(there)} the cell ran on is not known"
    return f"no meter: {'; '.join(missing)}"
