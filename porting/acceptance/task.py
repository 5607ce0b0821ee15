"""Is it as good (L7)? Metrics of a task with their intervals, and a test of equivalence in both directions."""

from __future__ import annotations

from collections.abc import Mapping

from porting.acceptance.trajectory import Metric
from porting.parity.presets import Rule
from porting.parity.state import Level, State, Verdict

MARGIN = 0.005
"""Half a point of a hundred, in the metric's unit, unless another is given: `ModelZoo: within 0.5 %`."""


def interval(name: str, metric: Metric, *, level: float = 0.95) -> tuple[float, float] | None:
    """Bounds of one metric; None where its kind or the missing count allows none.

    accuracy: Wilson; matthews, pearson, spearman: Fisher's z. The others need the predictions:
    `porting.acceptance.predictions`.
    """
    del name, metric, level
    return None


def judge_task(
    source: Mapping[str, Metric],
    target: Mapping[str, Metric],
    *,
    margin: float | None = None,
    rule: Rule | None = None,
    differences: Mapping[str, tuple[float, float]] | None = None,
) -> Verdict:
    """Judge the metrics of a task, one finding each, by the name of the metric.

    margin: how far the target may be off, in the metric's unit, either way: the 90 % interval of the difference has to
    lie within (two one-sided tests of 5 %). differences: such intervals of paired predictions
    (`porting.acceptance.predictions`), where there are any. rule: adds the findings of its checks on the task.
    A difference that is beyond the margin is FAIL; one whose interval is not within it, or that has no interval,
    CONDITIONAL; a metric that one side lacks UNMATCHED.
    """
    del source, target, margin, rule, differences
    return Verdict(Level.TASK, State.NOT_RUN, (), 0, 0, reason="not judged yet")
