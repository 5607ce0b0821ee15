"""`porting.testing.parity` in somebody else's suite, which has a `--backend` of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from compare_support import near, save, tensors

from porting.parity.compare import compare
from porting.parity.state import Finding, Level, State
from porting.testing.parity import assert_parity

CONFTEST = """
pytest_plugins = ["porting.testing.parity"]

def pytest_addoption(parser):
    parser.addoption("--backend", default="mine")
"""

SUITE = """
from porting.testing.parity import assert_parity

def test_port(request, port_capture, port_floor, port_compare):
    assert request.config.getoption("--backend") == "theirs"
    source = port_capture("bert", "torch:cpu")
    target = port_capture("bert", "torch:cpu", forced_by=source)
    assert_parity(port_compare(source, target, floor=port_floor("bert", "torch:cpu")))

def test_without_a_floor(port_capture, port_compare):
    source = port_capture("bert", "torch:cpu")
    assert_parity(port_compare(source, port_capture("bert", "torch:cpu")))
"""


@pytest.mark.torch
def test_a_suite_with_an_option_of_its_own(pytester: pytest.Pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(SUITE)
    ran = pytester.runpytest_subprocess("--backend", "theirs", "-p", "no:cacheprovider")
    ran.assert_outcomes(passed=1, failed=1)
    ran.stdout.fnmatch_lines(["*AssertionError: bert: torch:cpu -> torch:cpu: CONDITIONAL: L*"])


@pytest.fixture
def comparison(tmp_path: Path, source, floor):
    """A comparison that passes, on an emulated device or not."""

    def make(**changes):
        return compare(source, save(tmp_path / "target", near(tensors(), 7), **changes), floor=floor)

    return make


def test_a_pass(comparison):
    assert_parity(comparison())


def test_an_emulated_pass_is_asked_for(comparison):
    found = comparison(emulated="cpu")
    with pytest.raises(AssertionError, match="a PASS that is EMULATED"):
        assert_parity(found)
    assert_parity(found, emulated=True)


@pytest.mark.parametrize("state", [state for state in State if state is not State.PASS])
def test_nothing_else_is_one(comparison, state):
    found = comparison(emulated="cpu")
    first = Finding(Level.FORWARD, "embeddings", state, "why", "forced", "relative L2", 2.0, 1e-6, "4 x 2.5e-07")
    wrong = replace(found, overall=replace(found.overall, state=state, findings=(first,)))
    with pytest.raises(AssertionError) as raised:
        assert_parity(wrong, emulated=True)
    text = f"{state}: L2 embeddings (forced): relative L2 2.00e+00, limit 1.00e-06 (4 x 2.5e-07); why"
    assert text in str(raised.value)


def test_nothing_compared_is_none(comparison):
    found = comparison()
    with pytest.raises(AssertionError, match="0 of 0 compared"):
        assert_parity(replace(found, overall=replace(found.overall, findings=(), compared=0, total=0)))
