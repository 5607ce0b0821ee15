"""Damaged and hostile checkpoints: a small run of benchmarks/fuzz.py, and what it must be able to see."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made import as_hf, as_modelzoo, google_bert, save

from porting.checkpoint.registry import formats
from porting.convert.convert import convert

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
Port = Callable[..., Any]


def fuzz(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, BENCHMARKS / "fuzz.py", *words], capture_output=True, text=True, check=False, timeout=600
    )


def test_three_hundred_mutants() -> None:
    ran = fuzz("--mutations", "300", "--seed", "7")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.endswith("0 of them break a promise\n")
    rows = [line.split("|")[1].strip() for line in ran.stdout.splitlines() if line.startswith("| ")]
    assert set(rows) == {"format", "all", *formats()}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_mutants() -> None:
    ran = fuzz("--mutations", "10000", "--seed", "20")
    assert ran.returncode == 0, ran.stdout + ran.stderr


WRITTEN = {name for name, kind in formats().items() if kind.plan} - {"onnx"}  # which needs a graph
# mindspore itself can put a crc into its safetensors; the kit does not.
WITH_CHECKSUMS = sorted({name for name in WRITTEN if formats()[name].verify} - {"mindspore-safetensors"})
WITHOUT = sorted(WRITTEN - set(WITH_CHECKSUMS))


def damaged(folder: Path, kind: str) -> tuple[Path, Path]:
    """A checkpoint and its ledger, converted while it was whole; then a bit of one weight turned over."""
    arrays = as_modelzoo(google_bert()) if "mindspore" in kind else as_hf(google_bert())
    folder.mkdir()
    path = save(folder / "m", arrays, kind, extra={"crc": True} if kind == "mindspore-ckpt" else {})
    convert(path, folder / "converted.npz", to="google", source_format=kind)
    weight = next(iter(arrays.values())).tobytes()
    (file,) = (file for file in folder.glob("m*") if weight in file.read_bytes())
    data = bytearray(file.read_bytes())
    data[data.index(weight) + 5] ^= 1
    file.write_bytes(data)
    return path, folder / "converted.npz.port.json"


@pytest.mark.parametrize("kind", WITH_CHECKSUMS)
def test_a_wrong_checksum_is_said(kind: str, tmp_path: Path, port: Port) -> None:
    path, ledger = damaged(tmp_path / "in", kind)
    ran = port("convert", "any", path, "--to", "google", "-o", tmp_path / "out", "--source-format", kind)
    assert ran.code == 2
    assert ran.err.startswith("port: error: ")
    assert "crc" in ran.err.lower()
    assert [file.name for file in tmp_path.iterdir()] == ["in"]
    ran = port("convert", "any", path, "--to", "google", "-o", tmp_path / "out", "--no-verify")
    assert ran.code == 0, ran.err
    assert port("verify", ledger).code == 1


@pytest.mark.parametrize("kind", WITHOUT)
def test_a_flipped_bit_without_checksums_is_found_by_the_ledger(kind: str, tmp_path: Path, port: Port) -> None:
    path, ledger = damaged(tmp_path / "in", kind)
    ran = port("convert", "any", path, "--to", "google", "-o", tmp_path / "out")
    assert ran.code == 0, "nothing in the file can tell"
    ran = port("verify", ledger)
    assert ran.code == 1
    assert ran.out.count("its bytes are not those of the conversion") == 1
    ran = port("diff", tmp_path / "out", tmp_path / "in" / "converted.npz")
    assert ran.code == 1
