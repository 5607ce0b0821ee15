"""Two reports against each other."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from porting.acceptance.acceptance import Acceptance, Pace, Party, Quality, Speed
from porting.acceptance.chain import chain, overall
from porting.acceptance.regression import changes, regression_against
from porting.acceptance.trajectory import Metric
from porting.errors import FormatError
from porting.parity.state import Finding, Level, State, verdict_of, worst
from porting.report.json import report_json
from porting.report.write import write_report

PARTY = Party("a", "capture", "a")


def acceptance(state: State = State.PASS, checks: int = 3, *, emulated: bool = False, **more) -> Acceptance:
    findings = [Finding(Level.FORWARD, f"tap {n}", State.PASS) for n in range(checks - 1)]
    findings.append(Finding(Level.FORWARD, "last", state, mode="free"))
    levels = [verdict_of(level, [Finding(level, "x", State.PASS)]) for level in Level if level is not Level.FORWARD]
    levels = chain([*levels, verdict_of(Level.FORWARD, findings, emulated=emulated)])
    return Acceptance(PARTY, PARTY, levels, overall(levels, logs=False), **more)


def told(before: Acceptance, now: Acceptance) -> dict[str, str]:
    return {change.what: change.direction for change in changes(report_json(before), now)}


def test_the_same_is_no_change():
    assert told(acceptance(), acceptance()) == {}


@pytest.mark.parametrize(("before", "now"), [pair for pair in product(State, State) if pair[0] is not pair[1]])
def test_a_state_nearer_to_pass_is_better_and_any_other_worse(before, now):
    found = told(acceptance(before), acceptance(now))
    direction = "worse" if worst((before, now)) is now else "better"
    assert found["verdict"] == found["L2"] == found["L2 last (free)"] == direction


def test_less_compared_is_worse_though_the_state_is_the_same():
    assert told(acceptance(checks=300), acceptance(checks=200)) == {"L2 compared": "worse"}
    assert told(acceptance(checks=200), acceptance(checks=300)) == {"L2 compared": "other"}


def test_emulated_now_is_worse():
    assert told(acceptance(), acceptance(emulated=True)) == {"emulated": "worse"}
    assert told(acceptance(emulated=True), acceptance()) == {"emulated": "better"}


def test_numbers_are_told_and_judged_elsewhere():
    before = acceptance(
        speed=Speed(Pace(0.1), Pace(0.2)), qualities=(Quality("accuracy", Metric(0.9), Metric(0.9)),), criteria="verl"
    )
    now = replace(before, speed=Speed(Pace(0.1), Pace(0.3)), qualities=(Quality("accuracy", Metric(0.9), Metric(0.8)),))
    assert told(before, now) == {"L6 ratio": "other", "L7 accuracy": "other"}
    assert told(before, replace(before, criteria="calibrated")) == {"criteria": "other"}


def test_other_sides_are_told():
    assert told(acceptance(), replace(acceptance(), target=replace(PARTY, name="b"))) == {"target": "other"}


def test_no_speed_then_and_none_now():
    assert told(acceptance(), acceptance(speed=Speed(None, None))) == {}


def test_a_previous_report_is_read_from_its_folder_or_its_file(tmp_path):
    place = write_report(acceptance(State.FAIL), tmp_path / "report")
    for path in (place, place / "report.json"):
        found = regression_against(path, acceptance())
        assert not found.worse
        assert found.previous.path == str(place / "report.json")
        assert {change.what for change in found.changes} == {"verdict", "L2", "L2 last (free)"}


def test_a_previous_report_that_is_none(tmp_path):
    with pytest.raises(FormatError, match="cannot be read"):
        regression_against(tmp_path, acceptance())
