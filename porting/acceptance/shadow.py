"""The run in float32, where rounding is so small that an epsilon or another form of gelu shows.

Over the first 50 steps: the relative difference of the two sides against that of the source's own replicas, block by
block. Later steps have more of the chaos of training in them and say less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

import numpy as np

from porting.acceptance.align import Aligned, aligned, members, precision
from porting.acceptance.names import SHADOW
from porting.acceptance.permutation import cut
from porting.acceptance.trajectory import Runs, Trajectory
from porting.parity.criteria import APART_L2, EPSILONS, HONEST
from porting.parity.state import Finding, Level, State

STEPS = 50
"""At least, and the first of them are looked at."""

LIMIT = APART_L2
"""Floors, as for any tensor. Honest ports showed 0.99 to 2.33, replicas 0.63 to 1.73 (PARITY)."""

LEAST = HONEST * EPSILONS["float32"] / APART_L2
"""A floor is no less: replicas of a net that has stopped to learn agree to the bit, and say nothing of frameworks whose
softmax rounds otherwise (PyTorch, MindSpore on the CPU: 3.5e-7). What an honest port was apart is within LIMIT."""

SERIES = ("loss", "grad_norm")


def shadow_findings(source: Runs, target: Runs) -> Iterator[Finding]:
    """A finding for loss and gradient norm; NOT_RUN where a float32 run of 50 steps with replicas is missing."""
    ours, theirs = shadow_group(source), shadow_group(target)
    missing = _missing(ours, theirs)
    if missing:
        yield Finding(Level.TRAJECTORY, SHADOW, State.NOT_RUN, missing)
        return
    for name in SERIES:
        found = aligned((*ours, *theirs), name)
        if found is not None and found.finite.steps.size:
            yield _judged(name, found, len(ours))


def shadow_group(runs: Runs) -> tuple[Trajectory, ...]:
    """The runs in float32: those that were made for it, or the side's own if they are."""
    if runs.shadow is not None:
        return (runs.shadow, *runs.shadows)
    return members(runs) if precision(runs.run) == "float32" else ()


def floors_apart(found: Aligned, first: int) -> float:
    """Root mean square over blocks of the difference of two groups over that within the first.

    found: the runs of both groups, the first `first` of the one. Of relative differences, over all pairs.
    """
    values = found.values[:, :STEPS]
    scale = np.abs(values[:first].mean(axis=0))
    within = np.mean([((values[a] - values[b]) / scale) ** 2 for a, b in combinations(range(first), 2)], axis=0)
    pairs = product(range(first), range(first, len(values)))
    apart = np.mean([((values[a] - values[b]) / scale) ** 2 for a, b in pairs], axis=0)
    starts, sizes = cut(values.shape[1])
    floor = np.maximum(np.add.reduceat(within, starts) / sizes, LEAST**2)
    return float(np.sqrt(np.mean(np.add.reduceat(apart, starts) / sizes / floor)))


def _missing(ours: Sequence[Trajectory], theirs: Sequence[Trajectory]) -> str:
    """Why it cannot be judged, if so."""
    if not ours or not theirs:
        which = " and ".join(side for side, group in (("source", ours), ("target", theirs)) if not group)
        return f"no run in float32 of the {which}"
    found = aligned((*ours, *theirs), "loss")
    count = 0 if found is None else found.steps.size
    if count < STEPS:
        return f"{count} steps in float32, wanted {STEPS}"
    if found is not None and not np.isfinite(found.values[:, :STEPS]).all():
        return "losses in float32 are not finite"
    if found is not None and len(ours) > 1 and (found.values[: len(ours)] == found.values[0]).all():
        return "the source's replicas in float32 are the same bits: there is no floor"
    if len(ours) < 2:
        return "one run in float32 of the source: without replicas its floor is not known"
    return ""


def _judged(name: str, found: Aligned, first: int) -> Finding:
    value = floors_apart(found.finite, first)
    good = value <= LIMIT
    reason = "" if good else f"float32 shows a difference in the first {STEPS} steps that rounding does not make"
    source = f"{LIMIT:g} x the differences of the source's own {first} runs in float32"
    state = State.PASS if good else State.FAIL
    return Finding(
        Level.TRAJECTORY, f"{SHADOW}: {name}", state, reason, "", "difference over floor", value, LIMIT, source
    )
