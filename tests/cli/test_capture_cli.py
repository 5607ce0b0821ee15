"""`port capture`: a folder that compare takes, exit codes, one line for what cannot be captured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from porting.errors import FormatError
from porting.parity.reader import read_capture

Port = Callable[..., Any]

HERE = ("--backend", "torch:cpu", "--task", "classification")


@pytest.mark.torch
def test_a_model_is_captured(port: Port, tmp_path: Path) -> None:
    ran = port("capture", "bert", *HERE, "--steps", "2", "-o", tmp_path / "c")
    assert (ran.code, ran.err) == (0, "")
    capture = read_capture(tmp_path / "c")
    assert ran.out == f"{tmp_path / 'c'}: {len(capture.summaries)} tensors, 2 steps, whole\n"
    made = capture.manifest
    assert (made.model, made.backend, made.framework, made.emulated) == ("bert", "torch:cpu", "torch", "")
    assert made.build["task"] == "classification"
    assert made.config["hidden_size"] == 32
    assert made.recipe is not None
    for hashed in (made.weights, made.batch, made.code, made.content):
        assert ":" in hashed
    assert {"torch", "python", "porting"} <= made.versions.keys()
    assert "deterministic" in made.switches
    assert {section for section, _ in capture.summaries} == {
        *("weights", "forward", "gradients"),
        *("step.weights", "step.m", "step.v"),
    }
    assert capture.tensor("forward", "loss") is not None
    assert sorted(tmp_path.iterdir()) == [tmp_path / "c"]


@pytest.mark.torch
def test_levels_summaries_and_another_capture_of_the_same(port: Port, tmp_path: Path) -> None:
    words = ("capture", "bert", *HERE, "--summaries", "--level", "L2", "--steps", "0")
    assert port(*words, "-o", tmp_path / "one").code == 0
    assert port(*words, "--seed", "1", "-o", tmp_path / "two").code == 0
    one, two = read_capture(tmp_path / "one"), read_capture(tmp_path / "two")
    assert {section for section, _ in one.summaries} == {"forward"}
    assert one.tensor("forward", "logits") is None
    assert one.manifest.recipe is None
    assert one.manifest.code == two.manifest.code
    assert one.manifest.weights != two.manifest.weights
    assert one.manifest.batch != two.manifest.batch
    again = port(*words, "-o", tmp_path / "one")
    assert again.code == 2
    assert again.err.endswith("exists already; --overwrite replaces it\n")
    assert port(*words, "--overwrite", "-o", tmp_path / "one").code == 0
    assert read_capture(tmp_path / "one").manifest.content == one.manifest.content


@pytest.mark.torch
def test_a_task_without_a_loss_says_so(port: Port, tmp_path: Path) -> None:
    assert port("capture", "bert", "--backend", "torch:cpu", "--task", "encoder", "-o", tmp_path / "c").code == 0
    capture = read_capture(tmp_path / "c")
    assert capture.manifest.notes == ("task encoder has no loss on this batch: no gradients and no training",)
    assert {section for section, _ in capture.summaries} == {"weights", "forward"}


@pytest.mark.torch
def test_a_port_that_fails_is_a_crashed_capture(port: Port, tmp_path: Path) -> None:
    """Out of memory, as one of many ways in which a framework fails: exit code 1, and nothing to be passed."""
    from porting.model.registry import models
    from porting.testing.tiny import tiny

    values = {**tiny(models()["bert"]).to_dict(), "vocab_size": 2**42}
    (tmp_path / "huge.json").write_text(json.dumps(values))
    np.savez(tmp_path / "batch.npz", input_ids=np.zeros((1, 4), np.int32), label_ids=np.zeros(1, np.int32))
    words = ("--config", tmp_path / "huge.json", "--batch", tmp_path / "batch.npz")
    ran = port("capture", "bert", *HERE, *words, "-o", tmp_path / "c")
    assert ran.code == 1
    assert ": 0 tensors, 0 steps, CRASHED: RuntimeError: " in ran.out
    assert read_capture(tmp_path / "c").manifest.state == "crashed"


@pytest.mark.torch
def test_a_capture_that_takes_too_long_is_crashed(port: Port, tmp_path: Path) -> None:
    ran = port("capture", "bert", *HERE, "--timeout", "0.3", "-o", tmp_path / "c")
    assert ran.code == 1
    assert "CRASHED: did not end within 0.3 s and was killed" in ran.out


@pytest.mark.torch
def test_a_run_that_is_killed_leaves_no_capture(tmp_path: Path) -> None:
    target = tmp_path / "c"
    command = [sys.executable, "-m", "porting.cli", "capture", "bert-small", *HERE, "--steps", "400", "-o", str(target)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not list(tmp_path.glob(".c.*.part")) and process.poll() is None:
        time.sleep(0.05)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists()
    with pytest.raises(FormatError):
        read_capture(next(tmp_path.glob(".c.*.part")))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("birt", *HERE), r"model birt: not known; there are "),
        (("bert", "--backend", "torch:tpu"), r"backend torch:tpu: not known; there are "),
        (("bert", *HERE[:3], "sing"), r"bert: no task sing; there are encoder"),
        (("bert", *HERE, "--level", "L2,L9"), r"--level L9: wanted some of L0, L2, L3, L4"),
        (("bert", *HERE, "--dtype", "float8"), r"--dtype float8: wanted one of float32"),
        (("bert", *HERE, "--mode", "lazy"), r"--mode lazy: wanted one of eager, graph"),
        (("bert", *HERE, "--steps", "-1"), r"--steps -1: wanted 0 or more"),
        (("bert", *HERE, "--config", "none.json"), r"none.json: "),
        (("bert", *HERE, "--recipe", "none.json"), r"none.json: "),
        (("bert", *HERE, "--checkpoint", "none.npz", "--config", "none.json"), r"none.json: "),
    ],
)
def test_what_makes_no_sense_is_one_line(port: Port, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    ran = port("capture", *words, "-o", tmp_path / "c")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert message in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.torch
@pytest.mark.parametrize(
    ("file", "arrays", "message"),
    [
        ("--batch", {"input_ids": np.full((1, 4), 99, np.int32)}, "input_ids[0, 0] is 99, wanted 0 to 49"),
        ("--batch", {"words": np.zeros((1, 4), np.int32)}, "no feature words; there are input_ids"),
        ("--checkpoint", {"some/weight": np.zeros((2, 2), np.float32)}, "no family fits these names"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    port: Port, tmp_path: Path, file: str, arrays: dict[str, Any], message: str
) -> None:
    from porting.model.registry import models
    from porting.testing.tiny import tiny

    np.savez(tmp_path / "file.npz", **arrays)
    (tmp_path / "config.json").write_text(json.dumps(tiny(models()["bert"]).to_dict()))
    words = (*HERE, "--config", tmp_path / "config.json", file, tmp_path / "file.npz")
    ran = port("capture", "bert", *words, "-o", tmp_path / "c")
    assert ran.code == 2
    assert message in ran.err
    assert not (tmp_path / "c").exists()


@pytest.mark.torch
def test_a_forcing_capture_of_summaries_is_refused(port: Port, tmp_path: Path) -> None:
    words = ("capture", "bert", *HERE, "--level", "L2", "--steps", "0")
    assert port(*words, "--summaries", "-o", tmp_path / "source").code == 0
    ran = port(*words, "--forced-by", tmp_path / "source", "-o", tmp_path / "target")
    assert ran.code == 2
    assert "whose taps are to be given, holds no whole tensor of it" in ran.err
    assert not (tmp_path / "target").exists()


def test_a_function_is_captured_in_an_interpreter_without_the_kit(port: Port, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def run(batch):\n    yield 'double', batch['x'] * 2\n")
    np.savez(tmp_path / "batch.npz", x=np.ones((2, 3), np.float32))
    words = ("capture", f"{tmp_path / 'own.py'}:run", "-o", tmp_path / "c")
    named = ("--backend", f"torch:cpu@{sys.executable}")
    ran = port(*words, *named, "--batch", tmp_path / "batch.npz")
    assert (ran.code, ran.out, ran.err) == (0, f"{tmp_path / 'c'}: 2 tensors, 0 steps, whole\n", "")
    np.testing.assert_array_equal(
        read_capture(tmp_path / "c").tensor("forward", "double"), np.full((2, 3), 2, np.float32)
    )
    ran = port(*words, *named, "--overwrite")
    assert ran.code == 2
    assert "wants a batch (--batch FILE)" in ran.err
    ran = port(*words, "--backend", "torch:cpu", "--batch", tmp_path / "batch.npz", "--overwrite")
    assert ran.code == 2
    assert "wants the interpreter to run it in named: torch:cpu@PYTHON" in ran.err
