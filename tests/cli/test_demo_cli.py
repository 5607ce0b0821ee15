"""`port demo`: weights there and back, then two frameworks and the report; what is not installed is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import porting.demo_parity

Port = Callable[..., Any]


@pytest.mark.torch
def test_with_frameworks_the_port_is_compared_and_reported(port: Port, tmp_path: Path) -> None:
    for module in ("torch", "mindspore", *porting.demo_parity.REPORT):
        pytest.importorskip(module)
    ran = port("demo", tmp_path / "demo")
    assert (ran.code, ran.err) == (0, "")
    assert "tensors compared, equal bit for bit" in ran.out
    assert "PASS  bert: torch:cpu -> mindspore:cpu" in ran.out
    report = json.loads((tmp_path / "demo" / "report" / "report.json").read_text())
    assert report
    assert "CONDITIONAL" in ran.out, "no training was run: no acceptance"


@pytest.mark.parametrize(
    ("absent", "said"),
    [
        ({"torch", "mindspore", "tensorflow", "jinja2"}, "parity: NOT RUN, PyTorch is not installed: pip install"),
    ],
)
def test_without_them_it_says_what_was_not_run(
    port: Port, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: set[str], said: str
) -> None:
    monkeypatch.setattr(porting.demo_parity, "find_spec", lambda name: None if name in absent else object())
    ran = port("demo", tmp_path / "demo")
    assert ran.code == 0
    assert ran.out.splitlines()[-1].startswith(said)
    assert not (tmp_path / "demo" / "parity").exists()
    ran = port("demo", tmp_path / "demo", "--json")
    assert ran.code == 2
    ran = port("demo", tmp_path / "other", "--json")
    assert json.loads(ran.out) == {"proved": True, "compared": 92, "differing": [], "parity": None}
