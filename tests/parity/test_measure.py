"""Measures against what a naive float64 calculation of the same definitions gives."""

from __future__ import annotations

from math import inf, isnan, nan
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from porting.parity import measure
from porting.parity.capture import Summary
from porting.parity.deviation import Deviation
from porting.parity.measure import deviation, estimate

Array = np.ndarray[Any, np.dtype[Any]]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def naive(source: Array, target: Array) -> dict[str, Any]:
    """The definitions of Deviation, written down without regard to speed."""
    s, t = source.astype(np.float64).ravel(), target.astype(np.float64).ravel()
    good = np.isfinite(s) & np.isfinite(t)
    a, b = s[good], t[good]
    d = np.abs(b - a)
    norm = [float(np.sqrt(np.sum(x**2))) for x in (a, b, b - a)]
    scale = float(np.abs(a).max(initial=0.0))
    return {
        "rel_l2": norm[2] / norm[0] if norm[0] else (inf if norm[2] else 0.0),
        "norm_ratio": norm[1] / norm[0] if norm[0] else (inf if norm[1] else 1.0),
        "max_abs": float(d.max(initial=0.0)),
        "max_rel": float(d.max(initial=0.0)) / scale if scale else (inf if d.any() else 0.0),
        "mean_rel": (float(d.mean()) if d.size else 0.0) / scale if scale else (inf if d.any() else 0.0),
        "nan": (int(np.isnan(s).sum()), int(np.isnan(t).sum())),
        "inf": (int(np.isinf(s).sum()), int(np.isinf(t).sum())),
        "unlike": int((~good & ~((s == t) | (np.isnan(s) & np.isnan(t)))).sum()),
    }


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Array, Array]:
    """Two arrays of one shape; the second is another draw or near the first; sometimes with NaN and infinities."""
    kind = draw(st.sampled_from([np.dtype("f4"), np.dtype("f8"), np.dtype("f2"), BFLOAT16, np.dtype("i4")]))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1e-30, 1.0, 1e4])) if kind.itemsize >= 4 else 1.0
    a, b, other = (np.asarray(rng.standard_normal(shape) * scale) for _ in range(3))
    b = np.asarray(a * (1 + 1e-3 * b) if draw(st.booleans()) else other)
    if kind.kind != "i" and draw(st.booleans()):
        for side in (a, b):
            side[rng.random(shape) < 0.2] = draw(st.sampled_from([nan, inf, -inf]))
    with np.errstate(invalid="ignore"):
        return np.asarray(a).astype(kind), np.asarray(b).astype(kind)


@settings(deadline=None, max_examples=200)
@given(pairs(), st.sampled_from([7, 64, measure.PIECE]))
def test_all_measures_are_those_of_the_naive_calculation(pair: tuple[Array, Array], piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "PIECE", piece)
        found = deviation(*pair)
    for name, wanted in naive(*pair).items():
        assert getattr(found, name) == pytest.approx(wanted, rel=1e-12, nan_ok=True), name
    assert found.elements == pair[0].size
    assert found.bitwise == (pair[0].tobytes() == pair[1].tobytes())


@settings(deadline=None, max_examples=100)
@given(pairs())
def test_the_core_measures_are_the_same_without_the_others(pair: tuple[Array, Array]) -> None:
    core, every = deviation(*pair, measures="core"), deviation(*pair)
    for name in ("rel_l2", "norm_ratio", "max_abs", "max_rel", "nan", "inf", "unlike", "bitwise", "worst"):
        assert getattr(core, name) == getattr(every, name) or name == "worst"
    assert (core.mean_rel, core.p95_rel, core.max_ulp, core.kl_mean) == (None,) * 4


@settings(deadline=None, max_examples=100)
@given(pairs())
def test_the_worst_place_is_one_of_the_largest_difference(pair: tuple[Array, Array]) -> None:
    source, target = pair
    found = deviation(source, target)
    if not (np.isfinite(source.astype(float)) & np.isfinite(target.astype(float))).any():
        assert found.worst is None
        return
    assert found.worst is not None
    index, a, b = found.worst
    assert (a, b) == (float(source[index]), float(target[index]))
    assert abs(b - a) == found.max_abs


