"""Long curves are thinned and no peak is lost."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from porting.report.thin import BUCKETS, kept

VALUES = st.lists(st.one_of(st.floats(-1e3, 1e3), st.sampled_from([np.nan, np.inf, -np.inf])), min_size=1, max_size=300)


@given(VALUES, st.integers(1, 20))
def test_extremes_ends_and_order_stay(numbers, buckets):
    values = np.array(numbers)
    chosen = kept(values, buckets)
    assert list(chosen) == sorted(set(chosen))
    assert {0, len(values) - 1} <= set(chosen)
    finite = values[np.isfinite(values)]
    if len(finite):
        shown = values[chosen][np.isfinite(values[chosen])]
        assert (shown.min(), shown.max()) == (finite.min(), finite.max())
    assert np.isfinite(values).all() == np.isfinite(values[chosen]).all(), "what is not finite stays to be seen"


@given(VALUES, st.integers(1, 20))
def test_a_bucket_gives_three_points_at_most(numbers, buckets):
    assert len(kept(np.array(numbers), buckets)) <= 3 * buckets + 2


def test_every_peak_of_a_single_step_is_kept():
    values = np.zeros(1_000_000)
    peaks = np.arange(777, 1_000_000, 99_991)
    values[peaks] = 5.0
    assert set(peaks) <= set(kept(values))


def test_short_curves_are_whole():
    assert len(kept(np.arange(2.0 * BUCKETS))) == 2 * BUCKETS
