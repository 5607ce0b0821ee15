"""What each form of a report says, for every state."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from report_support import acceptance, curve, level, party, taps

from porting.acceptance.acceptance import Speed
from porting.errors import FormatError
from porting.parity.state import Level, State
from porting.report.html import html
from porting.report.json import read_report, report_json, report_text
from porting.report.junit import junit
from porting.report.markdown import markdown
from porting.report.text import text_lines
from porting.report.words import LANGUAGES, Words
from porting.report.write import write_report

SCHEMA = json.loads(files("porting.report").joinpath("schema.json").read_text(encoding="utf-8"))
CLEAN = {"regression": None}


def whole(found) -> dict:
    """A report's values as its file has them."""
    sign_off = {"signed": False, "key": "", "by": "", "namespace": "", "statement": ""}
    return json.loads(report_text({**report_json(found), "files": {}, "sign_off": sign_off}))


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_state_stands_first_in_every_form(state, language):
    found = acceptance(level(Level.TRAJECTORY, State.PASS, state), **CLEAN)
    words = Words(language)
    assert found.state is state
    assert next(iter(text_lines(found, words))).startswith(words(state))
    assert f"**{words(state)}**" in markdown(found, words).splitlines()[2]
    assert f'<div class="verdict {state}">\n<div class="state">{words(state)}</div>' in html(found, words)
    assert whole(found)["state"] == state


@pytest.mark.parametrize("state", State)
def test_junit_is_red_whenever_the_exit_code_is(state):
    found = acceptance(level(Level.FORWARD, State.PASS, state), **CLEAN)
    root = ET.fromstring(junit(found))
    verdict = root.find("testsuite[@name='acceptance']/testcase")
    assert (verdict.find("failure") is not None) == (not found.passed) == (state is not State.PASS)
    suite = root.find("testsuite[@name='L2']")
    kind = {State.PASS: None, State.NOT_RUN: "skipped", State.CRASHED: "error"}.get(state, "failure")
    assert suite.get("tests") == "2"
    outcomes = [child.tag for case in suite for child in case]
    assert outcomes == ([kind] if kind else [])


def test_an_emulated_pass_is_skipped_in_junit_and_said_everywhere():
    emulated = [level(kind, State.PASS, emulated=True) for kind in Level]
    found = acceptance(*emulated, target=party("npu", emulated="float16 saturate"), **CLEAN)
    assert found.state is State.PASS
    assert not found.passed
    assert "EMULATED" in ET.fromstring(junit(found)).find(".//failure").get("message")
    for text in (markdown(found, Words()), "\n".join(text_lines(found, Words())), html(found, Words())):
        assert "Emulated evidence (float16 saturate)" in text


@pytest.mark.parametrize("missing", Level)
def test_a_level_that_was_not_run_is_named(missing):
    left = [level(kind, State.PASS) for kind in Level if kind is not missing]
    found = acceptance(level(missing), *left, **CLEAN)
    assert found.missing == (missing,)
    assert found.state is State.CONDITIONAL
    assert f"Not run: {missing}" in markdown(found, Words())
    assert Words("zh")("not_run_levels", levels=missing) in html(found, Words("zh"))
    assert whole(found)["missing"] == [missing]
    suite = ET.fromstring(junit(found)).find(f"testsuite[@name='{missing}']")
    assert suite.find("testcase/skipped").get("message").startswith("NOT_RUN: no ")


@pytest.mark.parametrize("calibrated", State)
@pytest.mark.parametrize("ruled", State)
def test_a_disagreement_is_said_and_the_worse_decides(calibrated, ruled):
    rule = level(Level.TRAJECTORY, ruled)
    found = acceptance(level(Level.TRAJECTORY, State.PASS, calibrated), rule=rule, criteria="mindformers", **CLEAN)
    worse = max(calibrated, ruled, key=list(State).index)
    assert found.state is worse
    assert found.passed == (calibrated is ruled is State.PASS)
    text = markdown(found, Words()).replace("\\", "")
    assert f"Calibrated verdict: {calibrated}. By the rule mindformers: {ruled}" in text
    assert ("They disagree" in text) == (calibrated is not ruled)
    assert whole(found)["disagree"] == (calibrated is not ruled)


@pytest.mark.parametrize(
    "changes",
    [{}, {"curves": ()}, {"speed": None}, {"qualities": ()}, {"counts": {}}, {"regression": None}, {"advice": ()},
     {"speed": Speed(None, None)}, {"curves": (replace(curve(), low=None, high=None, z=None, target=None),)}],
    ids=str,
)  # fmt: skip
def test_json_is_what_the_schema_says(changes):
    found = acceptance(taps(), **changes)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(whole(found), SCHEMA)
    for language in LANGUAGES:  # and what is missing breaks no form
        assert html(found, Words(language))
        assert markdown(found, Words(language))


@pytest.mark.parametrize("key", [*SCHEMA["properties"]])
def test_the_schema_wants_every_key_and_no_other(key):
    values = whole(acceptance())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({name: value for name, value in values.items() if name != key}, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**values, f"{key}_": 1}, SCHEMA)


def test_json_holds_every_step():
    found = acceptance(curves=(curve(steps=5000),))
    (one,) = whole(found)["curves"]
    assert one["source"]["steps"] == {"start": 0, "stride": 1, "count": 5000}
    assert one["source"]["values"] == found.curves[0].source.values.tolist()


def test_a_report_that_was_edited_is_refused(tmp_path):
    place = write_report(acceptance(taps()), tmp_path / "report")
    assert read_report(place)["state"] == "FAIL"
    file = place / "report.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"FAIL"', '"PASS"'), encoding="utf-8")
    with pytest.raises(FormatError, match="was changed after it was written"):
        read_report(place)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', "[" * 100_000, "\x00"])
def test_what_is_no_report_is_refused(tmp_path, text):
    file = tmp_path / "report.json"
    file.write_text(text)
    with pytest.raises(FormatError, match="is no report"):
        read_report(file)


def test_html_and_markdown_say_the_same(tmp_path):
    found = acceptance(taps())
    page, text = html(found, Words()), markdown(found, Words()).replace("\\", "")
    for told in (
        "encoder.layer.3.attention.self",
        "-0.582 points",
        "1.11",
        "versions.torch",
        "printed to 0.01",
        "a note",
    ):
        assert told in page
        assert told in text
