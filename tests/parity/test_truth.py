"""Three-way errors: ratios of an honest target are near 1, of a wrong one far above, and nothing is made of nothing."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from floor_support import recorded

from porting.errors import UsageError
from porting.parity.truth import medians, three_way

BASE = np.random.default_rng(0).normal(size=(16, 32))
FLOAT64 = {"build": {"task": "mlm", "compute": "float64"}}


@pytest.fixture
def made(tmp_path):
    """A capture by name: the truth, rounded to a dtype, with a mistake added."""

    def of(name, dtype=np.float64, mistake=0.0, **changes):
        taps = {tap: (scale * BASE * (1 + mistake)).astype(dtype) for tap, scale in (("a", 1), ("b", 3))}
        taps = {tap: tensor if dtype is np.float64 else tensor.astype(np.float32) for tap, tensor in taps.items()}
        return recorded(tmp_path / name, {"forward": taps}, **changes)

    return of


def test_a_target_is_held_against_the_source_and_its_reference(made):
    truth = made("truth", **FLOAT64)
    source, half = made("source", np.float32), made("half", np.float16)
    honest, wrong = made("honest", np.float16, 1e-7), made("wrong", np.float16, 1e-2)
    alone = three_way(truth, source, honest)
    assert medians(alone).ratio_l2 > 1000  # without a reference any float16 run fails
    found = three_way(truth, source, honest, half)
    assert [one.name for one in found] == ["a", "b"]
    assert medians(found).ratio_l2 == pytest.approx(1, abs=0.1)
    assert found[0].reference_error is not None
    assert found[0].source_error.rel_l2 < 1e-7 < found[0].reference_error.rel_l2
    assert found[0].ratio_l2 == found[0].target_error.rel_l2 / found[0].reference_error.rel_l2
    assert found[0].ratio_max == found[0].target_error.max_rel / found[0].reference_error.max_rel
    assert all(one.ratio_l2 > 10 for one in three_way(truth, source, wrong, half))


def test_a_reference_that_errs_less_than_the_source_does_not_count(made):
    truth, source = made("truth", **FLOAT64), made("source", np.float16)
    precise, target = made("precise", np.float32), made("target", np.float16)
    assert {one.ratio_l2 for one in three_way(truth, source, target, precise)} == {1.0}


def test_nothing_over_nothing_is_no_error(made):
    truth = made("truth", **FLOAT64)
    exact, wrong = made("exact"), made("wrong", np.float64, 1e-3)
    assert {one.ratio_l2 for one in three_way(truth, exact, made("same"))} == {0.0}
    assert {one.ratio_l2 for one in three_way(truth, exact, wrong)} == {inf}


def test_what_is_not_finite_in_the_target_only_is_infinitely_wrong(made, tmp_path):
    truth, source = made("truth", **FLOAT64), made("source", np.float32)
    broken = {"a": BASE.astype(np.float32), "b": (3 * BASE).astype(np.float32)}
    broken["a"][0, 0] = np.nan
    found = three_way(truth, source, recorded(tmp_path / "broken", {"forward": broken}))
    assert (found[0].ratio_l2, found[0].ratio_max) == (inf, inf)
    assert found[1].ratio_l2 == 1


def test_captures_that_cannot_be_compared_are_refused(made, tmp_path):
    truth, source = made("truth", **FLOAT64), made("source", np.float32)
    with pytest.raises(UsageError, match="truth: wanted a capture computed in float64, got float32"):
        three_way(source, source, source)
    with pytest.raises(UsageError, match="batch: wanted the same in every capture, got b, other"):
        three_way(truth, source, made("other", np.float32, batch="other"))
    with pytest.raises(UsageError, match="weights: wanted the same in every capture, got other, w"):
        three_way(truth, source, made("trained", np.float32, weights="other"))
    with pytest.raises(UsageError, match="forward/a: wanted whole tensors"):
        three_way(truth, source, made("sums", np.float32, whole=False))
    stranger = recorded(tmp_path / "stranger", {"forward": {"c": np.zeros(2)}})
    assert three_way(truth, source, stranger) == ()
    with pytest.raises(UsageError, match="no tensor is in truth, source and target"):
        medians(())
