"""The permutation test: its splits, its statistic, what it finds, what it cannot."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import comb

import numpy as np
import pytest

from porting.acceptance.align import aligned, members
from porting.acceptance.permutation import ALPHA, BLOCK, band, blocks_of, permuted, splits, statistics, z_of
from porting.acceptance.trajectory import Runs, Series, Trajectory
from porting.testing.training import MISTAKES, Trained, runs, sides


def made(values, name="loss", replica=None):
    """Runs whose one series has these rows."""
    return tuple(
        Trajectory(f"{i}", "capture", (), {name: Series(np.arange(len(row)), np.asarray(row, float))}, replica=replica)
        for i, row in enumerate(values)
    )


class TestSplits:
    def test_all_924_of_six_and_six_the_one_at_hand_first(self):
        found = splits(6, 6)
        assert found.shape == (924, 12)
        assert found[0].tolist() == [True] * 6 + [False] * 6
        assert set(found.sum(axis=1)) == {6}
        assert len({tuple(row) for row in found}) == 924

    def test_too_many_are_drawn_by_chance_and_alike_each_time(self):
        found = splits(12, 12, seed=3)
        assert found.shape[0] == 10_000 < comb(24, 12)
        assert found[0].tolist() == [True] * 12 + [False] * 12
        assert set(found.sum(axis=1)) == {12}
        assert np.array_equal(found, splits(12, 12, seed=3))


def test_the_statistic_is_that_of_a_loop():
    random = np.random.default_rng(0)
    values, least = random.normal(2, 0.1, (8, 5)), np.full(5, 1e-9)
    masks = splits(5, 3)
    found = statistics(values, masks, least)
    for mask, row in list(zip(masks, found, strict=True))[::7]:
        one, two = values[mask], values[~mask]
        spread = np.sqrt((4 * one.var(axis=0, ddof=1) + 2 * two.var(axis=0, ddof=1)) / 6)
        assert row == pytest.approx((two.mean(axis=0) - one.mean(axis=0)) / spread, rel=1e-9)


def test_differences_far_below_the_values_are_not_lost():
    random = np.random.default_rng(1)
    noise = random.normal(0, 1e-6, (12, 40))
    noise[6:] += 1e-5
    found = permuted(made(10 + noise[:6]), made(10 + noise[6:]))
    assert found.found
    assert found.p == pytest.approx(2 / 924)


class TestBlocks:
    def test_ten_steps_each_and_the_rest_in_the_last(self):
        rows = np.arange(12 * 34, dtype=float).reshape(12, 34)
        found = blocks_of(made(rows[:6]), made(rows[6:]), "loss")
        assert found.starts.tolist() == [0, 10, 20]
        assert found.values[0].tolist() == [4.5, 14.5, np.mean(range(20, 34))]
        assert BLOCK == 10

    def test_fewer_steps_than_a_block_are_one(self):
        found = blocks_of(made([[1, 2, 3]]), made([[2, 2, 2]]), "loss")
        assert found.values.tolist() == [[2.0], [2.0]]

    def test_steps_that_overflowed_in_any_run_are_left_out_for_all(self):
        rows = np.ones((4, 20))
        rows[3, 2] = np.inf
        found = blocks_of(made(rows[:2], "grad_norm"), made(rows[2:], "grad_norm"), "grad_norm")
        assert np.isfinite(found.values).all()
        assert found.starts.tolist() == [0]

    def test_of_a_norm_its_logarithm(self):
        found = blocks_of(made(np.full((2, 10), np.e), "grad_norm"), made(np.ones((2, 10)), "grad_norm"), "grad_norm")
        assert found.values[:, 0] == pytest.approx([1, 1, 0, 0])

    def test_only_steps_of_all_runs(self):
        one, two = made(np.ones((1, 30)))[0], made(np.ones((1, 30)))[0]
        two = replace(two, series={"loss": Series(np.arange(20, 50), np.ones(30))})
        assert blocks_of((one,), (two,), "loss").starts.tolist() == [20]


class TestFound:
    def test_replicas_are_not(self):
        source, target = sides(Trained(), Trained(), 11)
        found = permuted(members(source), members(target))
        assert not found.found
        assert all(value <= found.limit for value in found.largest.values())
        assert 0.5 < found.spreads < 2

    @pytest.mark.parametrize("mistake", [name for name in MISTAKES if name != "no clipping"])
    def test_planted_mistakes_are(self, mistake):
        source, target = sides(Trained(), MISTAKES[mistake], 12)
        found = permuted(members(source), members(target))
        assert found.found
        assert found.p <= ALPHA
        assert max(found.largest.values()) > 10 * found.limit

    def test_gradients_halved_show_in_the_norm_and_not_in_the_loss(self):
        """Adam hides the scale of a gradient."""
        source, target = sides(Trained(clip=np.inf), Trained(clip=np.inf, slope=0.5), 13)
        found = permuted(members(source), members(target))
        assert found.largest["loss"] <= found.limit
        assert found.largest["grad_norm"] > 1000

    def test_more_noise_alone_is_told_as_the_ratio_of_spreads(self):
        source, target = sides(Trained(), Trained(noise=1.2e-2), 14)
        assert 3 < permuted(members(source), members(target)).spreads < 6

    def test_its_numbers_do_not_depend_on_the_order_of_runs(self):
        source, target = sides(Trained(steps=50), Trained(steps=50, decay=0.1), 15)
        one, two = (permuted(members(source)[::step], members(target)[::step]) for step in (1, -1))
        assert one.p == two.p
        assert one.largest == pytest.approx(two.largest)
        assert one.limit == pytest.approx(two.limit)


class TestNoNoise:
    def test_replicas_of_the_same_bits_are_none(self):
        row = np.linspace(3, 1, 50)
        assert permuted(made([row] * 6), made([row] * 6)) is None
        assert permuted(made([row] * 6), made(row + np.random.default_rng(0).normal(0, 1e-3, (6, 50)))) is None

    def test_no_series_in_common(self):
        assert permuted(made(np.ones((6, 9))), made(np.ones((6, 9)), "other")) is None
        assert aligned((*made([[1, 2]]), replace(made([[1, 2]])[0], series={})), "loss") is None

    def test_what_printing_made_is_no_difference(self):
        random = np.random.default_rng(5)
        printed = [
            replace(run, series={"loss": Series(np.arange(40), np.round(run.series["loss"].values, 2), 0.01)})
            for run in made(2 + random.normal(0, 1e-5, (12, 40)) + 0.00002 * (np.arange(12) > 5)[:, None])
        ]
        found = permuted(printed[:6], printed[6:])
        assert found is None or not found.found


def test_numbers_too_large_to_tell_are_found():
    """Whose squares are no numbers any more; and the state of numpy's warnings is left as it was."""
    before = np.geterr()
    random = np.random.default_rng(2)
    ours = made(random.normal(2, 0.1, (6, 20)))
    found = permuted(ours, made(np.full((6, 20), 1e200) * random.normal(1, 0.1, (6, 1))))
    assert found.found
    assert np.isinf(found.largest["loss"])
    assert np.geterr() == before


