"""The verdict on two sides' training (L5): preconditions, permutation test, equivalence, shadow run, power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from porting.acceptance.trajectory import Runs, Trajectory
from porting.parity.presets import Rule
from porting.parity.state import Level, State, Verdict


def judge_trajectory(
    source: Runs,
    target: Runs,
    *,
    rule: Rule | None = None,
    planted: Mapping[str, Sequence[Trajectory]] | None = None,
) -> Verdict:
    """Judge whether the target trains as the source does. Pure: neither prints nor raises on a difference.

    rule: what single runs and logs are judged by; without one MindFormers' rule, which says most of trajectories. Where
    there are replicas it is not asked. planted: runs of the target with a known mistake, by its name.

    Findings, in this order, `what` being the names of porting.acceptance.names:
    - `precondition: NAME` (data, weights, dropout, lr, finite, step 0, descent): FAIL where it is broken, NOT_RUN where
      nobody recorded what would prove it, which takes a PASS to CONDITIONAL;
    - of replicas: a finding `loss`, `grad_norm`, `grad_norm/GROUP` for each series, whose value is the largest
      difference of the groups' means over their pooled spread, and the limit that of the permutation test over all;
      `ratio of spreads`; where something was found, `tail mean`, the equivalence test that decides;
    - of single runs: the findings of the rule, at most CONDITIONAL;
    - `shadow`: the run in float32; `power`: the share of planted mistakes that this setting detects.
    """
    del source, target, rule, planted
    return Verdict(Level.TRAJECTORY, State.NOT_RUN, (), 0, 0, reason="not judged yet")
