"""Is it as good (L7)? Metrics of a task with their intervals, and a test of equivalence in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import atanh, hypot, isfinite, sqrt, tanh
from statistics import NormalDist
from typing import TYPE_CHECKING

from porting.acceptance.trajectory import Metric
from porting.parity.presets import Check, Rule
from porting.parity.state import Finding, Level, State, Verdict, worst

if TYPE_CHECKING:
    from porting.acceptance.matched import Matched

MARGIN = 0.005
"""Half a point of a hundred, in the metric's unit, unless another is given."""

SHARE = 0.99
"""ModelZoo-PyTorch READMEs: at least 99 % of the GPU's accuracy."""

LOWER_IS_BETTER = ("loss", "perplexity", "error")
"""Metrics whose names end so cannot be held to a share of the source's."""

_CORRELATIONS = ("matthews", "pearson", "spearman")


def interval(name: str, metric: Metric, *, level: float = 0.95) -> tuple[float, float] | None:
    """Bounds of one metric; None where its kind or the missing count allows none.

    accuracy: Wilson; matthews, pearson, spearman: Fisher's z. The others need the predictions:
    `porting.acceptance.resampling`.
    """
    if metric.count is None or metric.count < 1 or not isfinite(metric.value):
        return None
    bounds = _BOUNDS.get(name)
    return bounds(metric.value, metric.count, level) if bounds else None


def wilson(share: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Bounds of a share of `count` (E. B. Wilson, JASA 22, 1927).

    >>> tuple(round(bound, 4) for bound in wilson(0.9, 100))
    (0.8256, 0.9448)
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = min(max(share, 0.0), 1.0)
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def fisher(correlation: float, count: int, level: float = 0.95) -> tuple[float, float] | None:
    """Bounds of a correlation (R. A. Fisher, Metron 1, 1921). Matthews' is that of two labels."""
    if count < 4 or abs(correlation) > 1:
        return None
    middle = atanh(min(max(correlation, -1 + 1e-12), 1 - 1e-12))
    half = NormalDist().inv_cdf((1 + level) / 2) / sqrt(count - 3)
    return tanh(middle - half), tanh(middle + half)


_BOUNDS: Mapping[str, Callable[[float, int, float], tuple[float, float] | None]] = {
    "accuracy": wilson,
    **dict.fromkeys(_CORRELATIONS, fisher),
}


def difference(name: str, source: Metric, target: Metric, *, level: float = 0.9) -> tuple[float, float] | None:
    """Bounds of target minus source, as of two samples, from the bounds of each (R. Newcombe, Statistics in Medicine
    17, 1998; G. Zou, Psychological Methods 12, 2007). None where one has none.

    Both sides usually answer the same examples; that narrows it, and needs the predictions.
    """
    ours, theirs = interval(name, source, level=level), interval(name, target, level=level)
    if ours is None or theirs is None:
        return None
    apart = target.value - source.value
    low = hypot(target.value - theirs[0], ours[1] - source.value)
    high = hypot(theirs[1] - target.value, source.value - ours[0])
    return apart - low, apart + high


def judge_task(
    source: Mapping[str, Metric],
    target: Mapping[str, Metric],
    *,
    margin: float | None = None,
    rule: Rule | None = None,
    answers: Matched | None = None,
) -> Verdict:
    """Judge the metrics of a task, one finding each, by the name of the metric.

    margin: how far the target may be off, in the metric's unit, either way: the 90 % interval of the difference has to
    lie within (two one-sided tests of 5 %). answers: both sides' predictions held together, with such intervals, and
    whether they are of the same examples. rule: adds the findings of its checks on the task.
    A difference that is beyond the margin is FAIL; one whose interval is not within it, or that has no interval,
    CONDITIONAL; a metric that one side lacks UNMATCHED.
    """
    findings = list(answers.findings) if answers else []
    known = answers.differences if answers else {}
    for name in dict.fromkeys((*source, *target)):
        one, two = source.get(name), target.get(name)
        if one is None or two is None:
            side = "source" if one is None else "target"
            findings.append(Finding(Level.TASK, name, State.UNMATCHED, f"the {side} has none"))
        else:
            findings.append(_judged(name, one, two, margin, known.get(name)))
    findings += _by_rule(rule, source, target) if rule else []
    compared = sum(one.state.judged for one in findings)
    reason = "" if findings else "no metric of the task was given"
    return Verdict(
        Level.TASK, worst(one.state for one in findings), tuple(findings), compared, len(findings), reason=reason
    )


def _judged(
    name: str, source: Metric, target: Metric, margin: float | None, known: tuple[float, float] | None
) -> Finding:
    apart, limit = target.value - source.value, MARGIN if margin is None else margin
    coarse = max(source.resolution, target.resolution)
    bounds, origin = known or difference(name, source, target), "as asked for" if margin is not None else "0.5 points"
    told = f"{source.value:.6g} (source), {target.value:.6g} (target), {apart:+.4g}"
    if not isfinite(apart):
        state, told = State.FAIL, f"{told}: not finite"
    elif abs(apart) > limit + coarse:
        sure = bounds is not None and not (bounds[0] <= limit and bounds[1] >= -limit)
        state = State.FAIL
        told += ": beyond the margin" + ("" if sure else ", though chance may have a part in it" if bounds else "")
    elif bounds is None:
        state, told = State.CONDITIONAL, f"{told}: no interval without the count of examples, or without predictions"
    elif bounds[0] < -limit or bounds[1] > limit:
        state, told = State.CONDITIONAL, f"{told}: too few examples to show that it is within the margin"
    elif coarse > limit:
        state, told = State.CONDITIONAL, f"{told}: printed to {coarse:g}, which cannot decide"
    else:
        state = State.PASS
    if bounds is not None:
        told += f"; 90 % interval {bounds[0]:+.4g} to {bounds[1]:+.4g}"
    return Finding(Level.TASK, name, state, told, "", "difference, target minus source", abs(apart), limit, origin)


def _by_rule(rule: Rule, source: Mapping[str, Metric], target: Mapping[str, Metric]) -> Iterator[Finding]:
    for check in rule.checks:
        if check.level is Level.TASK:
            names = [n for n in source if n in target and n != "count" and not n.endswith(LOWER_IS_BETTER)]
            if not names:
                yield Finding(Level.TASK, rule.name, State.NOT_RUN, "no metric of both sides", source=check.source)
            yield from (_share(check, rule, name, source[name], target[name]) for name in names)


def _share(check: Check, rule: Rule, name: str, source: Metric, target: Metric) -> Finding:
    """The target's metric as a share of the source's."""
    what, measure = f"{rule.name}: {name}", "share of the source's"
    if not source.value > 0 or not isfinite(target.value):
        return Finding(Level.TASK, what, State.NOT_RUN, "no share of a metric that is not above 0", source=check.source)
    share = target.value / source.value
    state = State.PASS if share >= SHARE else State.FAIL
    reason = "" if state is State.PASS else f"{share:.4f} of the source's, wanted at least {SHARE:g}"
    return Finding(Level.TASK, what, state, reason, "", measure, share, SHARE, check.source)
