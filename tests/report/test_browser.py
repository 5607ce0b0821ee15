"""The HTML as a browser shows it: headless Chromium, no network."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from chromium import Page
from report_support import acceptance, curve, level, taps
from test_hostile_report import NASTY, poisoned

from porting.acceptance.acceptance import Curve
from porting.acceptance.trajectory import Series
from porting.parity.state import Level, State
from porting.report.html import html
from porting.report.thin import BUCKETS
from porting.report.words import LANGUAGES, Words

LONG = 100_000


def opened(page: Page, path: Path, found, language: str = "en", width: int = 1600) -> None:
    """Write a report and open it, with nothing told of pages before it."""
    path.write_text(html(found, Words(language)), encoding="utf-8")
    page.events.clear()
    page.size(width)
    page.open(path)
    page.wait("document.body.dataset.drawn")


def foreign(page: Page) -> list[str]:
    """What was asked for beside the file itself and what it carries in it."""
    return [url for url in page.requests() if not url.startswith(("file:", "data:", "blob:"))]


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_complaint_no_request_and_all_curves_drawn(page, tmp_path, language, width):
    opened(page, tmp_path / "report.html", acceptance(taps()), language, width)
    lines = page.value(
        "[...document.querySelectorAll('.scatterlayer .js-line')].map((p) => p.getAttribute('d').length)"
    )
    assert len(lines) >= 2 * 6, "two curves: band, sides, difference, z; and the step times"
    assert min(lines) > 100
    assert page.value("document.querySelectorAll('.heatmaplayer image').length") == 4
    assert page.value("document.querySelectorAll('.figure').length") == page.value("+document.body.dataset.drawn")
    assert foreign(page) == []
    assert page.complaints() == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_cell_is_a_tower_of_letters(page, tmp_path, language):
    """At 400 px, with all that can be opened open, a cell of more than a word is some words wide."""
    opened(page, tmp_path / "report.html", acceptance(taps()), language, 400)
    page.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    towers = page.value(
        "[...document.querySelectorAll('td, th')].filter((cell) => cell.offsetParent && cell.clientWidth < 60"
        " && cell.innerText.trim().length > 14).map((cell) => cell.innerText)"
    )
    assert towers == []
    assert page.value("document.documentElement.scrollWidth") <= 400


@pytest.mark.parametrize("width", [400, 1600])
def test_nothing_is_wider_than_the_window_and_nothing_too_small_to_read(page, tmp_path, width):
    opened(page, tmp_path / "report.html", acceptance(taps()), width=width)
    assert page.value("document.documentElement.scrollWidth") <= width
    texts = "[...document.querySelectorAll('p, td, th, li, .chain > div')]"
    assert min(page.value(f"{texts}.map((e) => parseFloat(getComputedStyle(e).fontSize))")) >= 11
    wide = "[...document.querySelectorAll('.figure')].map((e) => e.querySelector('svg').getBoundingClientRect().width)"
    assert max(page.value(wide)) <= width
    assert min(page.value(wide)) >= 0.6 * min(width, 1180)
    shot = page.screenshot(tmp_path / "shot.png")
    assert struct.unpack(">I", shot[16:20])[0] <= width
    assert len(shot) > 50_000


def test_a_hundred_thousand_steps_are_smooth_and_small(page, tmp_path):
    path = tmp_path / "report.html"
    found = acceptance(taps(), curves=(curve(steps=LONG), curve("grad_norm", LONG, 1)))
    opened(page, path, found)
    assert path.stat().st_size < 8_000_000
    points = page.value(
        "[...document.querySelectorAll('.figure')].map((f) => Math.max(...f.data.map((d) => (d.x || []).length)))"
    )
    assert max(points) <= 3 * BUCKETS + 2
    spent = page.value("""(async () => {
      const place = document.getElementById("curve-0"), start = performance.now();
      await Plotly.relayout(place, {"xaxis.range": [50000, 50500]});
      while (!place.dataset.redrawn) await new Promise((go) => setTimeout(go, 10));
      return performance.now() - start;
    })()""")
    assert spent < 5000, "milliseconds to zoom in, unpacking included; 300 on an idle machine"
    source, target = (side.values[50_000:50_501] for side in (found.curves[0].source, found.curves[0].target))
    for name, wanted in (("Source", source), ("Target", target), ("Difference", target - source)):
        trace = f"document.getElementById('curve-0').data.find((d) => d.name === '{name}')"
        steps, values = (np.array(page.value(f"{trace}.{axis}")) for axis in "xy")
        inside = (steps >= 50_000) & (steps <= 50_500)
        assert steps[inside].tolist() == list(range(50_000, 50_501)), "zoomed in, every step is there"
        assert np.allclose(values[inside], wanted, rtol=1e-6), name
    assert page.complaints() == []


def test_irregular_steps_and_gaps_survive_zooming_in(page, tmp_path):
    steps = np.cumsum(np.random.default_rng(3).integers(1, 9, 20_000))
    values = np.linspace(9, 2, 20_000)
    values[700:710] = np.nan
    opened(page, tmp_path / "report.html", acceptance(curves=(Curve("loss", Series(steps, values), None),)))
    low, high = int(steps[690]), int(steps[720])
    page.value(f"Plotly.relayout('curve-0', {{'xaxis.range': [{low}, {high}]}}).then(() => 0)")
    page.wait("document.getElementById('curve-0').dataset.redrawn")
    shown = page.value("(() => { const d = document.getElementById('curve-0').data[0]; return [d.x, d.y]; })()")
    known = dict(zip(*shown, strict=True))
    assert [known[step] for step in steps[700:710].tolist()] == [None] * 10
    assert set(steps[690:721].tolist()) <= set(known)


@pytest.mark.parametrize("text", NASTY[:6])
def test_markup_in_names_runs_nothing(page, tmp_path, text):
    opened(page, tmp_path / "report.html", poisoned(text))
    assert page.value("document.scripts.length") == 3
    assert page.value("document.querySelectorAll('img[src=x], svg a, a[href^=javascript]').length") == 0
    assert not [e for e in page.events if e["method"] == "Page.javascriptDialogOpening"]
    assert foreign(page) == []
    assert page.complaints() == []


def test_the_policy_stops_what_would_get_through(page, tmp_path):
    """A script planted into the finished file, as if escaping had failed: the policy is a wall of its own."""
    path = tmp_path / "report.html"
    text = html(acceptance(), Words())
    planted = '<script>document.body.dataset.owned = 1</script><img src="http://example.invalid/x.png">'
    path.write_text(text.replace("</header>", f"{planted}</header>"), encoding="utf-8")
    page.events.clear()
    page.open(path)
    page.wait("document.body.dataset.drawn")
    assert page.value("document.body.dataset.owned || ''") == ""
    assert any("Content Security Policy" in text for text in page.complaints())


@pytest.mark.parametrize("width", [400, 1600])
def test_it_prints(page, tmp_path, width):
    opened(page, tmp_path / "report.html", acceptance(taps(), level(Level.TRAJECTORY, *[State.FAIL] * 30)), width=width)
    data = page.pdf(tmp_path / "report.pdf")
    assert data.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 3
    assert page.complaints() == []
    widths = json.loads(
        page.value("JSON.stringify([...document.querySelectorAll('.figure svg.main-svg')].map((s) => s.clientWidth))")
    )
    assert max(widths) <= width, "and the screen is as it was"


@pytest.mark.parametrize("width", [400, 1600])
def test_more_series_open_with_a_click_and_are_as_wide_as_the_page(page, tmp_path, width):
    more = (curve(), *(curve(f"grad_norm/layer.{n}", seed=n) for n in range(3)))
    opened(page, tmp_path / "report.html", acceptance(curves=more), width=width)
    place = "document.getElementById('curve-2').querySelector('svg')"
    page.value("document.getElementById('curve-2').closest('details').open = true")
    page.wait(f"{place}.getBoundingClientRect().width > 0")
    page.wait(f"Math.abs({place}.getBoundingClientRect().width - document.getElementById('curve-0').clientWidth) < 2")
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.complaints() == []
