"""parity_tests/, run as a user runs it: a process of its own, small selections."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAIN = "self.dtype, self.epsilon = tf.as_dtype(dtype), epsilon"
ONE = ("--model", "bert", "-k", "bert-mlm-L and torch")


def suite(*words: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the suite. path: a folder whose modules are found before the installed ones."""
    command = [sys.executable, "-m", "pytest", "parity_tests", "-p", "no:cacheprovider", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else None
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False)


def ledger(folder: Path, name: str, **line: str) -> Path:
    """A folder with one expected failure."""
    rows = "\n".join(f'{key} = "{value}"' for key, value in line.items())
    (folder / f"{name}.toml").write_text(f"[[expected]]\n{rows}\n")
    return folder


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One model and task on an emulated NPU, with a report."""
    report = tmp_path_factory.mktemp("report")
    return suite("--backend", "npu", *ONE, "--report", report), report


@pytest.mark.torch
class TestEmulated:
    def test_is_an_outcome_of_its_own(self, emulated):
        ran, _ = emulated
        assert ran.returncode == 0, ran.stdout
        assert "0 passed on NPU, 6 emulated" in ran.stdout
        assert re.search(r"parity: EMULATED, nothing below is evidence of a device", ran.stdout)
        assert re.search(r"=+ \d+ deselected, 6 emulated in", ran.stdout), "not counted as passed"

    def test_is_a_skip_for_junit(self, emulated):
        _, report = emulated
        suites = ET.parse(report / "junit.xml").getroot()
        skipped = suites.findall(".//testcase/skipped")
        assert len(skipped) == 6
        assert all("EMULATED" in one.attrib["message"] for one in skipped)

    def test_leaves_a_report(self, emulated):
        _, report = emulated
        found = json.loads((report / "torch-npu" / "bert-mlm.json").read_text())
        assert found["emulated"]
        assert not found["passed"]
        assert "| bert-mlm | PASS (emulated)" in (report / "summary.md").read_text()


class TestRefuses:
    def test_to_emulate_where_a_device_is_required(self):
        ran = suite("--backend", "npu", "--require-device")
        assert ran.returncode == 4
        assert "a device is required, and there is no sign of an Ascend" in ran.stderr
        assert "Traceback" not in ran.stdout + ran.stderr

    def test_a_backend_that_is_absent(self):
        ran = suite("--backend", "mindspore:ascend")
        assert ran.returncode == 4
        assert "mindspore:ascend" in ran.stderr

    def test_a_model_that_there_is_not(self):
        ran = suite("--backend", "npu", "--model", "brrt")
        assert ran.returncode == 4
        assert "--model brrt: not known" in ran.stderr

    def test_a_ledger_with_a_line_of_what_there_is_not(self, tmp_path):
        line = {"case": "bert-mlm", "level": "L9", "state": "FAIL", "reason": "none"}
        ran = suite("--backend", "npu", "--expected", ledger(tmp_path, "torch-npu", **line))
        assert ran.returncode == 4
        assert "stale: level: there is no L9" in ran.stderr


@pytest.mark.torch
def test_a_stale_line_fails(tmp_path):
    line = {"case": "bert-mlm", "level": "L3", "state": "FAIL", "reason": "it was so"}
    ran = suite("--backend", "npu", *ONE, "--expected", ledger(tmp_path, "torch-npu", **line))
    assert ran.returncode == 1
    assert "expects FAIL, and it is PASS" in ran.stdout
    assert "1 failed" in ran.stdout


@pytest.mark.tensorflow
def test_a_planted_mistake_fails_unless_it_is_expected(tmp_path):
    """TensorFlow's port in a copy that is found first, with the square root of its epsilon for it."""
    package = tmp_path / "first" / "porting_bert"
    shutil.copytree(ROOT / "models" / "bert" / "porting_bert", package, ignore=shutil.ignore_patterns("__pycache__"))
    layers = package / "tensorflow_layers.py"
    text = layers.read_text()
    assert PLAIN in text
    layers.write_text(text.replace(PLAIN, f"{PLAIN}**0.5"))
    line = {"case": "bert-mlm", "level": "L2 free", "state": "FAIL", "reason": "the epsilon"}
    options = ("--model", "bert", "-k", "bert-mlm-L and L2")
    expected = ledger(tmp_path, "tensorflow-cpu", **line)
    ran = suite("--backend", "tensorflow:cpu", *options, "--expected", expected, path=package.parent)
    assert ran.returncode == 1, ran.stdout
    assert "0 passed on CPU, 1 failed, 1 failed as expected" in ran.stdout
    assert "test_level[tensorflow-cpu-bert-mlm-L2_forced]" in ran.stdout
    assert re.search(r"FAIL: L2 embeddings \(forced\): relative L2 .*, limit .* = 4 x .*", ran.stdout), ran.stdout


@pytest.mark.torch
def test_two_machines_and_workers(tmp_path):
    """Recorded on one, compared on another by two workers, which make the captures once."""
    pytest.importorskip("xdist")
    made = suite("--record", tmp_path / "there", "--model", "bert", "-k", "bert-mlm")
    assert made.returncode == 0, made.stdout
    assert "1 recorded" in made.stdout
    assert (tmp_path / "there" / "bert-mlm" / "floor.json").is_file()
    ran = suite("--source", tmp_path / "there", "--backend", "cpu", "-k", "bert-mlm", "-n", "2", "--dist", "load")
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"10 passed on CPU", ran.stdout)


@pytest.mark.torch
def test_floors_are_kept_and_used(tmp_path):
    """A kept floor that lets nothing pass fails the next run, which shows that it was used."""
    # The target is TensorFlow's: PyTorch's own second run is the source, to the bit.
    options = (
        "--backend",
        "tensorflow:cpu",
        "--model",
        "bert",
        "-k",
        "bert-mlm-L2_free",
        "--floors",
        tmp_path / "kept",
    )
    assert suite(*options, "--update-floor").returncode == 0
    path = tmp_path / "kept" / "bert-mlm.json"
    floor = json.loads(path.read_text())
    for entry in floor["entries"]["forward"].values():
        entry.update(rel_l2=1e-30, max_rel=1e-30)
    path.write_text(json.dumps(floor))
    ran = suite(*options)
    assert ran.returncode == 1, ran.stdout
    assert "1 failed" in ran.stdout
