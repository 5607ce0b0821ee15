"""Printed numbers become the values that Python reads, and tell how fine they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from porting.logs.columns import FEW, Column, Digits, Rows, converted
from porting.logs.dialect import once

NUMBERS = st.one_of(
    st.floats(allow_nan=False).map(repr),
    st.floats(0, 20).map("{:.7f}".format),
    st.floats(-1, 1).map("{:.3e}".format),
    st.integers(0, 10**15).map(str),
    st.decimals(0, 100, places=4).map(str),
    st.sampled_from(["nan", "inf", "-inf", "1e999", "-0.0", "0", ".5", "5."]),
)


@given(st.lists(NUMBERS, min_size=1, max_size=80))
def test_values_are_those_of_float_to_the_bit(tokens):
    wanted = np.array([float(token) for token in tokens])
    for form in (tokens, [token.encode() for token in tokens]):
        assert converted(form, Digits()).tobytes() == wanted.tobytes()


@given(st.lists(st.floats(0, 100).map("{:.6f}".format), min_size=FEW, max_size=80))
def test_as_many_decimals_everywhere_show_the_last_of_them(tokens):
    digits = Digits()
    converted(tokens, digits)
    assert digits.resolution == 1e-6


@given(st.lists(NUMBERS, min_size=1, max_size=80), st.integers(1, 60))
def test_the_resolution_does_not_depend_on_blocks_or_ways(tokens, cut):
    whole, parts, single = Digits(), Digits(), Digits()
    converted(tokens, whole)
    for start in range(0, len(tokens), cut):
        converted(tokens[start : start + cut], parts)
    for token in tokens:
        single.add_token(token, float(token))
    for name in ("fewest", "most", "figures"):
        assert getattr(whole, name) == getattr(parts, name) == getattr(single, name), name
    assert whole.resolution == parts.resolution == single.resolution


@pytest.mark.parametrize(
    ("tokens", "resolution"),
    [
        (["6.54", "6.50"], 0.01),
        (["12.196129", "2.5182028", "2.2136536"], 1e-6),  # eight figures: the last of the largest counts
        (["2.443476E+00"], 1e-6),
        (["1.250E-08"], 1e-11),
        (["4.55e-06", "1e-05"], 1e-7),
        (["0.000", "0.000"], 1e-3),
        (["65536", "32768"], 1.0),
        (["nan", "inf"], 0.0),
        (["nan", "0.25"], 0.01),
    ],
)
@pytest.mark.parametrize("times", [1, FEW])
def test_resolutions(tokens, resolution, times):
    digits = Digits()
    converted(tokens * times, digits)
    assert digits.resolution == resolution


def test_what_is_no_number_is_left_out_of_its_row():
    column = Column()
    assert column.add(np.arange(4), [b"1.5", b"-", b"2.5", b"1.2.3"]) == 2
    assert column.rows.tolist() == [0, 2]
    assert column.values.tolist() == [1.5, 2.5]


def test_a_file_of_noise_does_not_make_a_column_of_each_word():
    rows = Rows()
    assert sum(rows.column(f"word{i}") is not None for i in range(2000)) == 512


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([1.0, 2.0, float("nan")])), max_size=60))
def test_lines_count_unless_the_same_numbers_stand_near_before(pairs):
    steps = np.array([float(step) for step, _ in pairs])
    values = np.array([value for _, value in pairs])
    seen: set[str] = set()
    wanted = [not (repr(pair) in seen or seen.add(repr(pair))) for pair in pairs]
    assert once(steps, values).tolist() == wanted
