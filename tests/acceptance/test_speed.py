"""L6: the steady state found in the data, the ratio with its interval, and when there is no verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from porting.acceptance.names import COMPILATION, CPU_FALLBACKS, RECOMPILATIONS, STEP_TIME
from porting.acceptance.speed import judge_speed, ratio_interval, steady
from porting.acceptance.trajectory import Series, Trajectory
from porting.errors import UsageError
from porting.parity.state import Level, State, Verdict

BELOW = tuple(
    Verdict(level, State.PASS, (), 1, 1) for level in (Level.FORWARD, Level.BACKWARD, Level.STEP, Level.TRAJECTORY)
)


def times(count=200, median=0.05, warm=(), seed=0, jitter=0.03):
    """Seconds of steps: warm-up, then noise."""
    random = np.random.default_rng(seed)
    values = median * np.exp(random.normal(0, jitter, count))
    values[: len(warm)] = warm
    return values


def run(values, name="run", **changes):
    seconds = Series(np.arange(len(values)), np.asarray(values, float))
    return Trajectory(name, "capture", (), {"seconds": seconds}, counts={"cpu_fallbacks": 0}, **changes)


def named(verdict, what):
    return next(one for one in verdict.findings if one.what == what)


class TestSteady:
    @pytest.mark.parametrize(
        "warm", [(9.0,), (9.0, 0.4, 0.3), (3.0,) * 12, tuple(np.linspace(0.5, 0.1, 30)), (20.0, *[0.3] * 20)]
    )
    @pytest.mark.parametrize("count", [100, 5000])
    def test_warm_up_of_any_length_is_found_in_the_data(self, warm, count):
        found = steady(times(count, warm=warm))
        assert abs(found.first - len(warm)) <= 2
        assert found.median == pytest.approx(0.05, rel=0.02)
        assert found.compile == pytest.approx(sum(warm) - len(warm) * found.median, rel=0.1)

    def test_one_that_is_steady_from_the_start_loses_nothing(self):
        found = steady(times())
        assert found.first == 0
        assert found.compile == 0
        assert found.values.size == 200
        assert found.jitter == pytest.approx(0.03, rel=0.3)

    def test_a_slow_step_here_and_there_is_counted_and_moves_nothing(self):
        values = times()
        values[[40, 90, 150]] = 1.0
        found = steady(values)
        assert found.first == 0
        assert found.outliers == 3
        assert found.median == pytest.approx(0.05, rel=0.02)

    def test_a_run_that_slows_down_has_no_warm_up(self):
        assert steady(np.r_[times(50), times(150, 0.2)]).first == 0

    def test_a_million_steps_take_no_time(self):
        assert steady(times(10**6, warm=(9.0,) * 5)).first == 5

    def test_few_steps(self):
        assert steady(np.array([0.1])).median == 0.1
        assert steady(np.array([5.0, 0.1, 0.1])).first <= 1

    @pytest.mark.parametrize("values", [[], [0.0, -1.0], [np.nan, np.inf]])
    def test_no_times_are_refused(self, values):
        with pytest.raises(UsageError, match="seconds above 0"):
            steady(np.array(values))


def test_the_interval_holds_the_ratio_as_often_as_it_says():
    inside = 0
    for seed in range(60):
        low, high = ratio_interval(times(seed=seed, jitter=0.1), times(median=0.065, seed=1000 + seed, jitter=0.1))
        inside += low <= 1.3 <= high
    assert 51 <= inside <= 60


class TestVerdict:
    def test_as_fast_is_a_pass(self):
        verdict = judge_speed(run(times()), run(times(median=0.04, seed=1)), below=BELOW)
        assert verdict.state is State.PASS
        found = named(verdict, STEP_TIME)
        assert found.value == pytest.approx(0.8, rel=0.03)
        assert "0.04 s against 0.05007 s a step" in found.reason

    def test_slower_is_a_condition_without_a_limit_and_judged_by_one(self):
        pair = run(times()), run(times(median=0.06, seed=1))
        assert judge_speed(*pair, below=BELOW).state is State.CONDITIONAL
        assert judge_speed(*pair, limit=1.5, below=BELOW).state is State.PASS
        assert judge_speed(*pair, limit=1.1, below=BELOW).state is State.FAIL

    def test_an_interval_that_reaches_over_the_limit_decides_nothing(self):
        pair = run(times(jitter=0.3)), run(times(jitter=0.3, seed=1))
        ratio = named(judge_speed(*pair, below=BELOW), STEP_TIME).value
        assert judge_speed(*pair, limit=ratio * 1.01, below=BELOW).state is State.CONDITIONAL
        assert judge_speed(*pair, limit=ratio * 0.99, below=BELOW).state is State.CONDITIONAL

    def test_hundreds_are_named(self):
        verdict = judge_speed(run([54.181e-3] * 20), run([17516.945e-3] * 20), below=BELOW)
        assert verdict.state is State.FAIL
        assert named(verdict, STEP_TIME).value == pytest.approx(323.3, abs=0.05)
        assert "dynamic shapes or a fallback" in named(verdict, STEP_TIME).reason

    def test_compilation_stands_apart(self):
        verdict = judge_speed(run(times()), run(times(warm=(60.0,), seed=1)), limit=1.1, below=BELOW)
        assert verdict.state is State.PASS
        assert named(verdict, COMPILATION).value == pytest.approx(60, rel=0.01)

    def test_fallbacks_are_a_condition(self):
        target = replace(run(times(seed=1)), counts={CPU_FALLBACKS: 3, RECOMPILATIONS: 0})
        verdict = judge_speed(run(times()), target, limit=2, below=BELOW)
        assert verdict.state is State.CONDITIONAL
        assert named(verdict, CPU_FALLBACKS).value == 3
        assert named(verdict, RECOMPILATIONS).state is State.PASS

    def test_a_few_steps_are_no_pass(self):
        assert judge_speed(run([1.0] * 3), run([0.9] * 3), below=BELOW).state is State.CONDITIONAL


class TestNoVerdict:
    def test_of_an_emulated_device(self):
        verdict = judge_speed(run(times()), run(times(), emulated="float16 saturate"), below=BELOW)
        assert verdict.state is State.NOT_RUN
        assert verdict.emulated
        assert "its time is that of the emulation" in verdict.reason
        assert all(one.state is State.NOT_RUN for one in verdict.findings)

    @pytest.mark.parametrize("level", [verdict.level for verdict in BELOW])
    def test_without_one_of_the_levels_below_or_with_one_that_failed(self, level):
        others = tuple(one for one in BELOW if one.level is not level)
        verdict = judge_speed(run(times()), run(times()), below=others)
        assert verdict.state is State.NOT_RUN
        assert f"{level} not run" in verdict.reason
        failed = (*others, Verdict(level, State.FAIL, (), 1, 1))
        assert f"{level} failed" in judge_speed(run(times()), run(times()), below=failed).reason
        crashed = (*others, Verdict(level, State.CRASHED, (), 0, 1))
        assert judge_speed(run(times()), run(times()), below=crashed).state is State.NOT_RUN

    def test_what_was_measured_is_told_all_the_same(self):
        found = named(judge_speed(run([54.181e-3] * 20), run([17516.945e-3] * 20)), STEP_TIME)
        assert found.state is State.NOT_RUN
        assert found.value == pytest.approx(323.3, abs=0.05)

    def test_without_step_times(self):
        verdict = judge_speed(run(times()), Trajectory("log", "log", (), {}), below=BELOW)
        assert verdict.state is State.NOT_RUN
        assert named(verdict, STEP_TIME).reason == "no step times: log"
