"""The page of a matrix as a browser shows it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from chromium import Page
from test_browser import foreign

sys.path.append(str(Path(__file__).parents[1] / "bench"))

from bench_support import giving, matrix

from porting.bench.matrix import bench

pytest.importorskip("psutil")

FULL = {"state": "out_of_memory", "reason": "CUDA out of memory", "backend": "torch:cuda", "tail": ["<b>the end</b>"]}


@pytest.mark.parametrize("width", [400, 1600])
def test_every_row_has_its_picture_and_every_cell_its_lines(page: Page, tmp_path, width):
    bench(matrix(sizes=(2, 4, 8)), tmp_path / "m", run=giving({8: FULL}, loss=[0.5, float("nan")] * 30))
    page.events.clear()
    page.size(width)
    page.open(tmp_path / "m" / "matrix.html")
    page.wait("document.body.dataset.drawn")
    assert page.value("document.querySelectorAll('td.picture svg').length") == 2
    assert page.value("document.querySelectorAll('.figure').length") == page.value("+document.body.dataset.drawn") == 2
    page.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    lines = page.value(
        "[...document.querySelectorAll('.scatterlayer .trace')].map((t) => t.querySelectorAll('.js-line').length)"
    )
    assert [count > 0 for count in lines] == [True] * 10, "loss, step time, power, utilisation, memory"
    assert page.value("[...document.querySelectorAll('.figure svg.main-svg')].every((s) => s.clientWidth > 100)")
    assert "CUDA out of memory" in page.value("document.body.innerText")
    assert "<b>the end</b>" in page.value("document.querySelector('pre').innerText")
    assert page.value("document.documentElement.scrollWidth") <= width
    assert foreign(page) == []
    assert page.complaints() == []