def test_band_and_z_for_curves():
    ours = runs(Trained(steps=40), 6, 1)
    theirs = runs(Trained(steps=40, decay=1), 6, 2)
    source, target = Runs(ours[0], ours[1:]), Runs(theirs[0], theirs[1:])
    low, high = band(source, "loss")
    assert np.all(low.values <= ours[3].series["loss"].values)
    assert np.all(high.values >= ours[3].series["loss"].values)
    z = z_of(source, target, "loss")
    assert z.steps.tolist() == [0, 10, 20, 30]
    assert np.array_equal(z.values, permuted(members(source), members(target)).z["loss"].values)
    assert band(Runs(ours[0]), "loss") is None
    assert z_of(source, Runs(target.run), "loss") is None
    assert band(source, "nothing") is None


def test_p_is_the_share_of_splits_that_are_as_far():
    random = np.random.default_rng(9)
    values = random.normal(1, 0.01, (7, 10))
    values[4:] += 0.008
    found = permuted(made(values[:4]), made(values[4:]))
    means = values.mean(axis=1)

    def far(chosen):
        one, two = means[list(chosen)], np.delete(means, chosen)
        return abs(one.mean() - two.mean()) / np.sqrt((3 * one.var(ddof=1) + 2 * two.var(ddof=1)) / 5)

    own = far((0, 1, 2, 3))
    all_of_them = [far(chosen) for chosen in combinations(range(7), 4)]
    assert found.p == pytest.approx(np.mean([value >= own * (1 - 1e-9) for value in all_of_them]))
