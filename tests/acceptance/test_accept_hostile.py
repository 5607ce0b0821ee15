"""Logs that mean harm, or are only broken: from the file to the page."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from accept_support import descent, estimator

SCRIPT = "<script>alert(1)</script>"


class Scripts(HTMLParser):
    """Counts script elements, and attributes that run something."""

    def __init__(self):
        super().__init__()
        self.scripts = 0
        self.handlers: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name in ("src", "href")]


def trainer(**extra) -> str:
    """Lines of the HF Trainer with more in them."""
    rows = [{"loss": loss, **extra, "epoch": step / 10} for step, loss in list(descent(30).items())]
    return "".join(f"{row}\n" for row in rows)


LOGS = {
    "markup in names": trainer(**{SCRIPT: 1.0, '"><img src=x onerror=alert(2)>': 2.0}),
    "numbers beyond all": trainer().replace("'loss': 2.", "'loss': 1e999, 'x': -1e999, 'y': 2."),
    "a csv with markup": "step,loss," + SCRIPT + "\n" + "".join(f"{n},{9 - n / 10},1\n" for n in range(30)),
    "steps going backwards": "".join(f"INFO:tensorflow:loss = {9 - n / 10}, step = {30 - n}\n" for n in range(30)),
    "one step again and again": "INFO:tensorflow:loss = 1.0, step = 7\n" * 100,
    "not finite at all": "".join(f"INFO:tensorflow:loss = nan, step = {n}\n" for n in range(30)),
    "control characters": trainer().replace("'epoch'", "'\x1b[2J\u202e', 'epoch'"),
    "a long line": trainer() + "x" * 5_000_000 + "\n" + trainer(),
    "binary between": trainer() + bytes(range(256)).decode("latin-1") + "\n" + trainer(),
    "a torn last line": "".join(f"INFO:tensorflow:loss = {9 - n / 10}, step = {n}\n" for n in range(30)) + "INFO:tens",
}  # fmt: skip


@pytest.mark.parametrize("name", LOGS)
def test_a_hostile_log_neither_breaks_the_report_nor_gets_into_it(port, tmp_path, name):
    source = estimator(tmp_path / "good.log", descent(30))
    target = tmp_path / "bad <img src=x onerror=alert(3)>.log"
    target.write_text(LOGS[name], encoding="utf-8")
    ran = port("accept", "--source", source, "--target", target, "-o", tmp_path / "report")
    if ran.code == 2:  # no run can be told from it: said in a line
        assert len(ran.err.splitlines()) == 1
        assert not (tmp_path / "report").exists()
        return
    assert ran.code == 1, ran.err
    assert "\x1b" not in ran.out
    page = Scripts()
    page.feed((tmp_path / "report/report.html").read_text(encoding="utf-8"))
    assert (page.scripts, page.handlers) == (3, [])
    assert "<" not in (tmp_path / "report/report.md").read_text(encoding="utf-8")
    json.loads((tmp_path / "report/report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert port("verify", tmp_path / "report").code == 0


@pytest.mark.parametrize("name", ["markup in names", "not finite at all", "a torn last line"])
def test_these_are_read_all_the_same(port, tmp_path, name):
    source = estimator(tmp_path / "good.log", descent(30))
    target = tmp_path / "bad.log"
    target.write_text(LOGS[name], encoding="utf-8")
    assert port("accept", "--source", source, "--target", target, "-o", tmp_path / "report").code == 1
