"""What has to hold before two trajectories can be compared, each with its proof.

A broken one is a FAIL of its own name: a difference at step 0, before anything was learned, is one of the weights, the
batch or the loss, and no training can explain it. What nobody recorded is NOT_RUN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from porting.acceptance.align import Aligned, aligned, members, precision, resolution
from porting.acceptance.names import DATA, DESCENT, DROPOUT, FINITE, RATE, STEP_0, WEIGHTS
from porting.acceptance.trajectory import Numbers, Runs, Trajectory
from porting.parity.criteria import APART_L2, EPSILONS
from porting.parity.state import Finding, Level, State

MARGIN = 0.005
"""Of a tail mean, relative: PARITY's 0.5 %."""

DESCENTS = 10.0
"""A loss has to fall by so many margins: what hardly moves is within the margin whatever a port does."""

ROUNDED = 8 * EPSILONS["float32"]
"""Of a learning rate, relative: a schedule in float32 rounds a few times."""

FIRST_LOSS = 0.005
"""Absolute or relative: the MindFormers precision guide's limit of the first loss."""


def preconditions(source: Runs, target: Runs) -> Iterator[Finding]:
    """All of them, those that prove the others first."""
    runs = (*members(source), *members(target))
    yield _data(runs)
    yield _weights(runs)
    yield _dropout(source.run, target.run)
    yield _rate(source.run, target.run)
    yield _finite(source.run, target.run)
    yield _step_0(source, target)
    yield _descent(source.run, target.run)


def _finding(what: str, state: State, reason: str = "", *held: Any) -> Finding:
    """held: measure, value, limit and its source."""
    return Finding(Level.TRAJECTORY, what, state, reason, "", *held)


def _data(runs: Sequence[Trajectory]) -> Finding:
    silent = [one.name for one in runs if not one.batches]
    if silent:
        return _finding(DATA, State.NOT_RUN, f"no hash of the data: {_few(silent)}")
    first = runs[0]
    for one in runs[1:]:
        other = [i for i, (a, b) in enumerate(zip(first.batches, one.batches, strict=False)) if a != b]
        if other:
            steps = f"at {len(other)} steps, first at number {other[0]}, counted from 0"
            return _finding(DATA, State.FAIL, f"{one.name} saw other data than {first.name} {steps}")
    count = min(len(one.batches) for one in runs)
    return _finding(DATA, State.PASS, f"the hash of each of {count} batches is the same in {len(runs)} runs")


def _weights(runs: Sequence[Trajectory]) -> Finding:
    silent = [one.name for one in runs if not one.weights]
    if silent:
        return _finding(WEIGHTS, State.NOT_RUN, f"no hash of the initial weights: {_few(silent)}")
    others = [one.name for one in runs if one.weights != runs[0].weights]
    if others:
        return _finding(WEIGHTS, State.FAIL, f"other initial weights than {runs[0].name}: {_few(others)}")
    return _finding(WEIGHTS, State.PASS, f"{runs[0].weights[:20]}… in {len(runs)} runs")


def _dropout(source: Trajectory, target: Trajectory) -> Finding:
    if not source.dropout or not target.dropout:
        silent = [one.name for one in (source, target) if not one.dropout]
        return _finding(DROPOUT, State.NOT_RUN, f"nobody recorded whether dropout was on: {_few(silent)}")
    if source.dropout != target.dropout:
        return _finding(DROPOUT, State.FAIL, f"{source.dropout} (source), {target.dropout} (target)")
    if source.dropout == "own":
        return _finding(DROPOUT, State.CONDITIONAL, "each side draws masks of its own: not the same function")
    return _finding(DROPOUT, State.PASS, source.dropout)


def _rate(source: Trajectory, target: Trajectory) -> Finding:
    found = aligned((source, target), "lr")
    if found is None:
        return _finding(RATE, State.NOT_RUN, f"no learning rate of both sides: {_lacking('lr', source, target)}")
    a, b = found.values
    allowed = np.maximum(ROUNDED * np.abs(a), resolution((source, target), "lr"))
    off = ~(np.abs(a - b) <= allowed)
    scale = np.maximum(np.abs(a), np.finfo(np.float64).tiny)
    largest = float(np.max(np.abs(a - b) / scale))
    if not off.any():
        reason = f"the same at {found.steps.size} steps"
        return _finding(RATE, State.PASS, reason, "largest relative difference", largest, ROUNDED, "rounding")
    at = int(np.argmax(off))
    reason = f"{a[at]:.6g} (source), {b[at]:.6g} (target) at step {found.steps[at]}; at {int(off.sum())} steps in all"
    return _finding(RATE, State.FAIL, reason, "largest relative difference", largest, ROUNDED, "rounding")


