"""Thresholds: where they come from, and which side of them a deviation falls on."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from porting.parity.capture import Manifest, Section, Summary
from porting.parity.criteria import APART_L2, APART_MAX, HONEST, Criterion, precision_of, section_floor, typical
from porting.parity.deviation import Deviation
from porting.parity.deviations import Compared
from porting.parity.floor import Entry, Floor
from porting.parity.pairs import Pair
from porting.parity.state import Finding, State
from porting.parity.truth import ThreeWay

EXACT = Deviation(1000, 0.0, 1.0, max_abs=0.0, max_rel=0.0)
UNIT = Summary("forward", "x", (1000,), "float32", "h", l2=100.0, largest=10.0, mean=0.0, stored=True)
ENTRY = Entry(7e-7, 1e-6, "replicas", "tensor", norm=100.0, scale=10.0)


def floor(**entries: Entry) -> Floor:
    known = {tuple(key.split("__")): entry for key, entry in (entries or {"forward__x": ENTRY}).items()}
    return Floor("m", {}, {}, "w", "b", None, "torch:cpu", (1, 2), False, known)  # type: ignore[arg-type]


def found(rel_l2: float, max_rel: float | None = None, **changes: Any) -> Deviation:
    """A deviation from UNIT."""
    largest = rel_l2 if max_rel is None else max_rel
    return replace(EXACT, rel_l2=rel_l2, l2=100 * rel_l2, max_rel=largest, max_abs=10 * largest, **changes)


def judge(
    deviation: Deviation | None, criterion: Criterion, *, section: Section = "forward", summary: Summary = UNIT
) -> Finding:
    side = replace(summary, section=section)
    return criterion.judge(Compared(Pair(section, side.name, side, replace(side, hash="other")), deviation))


@pytest.mark.parametrize(
    ("rel_l2", "max_rel", "state", "measure"),
    [
        (7e-7, 1e-6, State.PASS, "relative L2"),
        (APART_L2 * 7e-7 * 0.999, 1e-6, State.PASS, "relative L2"),
        (APART_L2 * 7e-7 * 1.001, 1e-6, State.FAIL, "relative L2"),
        (7e-7, APART_MAX * 1e-6 * 0.999, State.PASS, "max/scale"),
        (7e-7, APART_MAX * 1e-6 * 1.001, State.FAIL, "max/scale"),
        (nan, 1e-6, State.FAIL, "relative L2"),
        (inf, 1e-6, State.FAIL, "relative L2"),
    ],
)
def test_a_floor_times_its_factor_decides(rel_l2: float, max_rel: float, state: State, measure: str) -> None:
    made = judge(found(rel_l2, max_rel), Criterion(floor(), ""))
    assert (made.state, made.measure) == (state, measure)
    factor = {"relative L2": "4 x 7e-07", "max/scale": "6 x 1e-06"}[measure]
    assert made.source == f"{factor} (replicas)"
    assert made.state is State.PASS or made.source in made.reason


def test_the_factors_are_those_of_the_three_way_rule() -> None:
    """PARITY.md: at most 3 (L2) and 5 (max) times the source's own error, and the floor is at least that error."""
    assert (APART_L2, APART_MAX) == (1 + 3, 1 + 5)
    assert pytest.approx(8.8e-7) == HONEST * 2**-23


def test_without_a_floor_nothing_passes_but_equal_bits() -> None:
    criterion = Criterion()
    assert judge(found(1e-9), criterion).state is State.CONDITIONAL
    assert judge(found(1e-9), criterion).reason == "no floor was measured"
    assert judge(found(0.0), criterion).state is State.CONDITIONAL
    assert judge(found(3e-4), criterion).state is State.FAIL
    assert "epsilons of float32" in judge(found(3e-4), criterion).source
    assert judge(replace(EXACT, bitwise=True), criterion).state is State.PASS


def test_a_tensor_that_the_floor_does_not_know_is_conditional() -> None:
    made = judge(found(1e-9), Criterion(floor(forward__other=ENTRY), ""))
    assert (made.state, made.reason) == (State.CONDITIONAL, "its floor was not measured")


def test_an_estimate_is_conditional_because_its_largest_element_is_unknown() -> None:
    estimate = Deviation(1000, 7e-7, 1.0, l2=7e-5, estimated=True)
    made = judge(estimate, Criterion(floor(), ""))
    assert made.state is State.CONDITIONAL
    assert "only summarised" in made.reason
    assert judge(replace(estimate, rel_l2=1e-3, l2=0.1), Criterion(floor(), "")).state is State.FAIL


