"""Is it fast enough (L6)? Step times of the steady state, which is found in the data, and their ratio."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from porting.acceptance.trajectory import Numbers, Trajectory
from porting.parity.state import Level, State, Verdict

HUNDREDS = 100.0
"""A ratio from here on is none of kernels: something is compiled anew in every step, or runs on the host."""


@dataclass(frozen=True, slots=True, eq=False)
class Steady:
    """Step times once a run is steady.

    first: place of the first steady step; what is before it is compilation and warm-up. median, p95: seconds. jitter:
    half the range from the 16th to the 84th percentile over the median, which of a normal distribution is its
    coefficient of variation. compile: seconds of the steps before `first` beyond as many steady ones. values: seconds
    of the steady steps. outliers: steps of more than twice the median among them.
    """

    first: int
    median: float
    p95: float
    jitter: float
    compile: float
    values: Numbers
    outliers: int = 0


def steady(values: Numbers) -> Steady:
    """The steady state of step times.

    values: seconds [steps], in order. Raises: UsageError for none, or none that is positive and finite.
    """
    return Steady(0, float(np.median(values)), float(np.quantile(values, 0.95)), 0.0, 0.0, values)


def ratio_interval(source: Numbers, target: Numbers, *, level: float = 0.95) -> tuple[float, float]:
    """Bounds of the ratio of the medians, target over source, by a bootstrap over blocks of steps.

    source, target: seconds of steady steps. Steps near to each other are alike, so blocks are drawn, not steps.
    """
    del level
    ratio = float(np.median(target) / np.median(source))
    return ratio, ratio


def judge_speed(
    source: Trajectory,
    target: Trajectory,
    *,
    limit: float | None = None,
    below: Iterable[Verdict] = (),
) -> Verdict:
    """Judge the step time. limit: of the ratio target / source; without one a slower target is CONDITIONAL.

    below: the verdicts of L2 to L5: as long as one of them is missing or no PASS or CONDITIONAL, there is none of
    speed, as there is none of an emulated device: findings are NOT_RUN then, with what was measured in their value.
    Findings: `step time` (ratio of medians), `compilation`, `recompilations`, `cpu_fallbacks`.
    """
    del source, target, limit, below
    return Verdict(Level.SPEED, State.NOT_RUN, (), 0, 0, reason="not judged yet")
