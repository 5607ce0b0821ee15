"""The rates that L5 states, by simulation: of false alarms over 1000 clean pairs, and of detection."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import pytest

from porting.acceptance.align import members
from porting.acceptance.judge import judge_trajectory
from porting.acceptance.names import POWER
from porting.acceptance.permutation import ALPHA, permuted
from porting.acceptance.preconditions import preconditions
from porting.acceptance.train import PLANTED_RUNS
from porting.parity.state import State
from porting.testing.training import MISTAKES, Trained, runs, sides

pytestmark = pytest.mark.slow

SHORT = Trained(steps=80, warmup=8)
PAIRS, PLANTED = 1000, 40
DEVIATIONS = 3.3
"""Standard deviations of a share that chance makes once in a thousand tests."""


def test_false_alarms_are_as_frequent_as_alpha_says():
    found = [permuted(members(one), members(two)) for one, two in (sides(SHORT, SHORT, seed) for seed in range(PAIRS))]
    rate = sum(one.found for one in found) / PAIRS
    assert abs(rate - ALPHA) <= DEVIATIONS * sqrt(ALPHA * (1 - ALPHA) / PAIRS)
    even = sum(one.p <= 0.5 for one in found) / PAIRS
    assert abs(even - 0.5) <= DEVIATIONS * sqrt(0.25 / PAIRS)


def test_no_clean_pair_fails():
    """What chance finds goes on to the test of equivalence."""
    assert not any(judge_trajectory(*sides(SHORT, SHORT, seed)).state is State.FAIL for seed in range(200))


@pytest.mark.parametrize("mistake", [name for name in MISTAKES if name != "no clipping"])
@pytest.mark.parametrize("noise", [3e-3, 1e-1])
def test_what_is_stated_to_be_caught_is_caught_as_often(mistake, noise):
    clean, wrong = (replace(side, steps=80, warmup=8, noise=noise) for side in (Trained(), MISTAKES[mistake]))
    stated = caught = 0
    for seed in range(20_000, 20_000 + PLANTED):
        source, target = sides(clean, wrong, seed)
        test = permuted(members(source), members(target))
        broken = any(one.state is State.FAIL for one in preconditions(source, target))
        caught += broken or test.found
        planted = {mistake: runs(wrong, PLANTED_RUNS, 1_000_000 + seed)}
        findings = judge_trajectory(source, source, planted=planted).findings
        stated += next(one for one in findings if one.what == POWER).value == 1
    share = (stated + caught) / (2 * PLANTED)
    assert abs(stated - caught) / PLANTED <= DEVIATIONS * sqrt(2 * max(share * (1 - share), 1 / PLANTED) / PLANTED)
