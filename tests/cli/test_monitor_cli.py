"""`port monitor -- COMMAND`: the command's own output and exit code, and beside them what it cost."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psutil")

Port = Callable[..., Any]


def test_a_command_keeps_its_output_its_options_and_its_exit_code(tmp_path: Path) -> None:
    code = "import sys, time; print(sys.argv[1:]); time.sleep(0.3); sys.exit(7)"
    words = ["monitor", "--period", "0.05", "-o", tmp_path / "m", "--", sys.executable, "-c", code, "--json", "-x"]
    ran = subprocess.run([sys.executable, "-m", "porting.cli", *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 7
    assert ran.stdout == "['--json', '-x']\n"
    assert "exit code 7" in ran.stderr
    usage = json.loads((tmp_path / "m" / "usage.json").read_text())
    assert usage["code"] == 7
    assert usage["devices"][0]["device"] == "host"
    assert usage["devices"][0]["power"] is None
    rows = list(csv.DictReader((tmp_path / "m" / "readings.csv").read_text().splitlines()))
    assert len(rows) == usage["devices"][0]["samples"] >= 4
    assert rows[0]["power_w"] == ""
    assert sorted(tmp_path.iterdir()) == [tmp_path / "m"]


def test_a_command_that_a_signal_ends(port: Port) -> None:
    ran = port("monitor", "--json", "--", sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")
    assert ran.code == 137
    assert json.loads(ran.err)["code"] == 137


def test_what_cannot_be_run_or_written_is_one_line(port: Port, tmp_path: Path) -> None:
    ran = port("monitor", "--", "no-such-program")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "port: error: command no-such-program: not found; write: port monitor -- COMMAND\n"
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("")
    ran = port("monitor", "-o", tmp_path / "taken", "--", "true")
    assert ran.code == 2
    assert "taken: exists already" in ran.err


def test_without_psutil_it_says_what_brings_it(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("porting.extras.find_spec", lambda _: None)
    ran = port("monitor", "--", "true")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "port: error: psutil is not installed; pip install 'porting-kit[bench]' brings it\n"
