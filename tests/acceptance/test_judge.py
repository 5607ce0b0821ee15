"""The verdict of L5: every state, equivalence, single runs and logs, the shadow run, detection power."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest

from porting.acceptance.align import Aligned
from porting.acceptance.equivalence import MARGIN, equivalence, margin_of
from porting.acceptance.judge import equivalent, judge_trajectory
from porting.acceptance.names import POWER, REPLICAS, SHADOW, SPREADS, TAIL
from porting.acceptance.shadow import LIMIT, STEPS, floors_apart
from porting.acceptance.student import t_quantile
from porting.acceptance.trajectory import Runs, Series
from porting.parity.presets import RULES, Bound, Check, Rule
from porting.parity.state import Level, State
from porting.testing.training import MISTAKES, Trained, runs, sides

EXACT = Trained(noise=1e-6, precision="float32")


def with_rates(side):
    """A side whose runs say their learning rates."""
    rates = Series(np.arange(300), np.linspace(1e-3, 0, 300))
    one = lambda run: replace(run, series={**run.series, "lr": rates})  # noqa: E731
    return replace(side, run=one(side.run), replicas=tuple(map(one, side.replicas)))


@cache
def clean(side=EXACT, seed=21, seeds=0):
    return tuple(with_rates(one) for one in sides(side, side, seed, seeds=seeds))


def named(verdict, what):
    return [one for one in verdict.findings if one.what == what or one.what.startswith(f"{what}:")]


class TestPass:
    def test_two_clean_sides_in_float32(self):
        verdict = judge_trajectory(*clean())
        assert verdict.level is Level.TRAJECTORY
        assert verdict.state is State.PASS
        assert verdict.passed
        assert verdict.reason == ""
        assert named(verdict, POWER)[0].state is State.NOT_RUN  # which says nothing of the target

    def test_every_series_has_its_finding_with_the_test_that_judged_it(self):
        verdict = judge_trajectory(*clean())
        for name in ("loss", "grad_norm", "grad_norm/layer.0", "grad_norm/head"):
            (found,) = [one for one in verdict.findings if one.what == name]
            assert found.value <= found.limit
            assert found.source == "permutation test: 924 splits of 6 and 6 runs, alpha 0.05 over all series"
        assert named(verdict, SPREADS)[0].value == pytest.approx(1, abs=0.7)

    def test_an_emulated_pass_is_none(self):
        source, target = clean()
        verdict = judge_trajectory(source, replace(target, run=replace(target.run, emulated="float16 saturate")))
        assert verdict.emulated
        assert not verdict.passed


class TestMissing:
    def test_too_few_replicas_are_judged_by_a_rule(self):
        source, target = clean()
        verdict = judge_trajectory(source, replace(target, replicas=target.replicas[:4]))
        assert verdict.state is State.CONDITIONAL
        assert "6 runs of the source and 5 of the target, wanted 6 each" in named(verdict, REPLICAS)[0].reason

    def test_replicas_that_do_not_differ_are_no_floor(self):
        source, target = clean()
        same = replace(source, replicas=(source.run,) * 5)
        verdict = judge_trajectory(same, target)
        assert verdict.state is State.CONDITIONAL
        assert "same bits" in named(verdict, REPLICAS)[0].reason

    def test_a_run_that_crashed_is_no_pass(self):
        source, target = clean()
        odd = replace(target.replicas[1], crashed="killed by SIGSEGV")
        verdict = judge_trajectory(source, replace(target, replicas=(odd, *target.replicas[1:])))
        assert verdict.state is State.CRASHED
        assert verdict.decisive.reason == "killed by SIGSEGV"

    def test_no_float32_run_takes_a_pass_to_conditional(self):
        half = Trained()
        verdict = judge_trajectory(*clean(half))
        assert verdict.state is State.CONDITIONAL
        assert verdict.reason == "not run: shadow"


class TestEquivalence:
    def test_what_is_beyond_noise_and_within_the_margin_is_conditional(self):
        source, target = (
            with_rates(one) for one in sides(Trained(), replace(Trained(), decay=0.052, precision=""), 30)
        )
        verdict = judge_trajectory(source, target)
        tails = named(verdict, TAIL)
        assert verdict.state is State.CONDITIONAL
        assert tails[0].state is State.CONDITIONAL
        assert "within the margin" in tails[0].reason
        assert "uncalibrated: 0 runs with other seeds" in tails[0].source

    def test_it_is_told_from_what_is_conditional_for_want_of_evidence(self):
        found = judge_trajectory(*(with_rates(one) for one in sides(EXACT, replace(EXACT, decay=0.0500015), 33)))
        assert found.state is State.CONDITIONAL
        assert equivalent(found)
        half = judge_trajectory(*(with_rates(one) for one in sides(Trained(), replace(Trained(), decay=0.052), 30)))
        assert half.state is State.CONDITIONAL
        assert not equivalent(half)  # without a float32 run
        assert not equivalent(judge_trajectory(*clean()))
        assert not equivalent(judge_trajectory(*(Runs(one.run) for one in clean())))
        assert not equivalent(judge_trajectory(*sides(Trained(), MISTAKES["weight decay 0"], 31)))

    def test_what_is_beyond_the_margin_fails(self):
        source, target = (with_rates(one) for one in sides(Trained(), MISTAKES["weight decay 0"], 31))
        verdict = judge_trajectory(source, target)
        assert verdict.state is State.FAIL
        (found,) = [one for one in named(verdict, TAIL) if one.what.endswith("loss")]
        assert "beyond the margin" in found.reason
        assert found.limit == MARGIN

    def test_a_difference_in_the_norm_alone_is_weighed_too(self):
        source, target = (with_rates(one) for one in sides(Trained(), MISTAKES["gradients x 0.5"], 32))
        verdict = judge_trajectory(source, target)
        assert verdict.state is State.FAIL
        states = {one.what: one.state for one in named(verdict, TAIL)}
        assert states[f"{TAIL}: loss"] is State.CONDITIONAL
        assert states[f"{TAIL}: grad_norm"] is State.FAIL

    def test_other_seeds_calibrate_the_margin(self):
        source, _ = clean(EXACT, 21, 5)
        known, none = margin_of("loss", source.seeds), margin_of("loss", source.seeds[:4])
        tails = [one.series["loss"].values[-60:].mean() for one in source.seeds]
        assert known.calibrated
        assert known.limit == pytest.approx(min(MARGIN, np.std(tails, ddof=1) / np.mean(tails) / 2))
        assert not none.calibrated
        assert none.limit == MARGIN
        assert "4 runs with other seeds, wanted 5" in none.source

    def test_the_interval_is_welchs_or_of_pairs(self):
        ours, theirs = runs(Trained(), 6, 1), runs(Trained(), 6, 2)
        paired = equivalence(ours, theirs, "loss")
        tails = [np.array([one.series["loss"].values[-60:].mean() for one in side]) for side in (ours, theirs)]
        apart = (tails[1] - tails[0]) / tails[0].mean()
        half = t_quantile(0.95, 5) * apart.std(ddof=1) / 6**0.5
        assert paired.low == pytest.approx(apart.mean() - half)
        assert paired.high == pytest.approx(apart.mean() + half)
        unpaired = equivalence(ours, [replace(one, replica=99) for one in theirs], "loss")
        assert unpaired.difference == pytest.approx(paired.difference)
        assert unpaired.high - unpaired.low != pytest.approx(paired.high - paired.low)

    def test_it_is_scipys_welch_interval(self):
        stats = pytest.importorskip("scipy.stats")
        ours, theirs = runs(Trained(), 6, 1), runs(Trained(noise=1e-2), 6, 2)
        found = equivalence(ours, [replace(one, replica=99) for one in theirs], "loss")
        tails = [np.array([one.series["loss"].values[-60:].mean() for one in side]) for side in (theirs, ours)]
        known = stats.ttest_ind(*(tail / tails[1].mean() for tail in tails), equal_var=False).confidence_interval(0.9)
        width = known.high - known.low
        assert found.high - found.low == pytest.approx(width, rel=0.02)  # degrees of freedom taken down
        assert found.high - found.low >= width


class TestSingle:
    """One run on each side, or logs."""

    @staticmethod
    def pair(change=lambda loss: loss, resolution=0.0):
        source, _ = clean()
        losses = source.run.series["loss"].values
        series = {**source.run.series, "loss": Series(np.arange(300), change(losses), resolution)}
        return Runs(source.run), Runs(replace(source.run, series=series))

    def test_the_same_is_conditional_at_most(self):
        verdict = judge_trajectory(*self.pair())
        assert verdict.state is State.CONDITIONAL
        assert REPLICAS in verdict.reason

    @pytest.mark.parametrize("name", ["mindformers", "msprobe", "verl", "mindspeed"])
    def test_each_rule_with_its_own_numbers(self, name):
        rule = RULES[name]
        good, bad = self.pair(lambda loss: loss * 1.004), self.pair(lambda loss: np.r_[loss[0], loss[1:] * 1.03])
        assert judge_trajectory(*good, rule=rule).state is State.CONDITIONAL
        verdict = judge_trajectory(*bad, rule=rule)
        assert verdict.state is State.FAIL
        assert verdict.decisive.source.split(":")[0] in {check.source.split(":")[0] for check in rule.checks}

    def test_a_rule_without_a_word_on_trajectories_leaves_the_default(self):
        verdict = judge_trajectory(*self.pair(), rule=RULES["modelzoo"])
        assert any("MindFormers" in one.source and one.what == "loss" for one in verdict.findings)

    def test_what_is_printed_too_coarsely_is_not_decided(self):
        rule = Rule("own", (Check("loss", (Bound("mean abs", 0.005),), "own"),))
        coarse = self.pair(partial(np.round, decimals=2), 0.01)
        (found,) = [one for one in judge_trajectory(*coarse, rule=rule).findings if one.what == "loss"]
        assert found.state is State.NOT_RUN
        assert found.reason == "printed to 0.01, which cannot decide a limit of 0.005 (mean abs)"

    def test_what_is_far_beyond_fails_however_it_is_printed(self):
        rule = Rule("own", (Check("loss", (Bound("mean abs", 0.005),), "own"),))
        coarse = self.pair(lambda loss: np.round(np.r_[loss[0], loss[1:] + 0.1], 2), 0.01)
        assert judge_trajectory(*coarse, rule=rule).state is State.FAIL

    def test_no_gradient_norm_is_said(self):
        source, target = self.pair()
        silent = Runs(replace(target.run, series={"loss": target.run.series["loss"]}))
        found = [one for one in judge_trajectory(source, silent).findings if one.what == "grad_norm"]
        assert found[0].state is State.NOT_RUN


class TestShadow:
    def half(self, target_shadow, count=6, steps=300):
        source, target = clean(Trained())
        ours = runs(replace(EXACT, steps=steps), count, 50)
        theirs = runs(replace(target_shadow, steps=steps), count, 51)
        return (
            replace(source, shadow=ours[0], shadows=ours[1:]),
            replace(target, shadow=theirs[0], shadows=theirs[1:]),
        )

    def test_float32_shows_what_half_precision_hides(self):
        small = replace(EXACT, scale=1 + 3e-5)
        hidden = judge_trajectory(*clean(Trained()))
        assert [one.state for one in hidden.findings if one.what == "loss"] == [State.PASS]
        verdict = judge_trajectory(*self.half(small))
        assert verdict.state is State.FAIL
        assert verdict.decisive.what == f"{SHADOW}: loss"
        assert verdict.decisive.value > LIMIT

    def test_an_honest_one_completes_a_pass(self):
        assert judge_trajectory(*self.half(EXACT)).state is State.PASS

    @pytest.mark.parametrize(("apart", "within"), [(3.5e-7, True), (8e-7, True), (1e-6, False)])
    def test_replicas_that_hardly_differ_leave_what_an_honest_port_may_be_apart(self, apart, within):
        rng = np.random.default_rng(0)
        source = 0.673 * (1 + 2**-24 * rng.integers(0, 2, (6, STEPS)))
        target = 0.673 * (1 + apart) * np.ones((6, STEPS))
        found = Aligned(np.arange(STEPS), np.concatenate([source, target]))
        assert (floors_apart(found, 6) <= LIMIT) == within

    def test_too_short_or_without_a_floor_it_is_not_run(self):
        for pair, told in (
            (self.half(EXACT, steps=STEPS - 1), f"{STEPS - 1} steps in float32, wanted {STEPS}"),
            (self.half(EXACT, count=1), "its floor is not known"),
        ):
            (found,) = named(judge_trajectory(*pair), SHADOW)
            assert found.state is State.NOT_RUN
            assert told in found.reason

    def test_a_side_without_one(self):
        source, target = self.half(EXACT)
        (found,) = named(judge_trajectory(source, replace(target, shadow=None, shadows=())), SHADOW)
        assert found.state is State.NOT_RUN
        assert "of the target" in found.reason


class TestPower:
    def test_what_would_have_been_caught_and_what_not(self):
        source, target = clean(Trained())
        planted = {name: runs(side, 6, 70 + i) for i, (name, side) in enumerate(MISTAKES.items())}
        planted = {
            name: tuple(replace(one, series={**one.series, "lr": source.run.series["lr"]}) for one in made)
            for name, made in planted.items()
        }
        (found,) = named(judge_trajectory(source, target, planted=planted), POWER)
        assert found.state is State.PASS
        assert "weight decay 0 by tail mean: loss" in found.reason
        assert "attention scale x 0.97 by precondition: step 0" in found.reason
        assert "other initial weights by precondition: weights" in found.reason
        assert "not seen: no clipping" in found.reason
        assert found.value == pytest.approx(7 / 8)

    def test_a_planted_run_alone_is_caught_by_a_failure_only(self):
        """What is CONDITIONAL for want of replicas was not detected."""
        source, target = clean()
        planted = {"hidden": runs(EXACT, 1, 80), "wrong": runs(replace(EXACT, weights=1), 1, 80)}
        (found,) = named(judge_trajectory(source, target, planted=planted), POWER)
        assert "wrong by precondition: weights" in found.reason
        assert "not seen: hidden" in found.reason

    def test_a_setting_that_catches_nothing_is_a_condition(self):
        source, target = clean()
        found = judge_trajectory(source, target, planted={"nothing": runs(EXACT, 3, 80)})
        assert named(found, POWER)[0].state is State.CONDITIONAL
        assert "not seen: nothing" in named(found, POWER)[0].reason


def test_quantiles_of_student():
    assert [t_quantile(0.95, freedom) for freedom in (1, 2, 5, 10.9, 30)] == pytest.approx(
        [6.3138, 2.9200, 2.0150, 1.8125, 1.6973], abs=1e-4
    )
