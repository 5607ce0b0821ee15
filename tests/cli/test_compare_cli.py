"""`port compare`: exit codes, JSON, plain text in a pipe, one line for what cannot be compared."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from porting.parity.capture import Manifest
from porting.parity.floor import floor_of
from porting.parity.floor_file import write_floor
from porting.parity.reader import read_capture
from porting.parity.writer import CaptureWriter

Port = Callable[..., Any]

MANIFEST = Manifest("bert", {}, {"compute": "float32"}, "torch:cpu", "pytorch", "cpu", weights="w", batch="b")
TAPS = {f"layer.{i}.output": np.random.default_rng(i).standard_normal((4, 32)).astype(np.float32) for i in range(3)}


def save(folder: Path, factor: float = 1.0, noise: int = 0, **changes: Any) -> Path:
    """A capture of three taps; the last one is multiplied by `factor`, and noise is added to all."""
    with CaptureWriter(folder, MANIFEST, whole=True) as writer:
        for i, (name, value) in enumerate(TAPS.items()):
            rounded = 3e-7 * np.random.default_rng([noise, i]).standard_normal(value.shape) if noise else 0
            writer.add("forward", name, (value * (factor if i == 2 else 1) + rounded).astype(np.float32))
        return writer.finish(taps=tuple(TAPS), **changes)


@pytest.fixture
def floor(tmp_path: Path) -> Path:
    replicas = [read_capture(save(tmp_path / f"r{seed}", noise=seed, replica=seed)) for seed in (1, 2)]
    source = read_capture(save(tmp_path / "for-floor"))
    write_floor(tmp_path / "floor.json", floor_of(source, replicas, None))
    return tmp_path / "floor.json"


def test_a_pass_is_0(port: Port, tmp_path: Path, floor: Path) -> None:
    ran = port("compare", save(tmp_path / "a"), save(tmp_path / "b", noise=9), "--floor", floor)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[:2] == ["PASS  bert: torch:cpu -> torch:cpu", "  compared: 7 of 7 (100.0 %)"]
    assert "layer.{0-2}.output" in ran.out
    assert "\x1b" not in ran.out


def test_without_a_floor_it_is_1(port: Port, tmp_path: Path) -> None:
    ran = port("compare", save(tmp_path / "a"), save(tmp_path / "b", noise=9))
    assert ran.code == 1
    assert ran.out.startswith("CONDITIONAL")
    assert "no floor was measured" in ran.out


def test_a_difference_is_1_and_the_first_line_after_the_state_says_where(
    port: Port, tmp_path: Path, floor: Path
) -> None:
    ran = port("compare", save(tmp_path / "a"), save(tmp_path / "b", 1.001, noise=9), "--floor", floor)
    assert ran.code == 1
    first = next(line for line in ran.out.splitlines() if "first difference" in line)
    assert "L2 layer.2.output (free): FAIL, relative L2 0.001" in first
    assert "(replicas)" in first


def test_json_is_all_there_is(port: Port, tmp_path: Path, floor: Path) -> None:
    sides = save(tmp_path / "a"), save(tmp_path / "b", float("nan"), noise=9)
    ran = port("compare", *sides, "--floor", floor, "--json", "--criteria", "msprobe")
    values = json.loads(ran.out)
    assert ran.code == 1
    assert (values["state"], values["passed"], values["first"]["what"]) == ("FAIL", False, "layer.2.output")
    assert [level["level"] for level in values["levels"]] == ["L0", "L1", "L2", "L3", "L4"]
    assert {one["name"] for one in values["deviations"]} == set(TAPS)
    assert values["rule"]["state"] == "FAIL"
    assert all(one["source"].startswith("msprobe") for one in values["rule"]["findings"])


def test_core_leaves_measures_out(port: Port, tmp_path: Path) -> None:
    sides = save(tmp_path / "a"), save(tmp_path / "b", noise=9)
    core, every = (json.loads(port("compare", *sides, "--json", *extra).out) for extra in (["--core"], []))
    for name in ("mean_rel", "p95_rel", "mean_ulp", "max_ulp"):
        assert core["deviations"][0][name] is None, name
        assert every["deviations"][0][name] is not None, name
    assert core["deviations"][0]["cosine"] == pytest.approx(1), "it comes with the squares"
    assert core["deviations"][0]["rel_l2"] == every["deviations"][0]["rel_l2"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nowhere", "{b}"], "wanted a folder with a capture, got no folder"),
        (["{a}", "{tmp}"], "is no capture"),
        (["{a}", "{b}", "--criteria", "mine"], "criteria mine: not known; there are calibrated, mindformers"),
        (["{a}", "{b}", "--criteria", "{tmp}/none.toml"], "none.toml: cannot be read"),
        (["{a}", "{b}", "--criteria", "{tmp}/bad.toml"], "bad.toml: check 1: limit: wanted a number, got 'x'"),
        (["{a}", "{b}", "--criteria", "{tmp}/empty.toml"], "empty.toml: wanted tables [[check]] and nothing else"),
        (["{a}", "{b}", "--criteria", "{tmp}/other.toml"], "other.toml: check 1: wanted measure and limit"),
        (["{a}", "{b}", "--floor", "{tmp}/none.json"], "none.json"),
        (["{a}", "{b}", "--mapping", "{tmp}/none.toml"], "none.toml"),
    ],
)
def test_what_cannot_be_compared_is_2_and_one_line(port: Port, tmp_path: Path, words: list[str], reason: str) -> None:
    bound = '[[check]]\non = "taps"\nsource = "s"\nany = [{ measure = "%s", limit = %s }]\n'
    (tmp_path / "bad.toml").write_text(bound % ("cosine", "'x'"))
    (tmp_path / "other.toml").write_text(bound % ("beauty", "1"))
    (tmp_path / "empty.toml").write_text("")
    places = {"a": save(tmp_path / "a"), "b": save(tmp_path / "b"), "tmp": tmp_path}
    ran = port("compare", *(word.format(**places) for word in words))
    assert (ran.code, ran.out) == (2, "")
    assert reason in ran.err
    assert len(ran.err.splitlines()) == 1


def test_on_a_terminal_it_is_a_table_in_colours(tmp_path: Path) -> None:
    sides = [save(tmp_path / "a"), save(tmp_path / "b", 1.001)]
    ours, theirs = pty.openpty()
    command = [Path(sys.executable).with_name("port"), "compare", *sides]
    with subprocess.Popen(command, stdout=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "150"}) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # Linux's way to say that the other side has closed
            pass
        assert process.wait() == 1
    os.close(ours)
    assert b"\x1b[1;31mFAIL" in shown
    assert "layer.{0-1}.output" in shown.decode()


def test_comparing_imports_no_framework(tmp_path: Path) -> None:
    from porting.testing.formats import HEAVY

    sides = [str(save(tmp_path / "a")), str(save(tmp_path / "b", noise=3))]
    code = (
        f"import sys; sys.argv = ['port', 'compare', *{sides!r}]\nfrom porting.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 1\n"
        "print('MODULES', *sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = {name.partition(".")[0] for name in ran.stdout.rpartition("MODULES ")[2].split()}
    assert not names & {*HEAVY, "rich", "h5py"}
