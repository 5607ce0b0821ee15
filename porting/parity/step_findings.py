"""L4, what a step says of itself: rate, loss, norm of the gradients, overflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from porting.parity.criteria import APART_L2, EPSILONS, HONEST, section_floor
from porting.parity.floor import Floor
from porting.parity.state import Finding, Level, State

RATE = 8 * EPSILONS["float32"]
"""Relative difference of two learning rates: a schedule is a handful of float32 operations where it is computed on a
device, each of which rounds by half an epsilon."""

Step = Mapping[str, Any]


def step_findings(
    source: Sequence[Step], target: Sequence[Step], *, floor: Floor | None, precision: str, missing: str
) -> Iterator[Finding]:
    """Findings of the steps that either side made.

    Batch, rate and overflow of every step; loss and norm of the first only: what follows is a trajectory, of which one
    step proves nothing.
    """
    if len(source) != len(target):
        reason = f"the source made {len(source)}, the target {len(target)}"
        yield Finding(Level.STEP, "steps", State.UNMATCHED, reason)
    for number, (ours, theirs) in enumerate(zip(source, target, strict=False)):
        for name in ("batch", "overflow"):
            if name in ours or name in theirs:
                yield _same(number, name, ours.get(name), theirs.get(name))
        if "lr" in ours or "lr" in theirs:
            yield _near(number, "lr", ours, theirs, RATE, f"8 epsilons of float32: {RATE:.2g}", "")
    if source and target:
        for name, section in (("loss", "forward"), ("grad_norm", "gradients")):
            if name in source[0] or name in target[0]:
                limit, origin = _limit(floor, section, name, precision)
                yield _near(0, name, source[0], target[0], limit, origin, "" if floor else missing)


def _limit(floor: Floor | None, section: str, name: str, precision: str) -> tuple[float, str]:
    """The floor of a single number is, by luck, zero: that of its section is the least that stands for it."""
    middle = section_floor(floor, section)[0] if floor else 0.0
    own = floor.entries.get((section, name)) if floor else None
    if own is not None and own.rel_l2 > middle:
        return APART_L2 * own.rel_l2, f"{APART_L2:g} x {own.rel_l2:.2g} ({own.origin})"
    if middle:
        return APART_L2 * middle, f"{APART_L2:g} x {middle:.2g} (median floor of {section})"
    middle = HONEST * EPSILONS[precision]
    return APART_L2 * middle, f"{APART_L2:g} x {middle:.2g} ({HONEST:.1f} epsilons of {precision})"


def _same(number: int, name: str, ours: Any, theirs: Any) -> Finding:
    what = f"step {number} {name}"
    if ours == theirs:
        return Finding(Level.STEP, what, State.PASS)
    state = State.UNMATCHED if ours is None or theirs is None else State.FAIL
    return Finding(Level.STEP, what, state, f"source {ours}, target {theirs}")


def _near(number: int, name: str, ours: Step, theirs: Step, limit: float, origin: str, missing: str) -> Finding:
    what = f"step {number} {name}"
    a, b = ours.get(name), theirs.get(name)
    if not isinstance(a, (int, float)) or not isinstance(b, (int, float)):
        return Finding(Level.STEP, what, State.UNMATCHED, f"source {a}, target {b}")
    if not isfinite(a) or not isfinite(b):
        state = State.CONDITIONAL if str(a) == str(b) else State.FAIL
        return Finding(Level.STEP, what, state, f"source {a}, target {b}: not finite")
    apart = abs(b - a) / abs(a) if a else float(b != 0)
    state = State.FAIL if apart > limit else State.CONDITIONAL if missing else State.PASS
    reason = f"source {a:.9g}, target {b:.9g}" if state is State.FAIL else missing
    return Finding(Level.STEP, what, state, reason, "", "relative", apart, limit, origin)