@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        ({"nan": (0, 3), "unlike": 3}, State.FAIL, "3 NaN (target), 0 NaN (source)"),
        ({"nan": (3, 0), "unlike": 3}, State.FAIL, "0 NaN (target), 3 NaN (source)"),
        ({"inf": (0, 1), "unlike": 1}, State.FAIL, "1 inf (target), 0 inf (source)"),
        ({"inf": (1, 1), "unlike": 2}, State.FAIL, "1 inf (target), 1 inf (source)"),
        ({"nan": (2, 2)}, State.CONDITIONAL, "2 NaN (target), 2 NaN (source): in the same places"),
        ({"inf": (2, 2)}, State.PASS, ""),
        ({"inf": (2, 2), "estimated": True}, State.CONDITIONAL, "whether in the same places was not recorded"),
        ({"nan": (0, 1), "estimated": True}, State.FAIL, "1 NaN (target), 0 NaN (source)"),
    ],
)
def test_what_is_not_finite(changes: dict[str, Any], state: State, reason: str) -> None:
    made = judge(found(1e-9, **changes), Criterion(floor(), ""))
    assert made.state is state
    assert reason in made.reason


def test_a_gradient_of_nothing_but_rounding_is_held_against_its_section() -> None:
    noise = replace(UNIT, section="gradients", l2=1e-7, largest=1e-8)
    deviation = Deviation(1000, 1.4, 1.0, l2=1.4e-7, max_abs=1e-8, max_rel=1.0)
    by_floor = floor(gradients__x=Entry(1e-6, 1e-6, "replicas", "section", norm=1.0, scale=0.1))
    made = judge(deviation, Criterion(by_floor, ""), section="gradients", summary=noise)
    assert (made.state, made.value) == (State.PASS, pytest.approx(1.4e-7))
    assert made.source.endswith("(replicas, of its section)")
    scales = {"gradients": (0.01, 0.1)}
    made = judge(deviation, Criterion(typical=scales), section="gradients", summary=noise)
    assert made.state is State.CONDITIONAL
    assert "of its section" in made.source
    wrong = replace(deviation, l2=1e-2, max_abs=1e-2)
    assert judge(wrong, Criterion(typical=scales), section="gradients", summary=noise).state is State.FAIL
    assert judge(wrong, Criterion(by_floor, ""), section="gradients", summary=noise).state is State.FAIL


def test_a_tap_is_never_held_against_its_section() -> None:
    small = replace(UNIT, l2=1e-7, largest=1e-8)
    made = judge(found(1.0), Criterion(typical={"forward": (0.01, 0.1)}), summary=small)
    assert made.state is State.FAIL


def test_few_elements_have_at_least_the_floor_of_their_section() -> None:
    scalar = replace(UNIT, shape=(), l2=3.0, largest=3.0)
    lucky = Entry(6e-8, 6e-8, "rounding", "tensor", norm=3.0, scale=3.0)
    known = floor(forward__x=lucky, forward__a=ENTRY, forward__b=ENTRY)
    deviation = Deviation(1, 5e-7, 1.0, l2=1.5e-6, max_abs=1.5e-6, max_rel=5e-7)
    made = judge(deviation, Criterion(known, ""), summary=scalar)
    assert made.state is State.PASS
    assert "median of its section" in made.source
    many = judge(replace(deviation, elements=16), Criterion(known, ""), summary=scalar)
    assert many.state is State.FAIL


@pytest.mark.parametrize(
    ("section", "shape", "state"),
    [
        ("gradients", (1000,), State.PASS),
        ("step.m", (1000,), State.PASS),
        ("gradients", (10, 100), State.FAIL),
        ("forward", (1000,), State.FAIL),
    ],
)
def test_a_sum_over_tokens_has_at_least_the_floor_of_its_section(
    section: Section, shape: tuple[int, ...], state: State
) -> None:
    lucky = replace(ENTRY, rel_l2=6e-8, max_rel=6e-8)
    others = {f"{section}__{name}": ENTRY for name in "ab"}
    criterion = Criterion(floor(**{f"{section}__x": lucky}, **others), "")
    made = judge(found(3.2e-7), criterion, section=section, summary=replace(UNIT, shape=shape))
    assert made.state is state
    assert ("it is a sum over tokens" in made.source) == (state is State.PASS)


