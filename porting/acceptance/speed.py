"""Is it fast enough (L6)? Step times of the steady state, which is found in the data, and their ratio."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from porting.acceptance.names import COMPILATION, CPU_FALLBACKS, RECOMPILATIONS, STEP_TIME
from porting.acceptance.trajectory import Numbers, Trajectory
from porting.errors import UsageError
from porting.parity.state import Finding, Level, State, Verdict, worst

HUNDREDS = 100.0
"""A ratio from here on is none of kernels: something is compiled anew in every step, or runs on the host."""

LEAST = 10
"""Steady steps that an interval is drawn from."""

OUTLIER = 2.0
"""Medians: a step that takes longer is counted, not left out."""

LONGEST = 20_000
"""Steps in whose first half a warm-up is looked for."""

RESAMPLES = 2000
NEEDED = (Level.FORWARD, Level.BACKWARD, Level.STEP, Level.TRAJECTORY)

_CANDIDATES = 200


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

    Its beginning is the place where the logarithms of the times, cut in two, are closest to two constants, each
    side's distance counted by absolute value, so that a slow step here and there moves nothing (a changepoint of the
    median). It is none where the first part is not slower, or is no more than noise away.
    values: seconds [steps], in order. Raises: UsageError for none, or none that is positive and finite.
    """
    times = np.asarray(values, np.float64)
    known = times[np.isfinite(times) & (times > 0)]
    if not known.size:
        raise UsageError("step times: wanted seconds above 0, got none")
    first = _changepoint(np.log(known[:LONGEST]))
    rest = known[first:]
    median = float(np.median(rest))
    low, high, p95 = (float(value) for value in np.quantile(rest, [0.16, 0.84, 0.95]))
    extra = float(known[:first].sum()) - first * median
    outliers = int((rest > OUTLIER * median).sum())
    return Steady(first, median, p95, (high - low) / 2 / median, max(0.0, extra), rest, outliers)


def _changepoint(logs: Numbers) -> int:
    """Where the steady part begins, in the first half; 0 where it is steady from the start."""
    last = logs.size // 2
    if not last:
        return 0
    places = np.unique(np.geomspace(1, last, min(last, _CANDIDATES)).astype(int))
    whole = _distance(logs)
    costs = np.array([_distance(logs[:at]) + _distance(logs[at:]) for at in places])
    at = int(places[int(costs.argmin())])
    tail = logs[at:]
    scale = max(_distance(tail) / tail.size, 1e-12)
    # Two medians fit noise better than one, by about two of its units (twice that is asked for), and by more of many.
    gain = (whole - float(costs.min())) / scale
    if gain <= 4 + np.log(logs.size) or np.median(logs[:at]) <= np.median(tail):
        return 0
    # What is compiled shows in a few long steps: a warm-up may have a second part, after them.
    return at + _changepoint(tail) if at < last else at


def _distance(logs: Numbers) -> float:
    return float(np.abs(logs - np.median(logs)).sum())


