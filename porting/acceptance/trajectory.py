"""What one training run has shown, whether it comes from a capture or from a log that somebody kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Numbers = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One quantity over the steps of a run.

    steps: int64 [n], ascending, each once. values: float64 [n]; what was printed as NaN or infinite stays that.
    resolution: the smallest difference that the source of the numbers can show (0.01 for two decimals); 0 for binary
    values. A criterion that is finer cannot be decided.
    """

    steps: Numbers
    values: Numbers
    resolution: float = 0.0


@dataclass(frozen=True, slots=True)
class Metric:
    """The quality of a task.

    value: in its own unit (accuracy 0 to 1). count: examples, None where nobody said. interval: of 95 %, where the
    predictions are known.
    """

    value: float
    count: int | None = None
    resolution: float = 0.0
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """A file that was read: the ground of provenance. hash: `xxh3_128:HEX` of its bytes as they lie on the disk."""

    path: str
    size: int
    hash: str


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A run. Every name of a series and of a metric means the same whatever the run was made with.

    series: `loss`, `grad_norm`, `grad_norm/GROUP`, `lr`, `loss_scale`, `overflow` (0 or 1), `seconds` (wall clock
    of the step), `examples_per_second`, `memory_mb`; other losses and metrics over steps by their own names.
    metrics: `accuracy`, `f1`, `acc_and_f1`, `matthews`, `pearson`, `spearman`, `auc`, `final_loss`, …: measured once.
    counts: events by name: `recompilations`, `cpu_fallbacks`, `overflows`.
    environment: device, framework, versions, precision, batch_size, ranks, …; only what the run itself says.
    batches: data hash per step, in the order of steps; weights: hash of the initial weights, as captures have it;
    dropout: `off`, `masks HASH`, `own`; each empty where nobody recorded it.
    limits: what this evidence cannot support, a sentence each (`no hash of the data`, `printed to 0.01`).
    notes: what was met on reading (`412 lines repeated an event, counted once`, `the last line is torn`).
    replica: seed of the function-preserving permutation, None for the run itself; seed: of data order and dropout.
    crashed: why it ended before its end, empty where it did not.
    """

    name: str
    kind: Literal["capture", "log"]
    inputs: tuple[Input, ...]
    series: Mapping[str, Series]
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    batches: tuple[str, ...] = ()
    weights: str = ""
    dropout: str = ""
    emulated: str = ""
    limits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    replica: int | None = None
    seed: int | None = None
    crashed: str = ""


@dataclass(frozen=True, slots=True)
class Runs:
    """One side's training.

    run: as it is meant to be. replicas: under function-preserving permutations. seeds: with other seeds of data order
    and dropout. shadow: in float32, shadows its replicas.
    """

    run: Trajectory
    replicas: tuple[Trajectory, ...] = ()
    seeds: tuple[Trajectory, ...] = ()
    shadow: Trajectory | None = None
    shadows: tuple[Trajectory, ...] = ()
