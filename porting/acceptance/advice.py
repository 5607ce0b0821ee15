"""What to look at next, from the data: the earliest cause first, for what comes after it may be its effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from porting.acceptance.acceptance import Acceptance, Advice, Curve, Party
from porting.acceptance.names import DATA, RATE, STEP_0
from porting.acceptance.speed import HUNDREDS
from porting.parity.state import DIFFERENCES, Finding, Level, State

SLOWER = 1.2
"""A step time's ratio from which a profile is worth the while. No threshold of anything: that is the user's to set."""

SCALE = 1.5
"""A ratio of gradient norms that rounding cannot make: halves and doubles are what is found."""

AGREES = 0.01
"""Relative difference of losses below which a wrong scale of gradients is hidden from them, as Adam does."""

FLAT = 100.0
"""Compilations are worth a word when there is more than one in so many steps, and more than a handful."""


def advice_for(found: Acceptance) -> tuple[Advice, ...]:
    """All that there is to say, each once, in the order of the chain."""
    told = [advice for part in _PARTS for advice in part(found)]
    return tuple({advice.key + str(sorted(advice.values.items())): advice for advice in told}.values())


def _bad(found: Acceptance, level: Level, mode: str = "") -> Finding | None:
    """The first difference of a level, in the order of computation."""
    rows = found.level(level).findings
    return next((one for one in rows if one.state in DIFFERENCES and (not mode or one.mode == mode)), None)


def _named(finding: Finding) -> str:
    return f"{finding.what}, {finding.reason}" if finding.reason else finding.what


def _tensors(found: Acceptance) -> Iterator[Advice]:
    """L0 to L4. A later level is only spoken of where those before it agree."""
    crashed = next((one for level in found.levels for one in level.findings if one.state is State.CRASHED), None)
    if crashed is not None:
        yield Advice("crashed", crashed.level, {"first": _named(crashed)})
        return
    for level, key in ((Level.WEIGHTS, "weights"), (Level.SETTINGS, "settings")):
        first = _bad(found, level)
        if first is not None:
            yield Advice(key, level, {"first": _named(first)})
    forced, free = _bad(found, Level.FORWARD, "forced"), _bad(found, Level.FORWARD)
    if forced is not None:
        yield Advice("module", Level.FORWARD, {"first": forced.what})
    elif free is not None:
        yield Advice("forward", Level.FORWARD, {"first": free.what})
    elif (backward := _bad(found, Level.BACKWARD)) is not None:
        yield Advice("backward", Level.BACKWARD, {"first": backward.what})
    elif (step := _bad(found, Level.STEP)) is not None:
        yield Advice("step", Level.STEP, {"first": step.what})


def _training(found: Acceptance) -> Iterator[Advice]:
    """L5: what a run starts with before what it comes to."""
    rows = {one.what: one for one in found.level(Level.TRAJECTORY).findings if one.state is State.FAIL}
    for name, key in ((DATA, "batches"), (RATE, "lr")):
        if name in rows:
            yield Advice(key, Level.TRAJECTORY, {"first": rows[name].reason})
    loss = next((curve for curve in found.curves if curve.name == "loss"), None)
    if STEP_0 in rows and loss is not None:
        yield from _step_0(loss)
    yield from _not_finite(found)
    yield from _gradient_scale(found, loss)
    others = [one for what, one in rows.items() if not what.startswith("precondition")]
    if others and not any(what.startswith("precondition") for what in rows):
        key = "first_loss" if others[0].measure.startswith("first") else "trajectory"
        yield Advice(key, Level.TRAJECTORY, {"first": _named(others[0])})


def _step_0(loss: Curve) -> Iterator[Advice]:
    both = loss.shared
    if both is None:
        return
    steps, ours, theirs = both
    a, b = float(ours[0]), float(theirs[0])
    percent = f"{100 * abs(b - a) / abs(a):.3g}" if a else "inf"
    values = {"step": str(int(steps[0])), "source": f"{a:.8g}", "target": f"{b:.8g}", "percent": percent}
    yield Advice("step0", Level.TRAJECTORY, values)


def _not_finite(found: Acceptance) -> Iterator[Advice]:
    for curve in found.curves:
        for side, series in (("source", curve.source), ("target", curve.target)):
            if series is None:
                continue
            bad = np.flatnonzero(~np.isfinite(series.values))
            if len(bad):
                values = {"count": str(len(bad)), "series": curve.name, "step": str(int(series.steps[bad[0]]))}
                yield Advice("not_finite", Level.TRAJECTORY, {**values, "side": side})
            zero = int(np.count_nonzero(series.values == 0))
            if curve.name == "loss" and zero:
                values = {"count": str(zero), "total": str(len(series.values))}
                yield Advice("zero_loss", Level.TRAJECTORY, {**values, "side": side})


def _gradient_scale(found: Acceptance, loss: Curve | None) -> Iterator[Advice]:
    norm = next((curve for curve in found.curves if curve.name == "grad_norm"), None)
    norms, losses = (curve.shared if curve is not None else None for curve in (norm, loss))
    if norms is None or losses is None:
        return
    with np.errstate(all="ignore"):
        ratio = float(np.nanmedian(norms[2] / norms[1]))
        apart = float(np.nanmedian(np.abs(losses[2] - losses[1]) / np.abs(losses[1])))
    if np.isfinite(ratio) and ratio > 0 and not 1 / SCALE < ratio < SCALE and apart < AGREES:
        values = {"ratio": f"{ratio:.3g}", "percent": f"{max(100 * apart, 0.01):.2g}"}
        yield Advice("gradient_scale", Level.TRAJECTORY, values)


def _speed(found: Acceptance) -> Iterator[Advice]:
    ratio = found.speed.ratio if found.speed else None
    counted = {name: str(pair[1]) for name, pair in found.counts.items() if pair[1]}
    if ratio is not None and ratio >= SLOWER and not found.emulated:
        key = "ratio_hundreds" if ratio >= HUNDREDS else "slower"
        yield Advice(key, Level.SPEED, {"ratio": f"{ratio:.4g}", **counted})
    steps = max((len(curve.target.steps) for curve in found.curves if curve.target is not None), default=0)
    compiled = found.counts.get("recompilations", (None, None))[1] or 0
    if compiled > max(5.0, steps / FLAT):
        yield Advice("recompilations", Level.SPEED, {"count": str(compiled), "steps": str(steps)})
    fallbacks = found.counts.get("cpu_fallbacks", (None, None))[1]
    if fallbacks:
        yield Advice("fallbacks", Level.SPEED, {"count": str(fallbacks)})


def _task(found: Acceptance) -> Iterator[Advice]:
    first = _bad(found, Level.TASK)
    if first is not None:
        before = any(_bad(found, level) for level in Level if level < Level.SPEED)
        yield Advice("task_after" if before else "task", Level.TASK, {"first": _named(first)})


def _ground(found: Acceptance) -> Iterator[Advice]:
    """What the evidence itself lacks."""
    if found.source.same_as(found.target):
        yield Advice("same")
    ours, theirs = (party.environment.get("precision", "") for party in (found.source, found.target))
    if ours and theirs and ours != theirs:
        yield Advice("precision", Level.SETTINGS, {"first": f"{ours} / {theirs}"})
    if _ascend(found.target) and not any("precision_mode" in name for name in found.target.environment):
        yield Advice("precision_mode", Level.SETTINGS)
    if found.emulated:
        yield Advice("emulated")
    if "log" in found.source.kind or "log" in found.target.kind:
        yield Advice("logs")
    if found.missing:
        yield Advice("missing", None, {"levels": ", ".join(found.missing), "how": " ".join(_how(found))})
    worse = [one for one in found.regression.changes if one.direction == "worse"] if found.regression else []
    if worse:
        told = "; ".join(f"{one.what}: {one.before}, now {one.after}" for one in worse[:5])
        yield Advice("regression", None, {"first": told})


def _how(found: Acceptance) -> Iterator[str]:
    """Keys of the ways to what is missing."""
    if any(level < Level.TRAJECTORY for level in found.missing):
        yield "captures"
    if Level.TRAJECTORY in found.missing:
        yield "training"
    if Level.SPEED in found.missing and (found.speed is None or found.speed.ratio is None):
        yield "speed"
    if Level.TASK in found.missing:
        yield "task"


def _ascend(party: Party) -> bool:
    """Whether a side ran on an Ascend, as far as it says."""
    told = " ".join([*party.environment.values(), party.name]).lower()
    return not party.emulated and any(word in told for word in ("ascend", "npu", "910", "310"))


_PARTS: tuple[Callable[[Acceptance], Iterator[Advice]], ...] = (_tensors, _training, _speed, _task, _ground)
