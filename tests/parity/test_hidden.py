"""What a mask hides is measured apart, so that nothing vanishes beside it."""

from __future__ import annotations

import numpy as np
import pytest

from porting.parity.hidden import hidden_from
from porting.parity.measure import deviation


def scores(mask, seed=0):
    """Scores (batch, head, query, key), half of the keys hidden."""
    drawn = np.random.default_rng(seed).standard_normal((2, 3, 8, 8)).astype(np.float32)
    drawn[..., 4:] += np.float32(mask)
    return drawn


@pytest.mark.parametrize("mask", [-1e4, -1e9, -1e30])
def test_a_deviation_of_what_is_seen_shows_beside_a_mask(mask):
    right, wrong = scores(mask), scores(mask)
    wrong[..., :4] *= np.float32(1.01)
    found = deviation(right, wrong)
    assert found.rel_l2 == pytest.approx(0.01, rel=1e-3)
    assert found.max_rel == pytest.approx(0.01, rel=1e-3)
    assert found.worst is not None
    assert found.worst[0][-1] < 4


@pytest.mark.parametrize("wrong", [-1e9, 0.0, -2e4])
def test_another_mask_shows(wrong):
    found = deviation(scores(-1e4), scores(wrong))
    assert found.rel_l2 > 0.5


def test_one_that_only_the_target_hides_shows():
    right, wrong = scores(-1e4), scores(-1e4)
    wrong[0, 0, 0, 0] = -1e4
    found = deviation(right, wrong)
    assert found.max_rel is not None
    assert found.max_rel > 100


def test_normal_values_hide_nothing():
    drawn = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    assert hidden_from(drawn) is None
    assert hidden_from(np.zeros(1000, np.float32)) is None
    assert hidden_from(np.full(10, -1e30, np.float32)) is None
    assert deviation(drawn, drawn * np.float32(1.5)).rel_l2 == pytest.approx(0.5, rel=1e-6)