def ratio_interval(source: Numbers, target: Numbers, *, level: float = 0.95) -> tuple[float, float]:
    """Bounds of the ratio of the medians, target over source, by a bootstrap over blocks of steps.

    source, target: seconds of steady steps. Steps near to each other are alike, so blocks are drawn, not steps
    (H. Künsch, Annals of Statistics 17, 1989), of the cube root of their number.
    """
    random = np.random.default_rng(0)
    drawn = _medians(target, random) / _medians(source, random)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _medians(values: Numbers, random: np.random.Generator) -> Numbers:
    """Medians of resampled blocks, float64 [resamples]. Of very many steps so many are drawn as tell the median."""
    count = min(values.size, LEAST * _CANDIDATES)
    length = max(1, round(count ** (1 / 3)))
    starts = random.integers(0, values.size - length + 1, (RESAMPLES, -(-count // length)))
    places = (starts[:, :, None] + np.arange(length)).reshape(RESAMPLES, -1)[:, :count]
    return np.asarray(np.median(values[places], axis=1))


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
    emulated = bool(source.emulated or target.emulated)
    with np.errstate(all="ignore"):
        findings = list(_findings(source, target, limit))
    reason = _none(source, target, below)
    if reason:
        findings = [_not_run(one, reason) for one in findings]
    compared = sum(one.state.judged for one in findings)
    judged = [one.state for one in findings if one.state.judged]
    return Verdict(Level.SPEED, worst(judged), tuple(findings), compared, len(findings), emulated, reason)


def _none(source: Trajectory, target: Trajectory, below: Iterable[Verdict]) -> str:
    """Why there is no verdict, if so."""
    for one in (source, target):
        if one.emulated:
            return f"{one.name} is emulated ({one.emulated}): its time is that of the emulation"
    known = {verdict.level: verdict.state for verdict in below}
    missing = [str(level) for level in NEEDED if not known.get(level, State.NOT_RUN).judged]
    failed = [str(level) for level in NEEDED if known.get(level) is State.FAIL]
    if failed:
        return f"{', '.join(failed)} failed: what does not compute the same is not compared in speed"
    return f"not shown to compute the same: {', '.join(missing)} not run" if missing else ""


def _not_run(finding: Finding, reason: str) -> Finding:
    return replace(finding, state=State.NOT_RUN, reason="; ".join(part for part in (finding.reason, reason) if part))


def _findings(source: Trajectory, target: Trajectory, limit: float | None) -> Iterator[Finding]:
    times = [_steady_of(one) for one in (source, target)]
    if times[0] is None or times[1] is None:
        silent = [one.name for one, found in zip((source, target), times, strict=True) if found is None]
        yield Finding(Level.SPEED, STEP_TIME, State.NOT_RUN, f"no step times: {', '.join(silent)}")
    else:
        yield _step_time(times[0], times[1], limit)
        yield _compilation(times[0], times[1])
    for name in (RECOMPILATIONS, CPU_FALLBACKS):
        yield _counted(name, source, target)


def _steady_of(one: Trajectory) -> Steady | None:
    series = one.series.get("seconds")
    if series is None or not (np.isfinite(series.values) & (series.values > 0)).any():
        return None
    return steady(series.values)


def _step_time(source: Steady, target: Steady, limit: float | None) -> Finding:
    ratio, few = target.median / source.median, min(source.values.size, target.values.size) < LEAST
    low, high = (ratio, ratio) if few else ratio_interval(source.values, target.values)
    allowed = 1.0 if limit is None else limit
    told = f"{target.median:.4g} s against {source.median:.4g} s a step, x {ratio:.4g}"
    told += f" ({min(source.values.size, target.values.size)} steady steps)" if few else f" ({low:.3g} to {high:.3g})"
    origin = "as fast as the source: no limit was given" if limit is None else "as asked for"
    if ratio >= HUNDREDS:
        state = State.FAIL
        told += (
            ": a ratio in the hundreds is no slow kernel but compilation in every step, dynamic shapes or a fallback"
        )
    elif ratio > allowed and limit is not None:
        state = State.FAIL if low > allowed else State.CONDITIONAL
    elif ratio > allowed:
        state = State.PASS if low <= allowed and not few else State.CONDITIONAL
    else:
        state = State.CONDITIONAL if few or (limit is not None and high > allowed) else State.PASS
    return Finding(Level.SPEED, STEP_TIME, state, told, "", "ratio of median step times", ratio, allowed, origin)


def _compilation(source: Steady, target: Steady) -> Finding:
    """What is before the steady state. It is paid once, and no part of the ratio."""
    told = ", ".join(
        f"{found.compile:.3g} s in {found.first} steps ({side})"
        for side, found in (("source", source), ("target", target))
    )
    measure = "seconds before the steady state"
    return Finding(Level.SPEED, COMPILATION, State.PASS, f"apart: {told}", "", measure, target.compile)


def _counted(name: str, source: Trajectory, target: Trajectory) -> Finding:
    """Events that the target has and the source has not are a condition; what nobody counted is not run."""
    ours, theirs = source.counts.get(name), target.counts.get(name)
    if theirs is None:
        return Finding(Level.SPEED, name, State.NOT_RUN, "nobody counted them on the target")
    told = f"{theirs} (target), {'not counted' if ours is None else ours} (source)"
    state = State.CONDITIONAL if theirs > (ours or 0) else State.PASS
    return Finding(Level.SPEED, name, state, told, "", "events", float(theirs), float(ours or 0), "those of the source")
