"""Series of several runs on the steps that all of them have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from porting.acceptance.trajectory import Numbers, Runs, Series, Trajectory

TAIL_SHARE = 0.2
"""The tail of a run: its last fifth (PARITY)."""


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """Values of runs on common steps. steps: int64 [steps]; values: float64 [runs, steps]."""

    steps: Numbers
    values: Numbers

    @property
    def finite(self) -> Aligned:
        """Without the steps at which a run has no finite value."""
        whole = np.isfinite(self.values).all(axis=0)
        return Aligned(self.steps[whole], self.values[:, whole])

    @property
    def tail(self) -> Numbers:
        """The mean of each run's last fifth, float64 [runs]."""
        return np.asarray(self.values[:, -max(1, round(TAIL_SHARE * self.steps.size)) :].mean(axis=1))


def members(runs: Runs) -> tuple[Trajectory, ...]:
    """One side's group: the run, which is the replica of no permutation, and the others."""
    return (runs.run, *runs.replicas)


def aligned(trajectories: Sequence[Trajectory], name: str) -> Aligned | None:
    """One series of all runs; None where a run lacks it or no step is common to all."""
    found = [one.series[name] for one in trajectories if name in one.series]
    if not found or len(found) < len(trajectories):
        return None
    counted = [one.steps - shift for one, shift in zip(found, _shifts(found), strict=True)]
    steps = reduce(np.intersect1d, counted)
    if not steps.size:
        return None
    rows = [
        np.asarray(one.values, np.float64)[np.searchsorted(own, steps)] for one, own in zip(found, counted, strict=True)
    ]
    return Aligned(steps, np.stack(rows))


def _shifts(found: Sequence[Series]) -> list[int]:
    """What to subtract from steps: 1 where a run counts from 1 what another, with as many steps, counts from 0."""
    if not all(one.steps.size for one in found) or {int(one.steps[0]) for one in found} != {0, 1}:
        return [0] * len(found)
    counted = [one.steps - one.steps[0] for one in found]
    alike = all(np.array_equal(counted[0], one) for one in counted[1:])
    return [int(one.steps[0]) if alike else 0 for one in found]


def series_names(trajectories: Sequence[Trajectory]) -> tuple[str, ...]:
    """The series that are judged and that all runs have: loss, gradient norms."""
    first = trajectories[0].series
    wanted = [name for name in first if name in ("loss", "grad_norm") or name.startswith("grad_norm/")]
    return tuple(name for name in wanted if all(name in one.series for one in trajectories))


def resolution(trajectories: Sequence[Trajectory], name: str) -> float:
    """The coarsest resolution that a series was recorded with."""
    return max((one.series[name].resolution for one in trajectories if name in one.series), default=0.0)


def precision(trajectory: Trajectory) -> str:
    """Of activations, as the run says; empty where it does not."""
    known = trajectory.environment.get("precision", "").lower()
    names = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "half": "float16"}
    return names.get(known, known)
