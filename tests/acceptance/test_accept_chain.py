"""The verdict over the chain: every state at every level, every missing level, logs alone."""

from __future__ import annotations

from itertools import product

import pytest

from porting.acceptance.acceptance import Acceptance, Change, Party, Regression
from porting.acceptance.chain import LOGS, WHY_NOT, chain, overall
from porting.acceptance.trajectory import Input
from porting.parity.state import Finding, Level, State, Verdict, verdict_of, worst

PARTY = Party("a", "capture", "a")
HASH = "xxh3_128:" + "0" * 32


def judged(level: Level, *states: State, emulated: bool = False) -> Verdict:
    return verdict_of(level, [Finding(level, f"{n}", state) for n, state in enumerate(states)], emulated=emulated)


def acceptance(levels, **changes) -> Acceptance:
    return Acceptance(PARTY, PARTY, levels, overall(levels, logs=False), **changes)


ALL = [judged(level, State.PASS) for level in Level]


def test_all_levels_that_pass_are_a_pass():
    found = acceptance(chain(ALL))
    assert (found.state, found.passed, found.missing) == (State.PASS, True, ())


@pytest.mark.parametrize(("level", "state"), list(product(Level, State)))
def test_the_worst_level_decides(level, state):
    levels = chain([*ALL, judged(level, State.PASS, state)])
    assert overall(levels, logs=False).state is state
    assert acceptance(levels).passed == (state is State.PASS)


@pytest.mark.parametrize("level", Level)
def test_a_missing_level_takes_a_pass_to_conditional_and_is_named(level):
    levels = chain([one for one in ALL if one.level is not level])
    found = acceptance(levels)
    assert found.missing == (level,)
    assert found.level(level).state is State.NOT_RUN
    assert found.level(level).reason == WHY_NOT[level]
    assert found.state is State.CONDITIONAL
    assert found.overall.reason == f"not run: {level}"
    assert not found.passed


@pytest.mark.parametrize("level", Level)
def test_a_level_whose_findings_were_all_not_run_is_missing(level):
    levels = chain([*ALL, judged(level, State.NOT_RUN, State.NOT_RUN)])
    assert acceptance(levels).missing == (level,)
    assert overall(levels, logs=False).state is State.CONDITIONAL


@pytest.mark.parametrize(("level", "state"), list(product(Level, (State.FAIL, State.CRASHED, State.UNMATCHED))))
def test_a_missing_level_hides_no_difference(level, state):
    others = [judged(level, state)]
    assert overall(chain(others), logs=False).state is state


def test_nothing_judged_is_not_run_never_a_pass():
    for levels in (chain([]), chain([judged(level, State.NOT_RUN) for level in Level])):
        verdict = overall(levels, logs=True)
        assert (verdict.state, verdict.reason) == (State.NOT_RUN, "nothing was judged")


@pytest.mark.parametrize("state", State)
def test_logs_alone_are_at_most_conditional_with_the_reason(state):
    verdict = overall(chain([*ALL, judged(Level.TRAJECTORY, State.PASS, state)]), logs=True)
    assert verdict.state is worst((state, State.CONDITIONAL))
    assert LOGS in verdict.reason


@pytest.mark.parametrize("level", Level)
def test_an_emulated_level_is_no_pass_and_an_emulated_fail_stays_one(level):
    for state, passed in ((State.PASS, False), (State.FAIL, False)):
        levels = chain([*ALL, judged(level, state, emulated=True)])
        found = acceptance(levels)
        assert (found.state, found.emulated, found.passed) == (state, True, passed)


@pytest.mark.parametrize(("calibrated", "ruled"), list(product(State, State)))
def test_a_rule_stands_beside_and_the_worse_decides(calibrated, ruled):
    levels = chain([*ALL, judged(Level.TRAJECTORY, State.PASS, calibrated)])
    found = acceptance(levels, rule=judged(Level.TRAJECTORY, ruled), criteria="verl")
    assert found.overall.state is calibrated
    assert found.state is worst((calibrated, ruled))
    assert found.disagree == (calibrated is not ruled)
    assert found.passed == (calibrated is ruled is State.PASS)


def test_what_is_worse_than_before_is_no_pass():
    worse = Regression(Input("old", 1, HASH), (Change("L2 compared", "300 / 300", "200 / 200", "worse"),))
    better = Regression(Input("old", 1, HASH), (Change("L2", "FAIL", "PASS", "better"),))
    assert not acceptance(chain(ALL), regression=worse).passed
    assert acceptance(chain(ALL), regression=better).passed


def test_coverage_is_that_of_all_levels():
    levels = chain([judged(Level.WEIGHTS, State.PASS, State.PASS), judged(Level.TRAJECTORY, State.NOT_RUN, State.PASS)])
    verdict = overall(levels, logs=False)
    assert (verdict.compared, verdict.total) == (3, 4)
