"""What has to hold before trajectories are compared: each with its proof, broken, and unproven."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from porting.acceptance.judge import judge_trajectory
from porting.acceptance.names import DATA, DESCENT, DROPOUT, FINITE, PRECONDITIONS, RATE, REPLICAS, STEP_0, WEIGHTS
from porting.acceptance.preconditions import preconditions
from porting.acceptance.trajectory import Runs, Series
from porting.parity.state import State
from porting.testing.training import Trained, sides

STEPS = 60
SIDE = Trained(steps=STEPS, warmup=6)


@cache
def pair():
    """Two clean sides with learning rates."""
    rates = Series(np.arange(STEPS), np.linspace(0, 1e-3, STEPS))
    return tuple(each(side, series={"lr": rates}) for side in sides(SIDE, SIDE, 3))


def each(runs, *, series=None, **changes):
    """All runs of a side with other fields; series: added."""
    one = lambda run: replace(run, **changes, series={**run.series, **(series or {})})  # noqa: E731
    return replace(runs, run=one(runs.run), replicas=tuple(one(run) for run in runs.replicas))


def finding(source, target, what):
    return next(one for one in preconditions(source, target) if one.what == what)


def test_two_clean_sides_meet_all_of_them():
    found = {one.what: one for one in preconditions(*pair())}
    assert tuple(found) == PRECONDITIONS
    assert {one.state for one in found.values()} == {State.PASS}
    assert found[DATA].reason == "the hash of each of 60 batches is the same in 12 runs"


@pytest.mark.parametrize(
    ("what", "changes", "told"),
    [
        (DATA, {"batches": tuple(f"0:{i + (i == 7)}" for i in range(STEPS))}, "at 1 steps, first at number 7"),
        (WEIGHTS, {"weights": "another"}, "other initial weights than source 0: target 0"),
        (DROPOUT, {"dropout": "own"}, "off (source), own (target)"),
    ],
)
def test_what_is_broken_is_a_failure_and_ends_the_judgement(what, changes, told):
    source, target = pair()
    target = each(target, **changes)
    found = finding(source, target, what)
    assert found.state is State.FAIL
    assert told in found.reason
    verdict = judge_trajectory(source, target)
    assert verdict.state is State.FAIL
    assert verdict.decisive == found
    assert any(one.what == REPLICAS and "nothing that follows" in one.reason for one in verdict.findings)


@pytest.mark.parametrize(
    ("what", "changes"), [(DATA, {"batches": ()}), (WEIGHTS, {"weights": ""}), (DROPOUT, {"dropout": ""})]
)
def test_what_nobody_recorded_is_not_run_and_no_pass(what, changes):
    source, target = pair()
    target = each(target, **changes)
    assert finding(source, target, what).state is State.NOT_RUN
    verdict = judge_trajectory(source, target)
    assert verdict.state is State.CONDITIONAL
    assert what in verdict.reason


def test_a_replica_of_other_data_is_told_by_name():
    source, target = pair()
    odd = replace(target.replicas[2], batches=tuple("x" * STEPS))
    target = replace(target, replicas=(*target.replicas[:2], odd, *target.replicas[3:]))
    found = finding(source, target, DATA)
    assert found.state is State.FAIL
    assert found.reason.startswith("target 3 saw other data")


def test_own_dropout_on_both_sides_is_a_condition():
    source, target = (each(side, dropout="own") for side in pair())
    assert finding(source, target, DROPOUT).state is State.CONDITIONAL
    assert judge_trajectory(source, target).state is State.CONDITIONAL


def test_the_same_masks_are_the_same_dropout_and_others_are_not():
    source, target = (each(side, dropout="masks 1") for side in pair())
    assert finding(source, target, DROPOUT).state is State.PASS
    assert finding(source, each(target, dropout="masks 2"), DROPOUT).state is State.FAIL


class TestRate:
    def rates(self, change):
        source, target = pair()
        rates = np.array(target.run.series["lr"].values)
        return finding(source, each(target, series={"lr": Series(np.arange(STEPS), change(rates))}), RATE)

    def test_a_warm_up_off_by_one_is_named_with_its_first_step(self):
        found = self.rates(lambda rates: np.r_[rates[1:], rates[-1]])
        assert found.state is State.FAIL
        assert "at step 0" in found.reason

    def test_two_percent_are_seen_and_rounding_is_not(self):
        assert self.rates(lambda rates: rates * 1.02).state is State.FAIL
        assert self.rates(lambda rates: rates.astype(np.float32).astype(float)).state is State.PASS

    def test_what_was_printed_cannot_show_less_than_a_digit(self):
        source, target = pair()
        rates = target.run.series["lr"].values
        printed = Series(np.arange(STEPS), np.round(rates, 5), 1e-5)
        assert finding(source, each(target, series={"lr": printed}), RATE).state is State.PASS

    def test_nan_is_no_rate(self):
        assert self.rates(lambda rates: rates * np.nan).state is State.FAIL


class TestFinite:
    def test_a_loss_that_is_none_on_one_side_or_both(self):
        source, target = pair()
        losses = np.array(target.run.series["loss"].values)
        losses[17] = np.nan
        bad = {"loss": Series(np.arange(STEPS), losses)}
        found = finding(source, each(target, series=bad), FINITE)
        assert found.state is State.FAIL
        assert found.reason == "1 loss not finite (target), first at step 17"
        assert judge_trajectory(each(source, series=bad), each(target, series=bad)).state is State.FAIL

    def test_a_norm_may_be_infinite_at_an_overflow_only(self):
        source, target = pair()
        norms = np.array(target.run.series["grad_norm"].values)
        norms[5] = np.inf
        spoiled = {"grad_norm": Series(np.arange(STEPS), norms)}
        assert finding(source, each(target, series=spoiled), FINITE).state is State.FAIL
        skipped = {**spoiled, "overflow": Series(np.arange(STEPS), np.arange(STEPS) == 5)}
        assert finding(source, each(target, series=skipped), FINITE).state is State.PASS
        assert judge_trajectory(source, each(target, series=skipped)).state is not State.FAIL


class TestStepZero:
    def test_a_gap_that_no_replica_has_is_named(self):
        source, target = sides(SIDE, replace(SIDE, scale=0.97), 4)
        found = finding(source, target, STEP_0)
        assert found.state is State.FAIL
        assert "the weights, the batch or the loss differ" in found.reason
        assert found.value > found.limit

    def test_a_later_gap_is_none_of_it(self):
        source, target = sides(SIDE, replace(SIDE, decay=0.5), 4)
        assert finding(source, target, STEP_0).state is State.PASS

    def test_the_field_case_of_two_logs(self):
        """XLNet on a GPU and an NPU: 12.196129 and 5.888282 at step 0."""
        steps = np.array([0, 100, 200])
        source, target = (
            Runs(replace(pair()[0].run, name=name, kind="log", batches=(), weights="", dropout="", series=series))
            for name, series in (
                ("gpu", {"loss": Series(steps, np.array([12.196129, 2.5182028, 2.2136536]), 1e-6)}),
                ("npu", {"loss": Series(steps, np.array([5.888282, 2.404872, 1.8116344]), 1e-6)}),
            )
        )
        verdict = judge_trajectory(source, target)
        assert verdict.state is State.FAIL
        assert verdict.decisive.what == STEP_0
        assert "12.196129 (source), 5.888282 (target)" in verdict.decisive.reason

    def test_without_replicas_a_preset_judges_and_passes_nothing(self):
        source, target = (Runs(side.run) for side in pair())
        found = finding(source, target, STEP_0)
        assert found.state is State.CONDITIONAL
        assert "MindFormers" in found.source

    def test_a_log_that_begins_later_shows_none(self):
        source, target = pair()
        late = {"loss": Series(np.arange(5, STEPS), target.run.series["loss"].values[5:])}
        assert finding(source, each(target, series=late), STEP_0).state is State.NOT_RUN

    def test_steps_counted_from_one_are_the_same_steps(self):
        source, target = pair()
        moved = {n: Series(np.arange(1, STEPS + 1), target.run.series[n].values) for n in ("loss", "grad_norm")}
        assert finding(source, each(target, series=moved), STEP_0).state is State.PASS


def test_a_loss_that_does_not_fall_tells_nothing():
    still = replace(SIDE, lr=1e-7)
    source, target = sides(still, still, 5)
    found = finding(source, target, DESCENT)
    assert found.state is State.CONDITIONAL
    assert "too little to compare by" in found.reason
    assert judge_trajectory(source, target).state is State.CONDITIONAL


def test_without_any_loss_nothing_is_judged():
    source, target = pair()
    silent = each(target)
    silent = replace(silent, run=replace(silent.run, series={}), replicas=())
    verdict = judge_trajectory(source, silent)
    assert verdict.state is State.NOT_RUN
    assert {finding(source, silent, what).state for what in (RATE, FINITE, STEP_0, DESCENT)} == {State.NOT_RUN}