def _finite(source: Trajectory, target: Trajectory) -> Finding:
    facts, seen = [], 0
    for side, one in (("source", source), ("target", target)):
        for name in ("loss", "grad_norm"):
            if name in one.series:
                series = one.series[name]
                bad = ~np.isfinite(series.values) & ~_overflowed(one, series.steps, name)
                seen += name == "loss"
                if bad.any():
                    step = series.steps[int(np.argmax(bad))]
                    facts.append(f"{int(bad.sum())} {name} not finite ({side}), first at step {step}")
    if facts:
        return _finding(FINITE, State.FAIL, ", ".join(facts))
    if seen < 2:
        return _finding(FINITE, State.NOT_RUN, f"no loss: {_lacking('loss', source, target)}")
    return _finding(FINITE, State.PASS, "every loss and gradient norm")


def _overflowed(one: Trajectory, steps: Numbers, name: str) -> Numbers:
    """Steps that were skipped for an overflow, whose gradients are no numbers rightly."""
    if name == "loss" or "overflow" not in one.series:
        return np.zeros(steps.size, bool)
    return np.isin(steps, one.series["overflow"].steps[np.asarray(one.series["overflow"].values) > 0])


def _step_0(source: Runs, target: Runs) -> Finding:
    ours, theirs = members(source), members(target)
    found = aligned((*ours, *theirs), "loss")
    if found is None:
        return _finding(STEP_0, State.NOT_RUN, "no step with a loss of both sides")
    if found.steps[0] > 1:
        return _finding(STEP_0, State.NOT_RUN, f"the first step of both sides is {found.steps[0]}: training had begun")
    first = found.values[:, 0]
    a, b = float(first[0]), float(first[len(ours)])
    floor = _floor_0(found, ours, theirs)
    measure = "difference of the first loss"
    if floor is not None:
        limit, origin = APART_L2 * floor, f"{APART_L2:g} x {floor:.2g} (replicas' first loss, and rounding)"
    else:
        limit, origin = FIRST_LOSS * max(1.0, abs(a)), "MindFormers precision guide: first loss"
    limit = max(limit, resolution((*ours, *theirs), "loss"))
    gap = abs(a - b)
    if not gap <= limit:
        reason = f"{a:.9g} (source), {b:.9g} (target) before any update: the weights, the batch or the loss differ"
        return _finding(STEP_0, State.FAIL, reason, measure, gap, limit, origin)
    state = State.PASS if floor is not None else State.CONDITIONAL
    reason = "" if floor is not None else "without replicas there is no floor"
    return _finding(STEP_0, state, reason, measure, gap, limit, origin)


def _floor_0(found: Aligned, ours: Sequence[Trajectory], theirs: Sequence[Trajectory]) -> float | None:
    """The largest difference of one side's members at the first step, no less than the rounding of a loss."""
    if min(len(ours), len(theirs)) < 2:
        return None
    first = found.values[:, 0]
    sides = first[: len(ours)], first[len(ours) :]
    apart = max(abs(float(a) - float(b)) for side in sides for a, b in combinations(side, 2))
    coarsest = max(EPSILONS.get(precision(one), EPSILONS["float32"]) for one in (ours[0], theirs[0]))
    return max(apart, coarsest * abs(float(first[0])))


def _descent(source: Trajectory, target: Trajectory) -> Finding:
    found = aligned((source, target), "loss")
    if found is None or found.steps.size < 2 or not np.isfinite(found.values).all():
        return _finding(DESCENT, State.NOT_RUN, "no steps with finite losses of both sides")
    head = found.values[:, : max(1, found.steps.size // 10)].mean(axis=1)
    falls = (head - found.tail) / np.maximum(np.abs(found.tail), np.finfo(np.float64).tiny)
    limit, origin = DESCENTS * MARGIN, f"{DESCENTS:g} x the margin of {MARGIN:.1%}"
    measure, fall = "fall of the loss, of its tail's mean", float(falls.min())
    if fall >= limit:
        return _finding(DESCENT, State.PASS, "", measure, fall, limit, origin)
    which = "source" if falls[0] <= falls[1] else "target"
    reason = f"the {which}'s loss falls from {head[falls.argmin()]:.5g} to {found.tail[falls.argmin()]:.5g} only"
    return _finding(DESCENT, State.CONDITIONAL, f"{reason}: too little to compare by", measure, fall, limit, origin)


def _lacking(name: str, source: Trajectory, target: Trajectory) -> str:
    silent = [one.name for one in (source, target) if name not in one.series]
    return _few(silent) if silent else "no step is common to both"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