def test_the_change_of_a_weight_is_held_against_the_weight() -> None:
    """Its floor is measured on the weight after the step: in absolute terms the two are one."""
    known = floor(**{"step.weights__x": Entry(1e-7, 1e-7, "replicas", "tensor", norm=100.0, scale=10.0)})
    change = Deviation(1000, 1e-2, 1.0, l2=1e-5, max_abs=1e-6, max_rel=1e-2)
    made = judge(change, Criterion(known, ""), section="step.weights")
    assert (made.state, made.what, made.value) == (State.PASS, "step.weights/x", pytest.approx(1e-7))
    assert judge(replace(change, l2=1e-3), Criterion(known, ""), section="step.weights").state is State.FAIL


def test_weights_must_be_the_same_bits() -> None:
    criterion = Criterion(floor(weights__x=ENTRY), "")
    assert judge(replace(EXACT, bitwise=True), criterion, section="weights").state is State.PASS
    assert judge(found(1e-12), criterion, section="weights").state is State.FAIL
    other = Pair("weights", "x", UNIT, replace(UNIT, dtype="float64"))
    made = criterion.judge(Compared(other, EXACT))
    assert (made.state, made.reason) == (State.CONDITIONAL, "equal values, as float32 and float64")


def test_whole_numbers_must_be_the_same_bits() -> None:
    made = judge(found(1e-12), Criterion(floor(), ""), summary=replace(UNIT, dtype="int32"))
    assert (made.state, made.reason) == (State.FAIL, "not the same bits")


def way(l2: float, largest: float, reference: float | None = 1e-3) -> ThreeWay:
    error = None if reference is None else found(reference)
    return ThreeWay("forward", "x", found(1e-7), found(1e-3), error, l2, largest)


@pytest.mark.parametrize(
    ("l2", "largest", "state"),
    [(1.4, 2, State.PASS), (2.9, 4.9, State.PASS), (3.1, 2, State.FAIL), (1, 5.1, State.FAIL), (inf, 1, State.FAIL)],
)
def test_lower_precision_is_judged_by_its_error_against_float64(l2: float, largest: float, state: State) -> None:
    criterion = Criterion(None, "", "float16", {("forward", "x"): way(l2, largest)})
    made = judge(found(1e-3), criterion)
    assert made.state is state
    assert "three-way" in made.source


def test_without_the_source_at_that_precision_there_is_no_three_way() -> None:
    criterion = Criterion(None, "", "float16", {("forward", "x"): way(1.0, 1.0, None)})
    assert judge(found(1e-3), criterion).state is State.CONDITIONAL


def test_a_forced_tap_of_lower_precision_is_held_against_the_sources_error_there() -> None:
    criterion = Criterion(None, "", "float16", {("forward", "x"): way(1.0, 1.0)})
    assert judge(found(3.9e-3), criterion, section="forced").state is State.PASS
    assert judge(found(7e-3), criterion, section="forced").state is State.FAIL


def test_the_median_catches_what_each_tap_alone_does_not() -> None:
    ways = {("forward", name): way(2.0, 2.0) for name in "abc"}
    criterion = Criterion(None, "", "float16", ways)
    pairs = [Pair("forward", name, replace(UNIT, name=name), replace(UNIT, name=name)) for name in "abc"]
    (made,) = criterion.medians(Compared(pair, found(1e-3)) for pair in pairs)
    assert (made.state, made.value, made.limit) == (State.FAIL, 2.0, 1.5)
    good = Criterion(None, "", "float16", {("forward", name): way(1.4, 1.4) for name in "abc"})
    (made,) = good.medians(Compared(pair, found(1e-3)) for pair in pairs)
    assert made.state is State.PASS


def test_precision_is_the_coarsest_of_both_sides() -> None:
    def side(compute: str, emulated: str = "") -> Manifest:
        return Manifest("m", {}, {"compute": compute}, "b", "f", "d", emulated=emulated)

    assert precision_of(side("float32"), side("float32")) == "float32"
    assert precision_of(side("float32"), side("bfloat16")) == "bfloat16"
    assert precision_of(side("float32"), side("float32", "float16 saturate")) == "float16"
    assert precision_of(side("float32"), side("float32", "HF32")) == "hf32"
    assert precision_of(Manifest("m", {}, {}, "b", "f", "d")) == "float32"


def test_scales_of_sections_leave_zeros_out() -> None:
    rows = [replace(UNIT, name=str(i), l2=l2, largest=l2) for i, l2 in enumerate((0.0, 1.0, 2.0, 30.0))]
    assert typical(rows) == {"forward": (pytest.approx(2 / 1000**0.5), 2.0)}
    assert section_floor(floor(), "gradients") == (0.0, 0.0)
