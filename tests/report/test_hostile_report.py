"""Names and values that a hostile log may hold: they are shown, and do nothing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from report_support import acceptance, curve, level, party

from porting.acceptance.acceptance import Advice, Change, Curve, Quality, Regression
from porting.acceptance.trajectory import Input, Metric, Series
from porting.parity.settings import Difference
from porting.parity.state import Finding, Level, State, verdict_of
from porting.report.html import html
from porting.report.json import report_json
from porting.report.junit import junit
from porting.report.markdown import markdown
from porting.report.text import text_lines
from porting.report.words import Words

NASTY = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "<!--<script>",
    "{{ 7*7 }}{% raw %}",
    "javascript:alert(4)",
    "<a href='javascript:alert(5)'>x</a>",
    "\u202egnp.exe\u2028\u0000\x1b[2J",
    "|x|\n\n# head\n```",
    "]]>&lt;",
    "%{customdata}",
    "`</code><script>alert(6)</script>`",
)


def poisoned(text: str):
    """An acceptance in which every text of the data is the same."""
    findings = [
        Finding(kind, text, State.FAIL, text, mode, text, 3e-4, 1e-6, text)
        for kind in Level
        for mode in ("", "free", "forced", text)
    ]
    levels = [verdict_of(kind, [one for one in findings if one.level is kind]) for kind in Level]
    side = party(
        text, name=text, environment={text: text, f"{text} 2": "x"}, limits=(text,), notes=(text,), emulated=text,
        inputs=(Input(text, 1, "xxh3_128:" + "0" * 32),),
    )  # fmt: skip
    return acceptance(
        *levels,
        source=side, target=side,
        criteria=text, rule=level(Level.FORWARD, State.PASS),
        curves=(Curve(text, curve().source, curve().target),),
        qualities=(Quality(text, Metric(0.5), Metric(0.4)),),
        differences=(Difference(text, text, f"{text} 2"),),
        counts={text: (1, 2)}, notes=(text,), advice=(Advice("module", Level.FORWARD, {"first": text}),),
        regression=Regression(Input(text, 1, "xxh3_128:" + "0" * 32), (Change(text, text, text, "worse"),)),
        made=text, kit=text,
    )  # fmt: skip


class Parsed(HTMLParser):
    """Tags and attributes as a browser reads them."""

    def __init__(self):
        super().__init__()
        self.tags: dict[str, int] = {}
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes += attrs


@pytest.mark.parametrize("text", NASTY)
def test_html_has_the_tags_of_a_clean_report_and_no_others(text):
    parsed, clean = Parsed(), Parsed()
    parsed.feed(html(poisoned(text), Words()))
    clean.feed(html(poisoned("clean"), Words()))
    assert {**parsed.tags, "code": 0} == {**clean.tags, "code": 0}, "what stands between backticks is set as code"
    assert parsed.tags["script"] == 3
    assert not [name for name, _ in parsed.attributes if name.startswith("on") or name in ("src", "href")]


@pytest.mark.parametrize("text", NASTY)
def test_the_figures_stay_json_inside_their_element(text):
    page = html(poisoned(text), Words())
    block = page.split('id="figures">')[1].split("</script>")[0]
    assert not re.search(r"[<>&]", block)
    figures = json.loads(block)
    texts = [piece for figure in figures for row in figure["data"][0].get("text", []) for piece in row]
    assert texts
    assert all("<script" not in piece.replace("&lt;", "_") for piece in texts)
    assert all(re.sub(r"<br>", "", piece).count("<") == 0 for piece in texts), "Plotly reads a little HTML"


@pytest.mark.parametrize("text", NASTY)
def test_markdown_has_no_html_and_as_many_lines_as_a_clean_report(text):
    made, clean = markdown(poisoned(text), Words()), markdown(poisoned("clean"), Words())
    assert "<" not in made
    assert len(made.splitlines()) == len(clean.splitlines())
    bars = [[len(re.findall(r"(?<!\\)\|", line)) for line in page.splitlines()] for page in (made, clean)]
    assert bars[0] == bars[1], "a table's columns are its own"


@pytest.mark.parametrize("text", NASTY)
def test_junit_and_terminal_take_it(text):
    root = ET.fromstring(junit(poisoned(text)))
    assert len(root.findall(".//testcase")) > 32
    lines = list(text_lines(poisoned(text), Words()))
    assert all(line.isprintable() for line in lines)


def test_numbers_beyond_all_numbers():
    steps = np.arange(6)
    values = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, 0.0])
    odd = Curve("loss", Series(steps, values), Series(steps, values[::-1]))
    found = acceptance(curves=(odd, Curve("x", Series(steps[:0], values[:0]), None)), speed=None)
    json.dumps(report_json(found), allow_nan=False)
    assert "1e+308" in markdown(found, Words())
    assert "NaN" not in html(found, Words()).split('id="figures">')[1].split("</script>")[0]


def test_a_name_of_a_million_characters_is_cut():
    name = "x" * 1_000_000
    assert len(markdown(poisoned(name), Words())) < 2_000_000
    assert all(len(line) < 30_000 for line in text_lines(poisoned(name), Words()))