@settings(deadline=None, max_examples=100)
@given(pairs())
def test_p95_is_the_quantile_of_its_definition_and_never_below(pair: tuple[Array, Array]) -> None:
    source, target = (side.astype(np.float64).ravel() for side in pair)
    good = np.isfinite(source) & np.isfinite(target)
    scale = np.abs(source[good]).max(initial=0.0)
    if not scale:
        return
    apart = np.sort(np.abs(target[good] - source[good]))
    wanted = apart[int(np.ceil(0.95 * apart.size)) - 1] / scale
    found = deviation(*pair).p95_rel
    assert found is not None
    if apart.max() < 1e38:
        assert wanted * (1 - 1e-6) - 2e-40 / scale <= found <= wanted * 1.016 + 2e-40 / scale


def test_ulps_count_the_numbers_between() -> None:
    for kind in ("f2", "f4", "f8"):
        one = np.ones(3, kind)
        two = np.nextafter(one, np.array([2, 1, 0], kind))
        found = deviation(one, two)
        assert (found.max_ulp, found.mean_ulp) == (1, pytest.approx(2 / 3))
    zero = np.zeros(1, np.float32)
    assert deviation(zero, -zero).max_ulp == 0
    tiny = np.nextafter(zero, zero + 1)
    assert deviation(-tiny, tiny).max_ulp == 2
    assert deviation(np.float32([1]), np.float16([1])).max_ulp is None
    assert deviation(np.array([1]), np.array([2])).max_ulp is None
    bf = np.array([1.0], BFLOAT16)
    assert deviation(bf, np.array([1.0078125], BFLOAT16)).max_ulp == 1
    assert deviation(np.array([-1.7e308]), np.array([1.7e308])).max_ulp == pytest.approx(1.8e19, rel=0.03)


def test_kl_is_that_of_the_softmaxes() -> None:
    rng = np.random.default_rng(3)
    source = rng.standard_normal((50, 11)).astype(np.float32)
    target = source + 0.1 * rng.standard_normal((50, 11)).astype(np.float32)
    p = np.exp(source.astype(float)) / np.exp(source.astype(float)).sum(1, keepdims=True)
    q = np.exp(target.astype(float)) / np.exp(target.astype(float)).sum(1, keepdims=True)
    rows = (p * np.log(p / q)).sum(1)
    found = deviation(source, target, logits=True)
    assert found.kl_mean == pytest.approx(rows.mean(), rel=1e-10)
    assert found.kl_p95 == pytest.approx(np.quantile(rows, 0.95), rel=1e-10)
    assert deviation(source, source + 5, logits=True).kl_mean == pytest.approx(0, abs=1e-12)
    assert deviation(source, target).kl_mean is None
    assert deviation(np.float32(1), np.float32(2), logits=True).kl_mean is None


def test_rows_of_logits_longer_than_a_piece_are_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    source, target = rng.standard_normal((2, 3, 31)), rng.standard_normal((2, 3, 31))
    whole = deviation(source, target, logits=True)
    monkeypatch.setattr(measure, "PIECE", 8)
    assert deviation(source, target, logits=True).kl_mean == pytest.approx(whole.kl_mean)


@pytest.mark.parametrize(
    ("source", "target", "rel_l2", "ratio"),
    [([0, 0], [0, 0], 0, 1), ([0, 0], [0, 1], inf, inf), ([1, 0], [0, 0], 1, 0), ([], [], 0, 1)],
)
def test_zeros_and_nothing(source: list[float], target: list[float], rel_l2: float, ratio: float) -> None:
    found = deviation(np.array(source, np.float32), np.array(target, np.float32))
    assert (found.rel_l2, found.norm_ratio) == (rel_l2, ratio)
    assert isnan(found.cosine or 0.0) or not any(source) or not any(target) or found.cosine == 1


def test_minus_zero_is_not_bitwise_zero() -> None:
    found = deviation(np.zeros(3), -np.zeros(3))
    assert not found.bitwise
    assert found.rel_l2 == 0


def test_places_of_nan_count_though_their_number_is_equal() -> None:
    found = deviation(np.array([nan, 1.0, inf]), np.array([1.0, nan, inf]))
    assert (found.nan, found.inf, found.unlike) == ((1, 1), (1, 1), 2)
    assert deviation(np.array([inf]), np.array([-inf])).unlike == 1


def test_large_whole_numbers_that_differ_are_not_bitwise_equal() -> None:
    assert not deviation(np.array([2**60]), np.array([2**60 + 1])).bitwise


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        deviation(np.zeros(3), np.zeros((3, 1)))


