"""What a report shows of two sides' runs: curves, step times, metrics, counts. Facts; the judgement is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from porting.acceptance.acceptance import Curve, Pace, Quality, Speed
from porting.acceptance.align import aligned
from porting.acceptance.evidence import BY_HAND
from porting.acceptance.matched import Matched
from porting.acceptance.permutation import band, z_of
from porting.acceptance.speed import ratio_interval, steady
from porting.acceptance.task import difference, interval
from porting.acceptance.trajectory import Metric, Runs, Series, Trajectory
from porting.parity.presets import Rule
from porting.parity.state import Finding, State

FIRST = ("loss", "grad_norm")
"""The curves that stand first."""

NO_CURVES = ("seconds", "overflow", "examples_per_second", "memory_mb")
"""Series that are shown otherwise, or counted."""

OTHERS = ("seconds", "time", "power", "memory", "utilization", "loss")
"""Ends of the names of metrics that are no quality of a task; they are shown and not judged."""


def curves_of(source: Runs | None, target: Runs | None) -> Iterator[Curve]:
    """A curve for each series that either side has; the loss and the gradient norm first."""
    ours = dict(source.run.series) if source else {}
    theirs = dict(target.run.series) if target else {}
    names = sorted(
        dict.fromkeys((*ours, *theirs)), key=lambda name: (name not in FIRST, FIRST.index(name) if name in FIRST else 0)
    )
    for name in names:
        if name in NO_CURVES or not any(len(side[name].steps) for side in (ours, theirs) if name in side):
            continue
        one, two = _counted_alike(source, target, name) or (ours.get(name), theirs.get(name))
        judged = name in FIRST or name.startswith("grad_norm/")
        low, high = (band(source, name) if source and judged else None) or (None, None)
        z = z_of(source, target, name) if source and target and judged else None
        yield Curve(name, one, two, low, high, z)


def _counted_alike(source: Runs | None, target: Runs | None, name: str) -> tuple[Series, Series] | None:
    """Both series on one count of steps, where one side counts from 0 what the other counts from 1."""
    if source is None or target is None or name not in source.run.series or name not in target.run.series:
        return None
    one, two = source.run.series[name], target.run.series[name]
    known = aligned([source.run, target.run], name)
    if (
        known is None
        or not known.steps.size == one.steps.size == two.steps.size
        or np.array_equal(one.steps, two.steps)
    ):
        return None
    return Series(known.steps, one.values, one.resolution), Series(known.steps, two.values, two.resolution)


def speed_of(source: Runs | None, target: Runs | None) -> Speed | None:
    """Step times of both sides; None where neither recorded any."""
    paces = [pace_of(runs.run) if runs else None for runs in (source, target)]
    if paces == [None, None]:
        return None
    values = [pace.values for pace in paces if pace is not None and pace.values is not None and not pace.given]
    interval = ratio_interval(values[0], values[1]) if len(values) == 2 and min(map(len, values)) > 1 else None
    return Speed(paces[0], paces[1], interval)


def pace_of(run: Trajectory) -> Pace | None:
    """One side's step time in its steady state; None where the run has none that is a positive number."""
    series = run.series.get("seconds")
    if series is None:
        return None
    known = series.values[np.isfinite(series.values) & (series.values > 0)]
    if not len(known):
        return None
    found = steady(known)
    made = Pace(
        found.median,
        first=float(known[0]) if found.first else None,
        compile=found.compile if found.first else None,
        examples=_rate(run, ("batch_size",), found.median),
        tokens=_rate(run, ("tokens",), found.median) or _rate(run, ("batch_size", "seq_length"), found.median),
        memory_mb=_peak(run),
        given=BY_HAND in run.limits,
    )
    if made.given:
        return made
    steps = len(found.values)
    return replace(made, p95=found.p95, jitter=found.jitter, steps=steps, warm_up=found.first, values=found.values)


def _rate(run: Trajectory, sizes: Sequence[str], seconds: float) -> float | None:
    """How many a second, where a step has the product of these sizes of them, as far as the run says."""
    known = [run.environment.get(size, "") for size in sizes]
    return prod(map(int, known)) / seconds if all(size.isdecimal() for size in known) else None


def _peak(run: Trajectory) -> float | None:
    series = run.series.get("memory_mb")
    return float(np.nanmax(series.values)) if series is not None and np.isfinite(series.values).any() else None


def ratio_findings(rule: Rule, source: Trajectory, target: Trajectory) -> Iterator[Finding]:
    """A finding for each of a rule's checks on a ratio: of the steady step times, of the peaks of memory."""
    emulated = source.emulated or target.emulated
    paces = [pace_of(run) for run in (source, target)]
    medians = [pace.median if pace else None for pace in paces]
    pairs: dict[str, list[float | None]] = {"step_time": medians, "memory": [_peak(source), _peak(target)]}
    for check in rule.checks:
        if check.on not in pairs:
            continue
        ours, theirs = pairs[check.on]
        if emulated or not ours or not theirs:
            reason = f"{emulated} is emulated" if emulated else "it was not measured on both sides"
            yield Finding(check.level, check.on, State.NOT_RUN, reason, source=check.source)
            continue
        ratio, bound = theirs / ours, check.bounds[0]
        state = State.PASS if ratio <= bound.limit else State.FAIL
        reason = "" if state is State.PASS else f"{ratio:.4g} times the source's"
        yield Finding(check.level, check.on, state, reason, "", "ratio", ratio, bound.limit, check.source)


def task_metrics(run: Trajectory) -> dict[str, Metric]:
    """The metrics that say how good a run is at its task: neither durations, nor what a device used, nor losses."""
    return {name: metric for name, metric in run.metrics.items() if not name.endswith(OTHERS)}


def qualities_of(source: Runs | None, target: Runs | None, answers: Matched | None = None) -> Iterator[Quality]:
    """A pair for each metric that either side has, with its intervals where there are any."""
    ours = source.run.metrics if source else {}
    theirs = target.run.metrics if target else {}
    for name in dict.fromkeys((*ours, *theirs)):
        one, two = (_with_interval(name, side.get(name)) for side in (ours, theirs))
        known = answers.differences.get(name) if answers else None
        bounds = known or (difference(name, one, two) if one and two else None)
        yield Quality(name, one, two, bounds, paired=known is not None and answers is not None and answers.paired)


def _with_interval(name: str, metric: Metric | None) -> Metric | None:
    """A metric with the interval that its count gives, where it has no other."""
    if metric is None or metric.interval is not None:
        return metric
    return replace(metric, interval=interval(name, metric))


def counts_of(source: Runs | None, target: Runs | None) -> dict[str, tuple[int | None, int | None]]:
    """Events of both sides by name."""
    ours = source.run.counts if source else {}
    theirs = target.run.counts if target else {}
    return {name: (ours.get(name), theirs.get(name)) for name in dict.fromkeys((*ours, *theirs))}