def test_pieces_are_shown_before_they_are_measured() -> None:
    seen: list[int] = []
    data = np.arange(300_000, dtype=np.float32)
    deviation(data, data, seen=lambda one, two: seen.append(one.size + two.size))
    assert sum(seen) == 600_000
    assert max(seen) <= 2 * measure.PIECE


def summary(array: Array, **changes: Any) -> Summary:
    from porting.parity.summarise import summarise

    made = summarise("forward", "x", array, sketch=True, out=lambda _: None)
    return made if not changes else Summary(**{f: getattr(made, f) for f in made.__slots__} | changes)


def test_an_estimate_is_near_the_measure_and_says_that_it_is_one() -> None:
    rng = np.random.default_rng(5)
    source = rng.standard_normal((64, 768)).astype(np.float32)
    target = source + 1e-3 * rng.standard_normal(source.shape).astype(np.float32)
    found, wanted = estimate(summary(source), summary(target)), deviation(source, target)
    assert found.estimated
    assert found.rel_l2 == pytest.approx(wanted.rel_l2, rel=0.1)  # 4 standard errors of 2.2 %
    assert found.norm_ratio == pytest.approx(wanted.norm_ratio, rel=1e-9)
    assert (found.max_abs, found.max_rel, found.worst) == (None, None, None)


def test_equal_hashes_are_a_fact_and_no_estimate() -> None:
    data = np.arange(10, dtype=np.float32)
    found = estimate(summary(data), summary(data.copy()))
    assert found == Deviation(10, 0.0, 1.0, max_abs=0.0, max_rel=0.0, bitwise=True)


def test_an_estimate_wants_sketches_of_one_shape() -> None:
    data = np.arange(10, dtype=np.float32)
    with pytest.raises(ValueError, match="one shape"):
        estimate(summary(data), summary(data.reshape(2, 5)))
    with pytest.raises(ValueError, match="1021"):
        estimate(summary(data), summary(data + 1, sketch=""))


def test_p95_of_a_large_tensor_is_that_of_all_columns() -> None:
    """Only some elements are counted; where one column in 16 is off, 5 % of all elements are still found."""
    source = np.ones((8192, 64), np.float32)
    target = source.copy()
    target[:, ::16] += 0.25  # 6.25 %
    assert deviation(source, target).p95_rel == pytest.approx(0.25, rel=0.02)
    target[:, ::16] = 1
    target[:, ::32] += 0.25  # 3.1 %
    assert deviation(source, target).p95_rel == 0


@settings(deadline=None, max_examples=100)
@given(pairs())
def test_the_cosine_is_that_of_the_vectors_in_core_and_in_all(pair: tuple[Array, Array]) -> None:
    s, t = (np.asarray(side, np.float64).ravel() for side in pair)
    good = np.isfinite(s) & np.isfinite(t)
    s, t = s[good], t[good]
    size = float(np.sqrt(s @ s) * np.sqrt(t @ t))
    core, every = deviation(*pair, measures="core").cosine, deviation(*pair).cosine
    assert core == pytest.approx(every, nan_ok=True)
    # From squares: the error is float64's of the larger square, over the product of norms at most 1e6 apart.
    assert core == pytest.approx(s @ t / size if size else nan, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(("factor", "known"), [(1e5, True), (1e7, False), (1e-7, False)])
def test_no_cosine_of_norms_that_are_too_far_apart(factor: float, known: bool) -> None:
    values = np.random.default_rng(0).standard_normal(1000)
    found = deviation(values, values * factor).cosine
    assert found == pytest.approx(1.0, abs=1e-9) if known else isnan(found or 0.0)


def test_the_mean_ulp_of_a_large_tensor_is_that_of_all_and_the_largest_is_missed_nowhere() -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform(1, 2, 2 * measure.PIECE).astype(np.float32)
    steps = rng.integers(0, 9, a.size).astype(np.int32)
    steps[1] = 1000
    found = deviation(a, (a.view(np.int32) + steps).view(np.float32))
    # 75,000 of the numbers 0 to 8, whose standard deviation is 2.6: five standard errors.
    assert found.mean_ulp == pytest.approx(steps.mean(), abs=0.05)
    assert found.max_ulp == 1000
