"""A model outside the tree works as one inside: the example is installed, and the command knows it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import porting

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny_model"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the example is installed."""
    place = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(place)]
    subprocess.run([*pip, str(EXAMPLE)], check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(place)}


def port(environment: dict[str, str], *words: str, folder: Path | None = None) -> str:
    command = [sys.executable, "-m", "porting.cli", *words]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_its_family_spec_and_taps_appear(installed: dict[str, str]) -> None:
    assert "tiny" in port(installed, "families", "list")
    assert "tiny-16" in port(installed, "models", "list")
    shown = port(installed, "models", "show", "tiny")
    for word in ("bag", "after the dense layer and tanh", "input_ids", "classification"):
        assert word in shown


def test_its_checkpoints_convert(installed: dict[str, str], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shapes = {"tiny/table": (9, 4), "tiny/dense/kernel": (4, 4), "tiny/dense/bias": (4,)}
    tensors = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    porting.write(tmp_path / "tiny.npz", tensors, format="npz")
    port(installed, "convert", "any", "tiny.npz", "--to", "torch", "-o", "out.safetensors", folder=tmp_path)
    out = porting.read(tmp_path / "out.safetensors")
    assert np.array_equal(out["tiny.dense.weight"].read(), tensors["tiny/dense/kernel"].T)
    assert np.array_equal(out["tiny.table.weight"].read(), tensors["tiny/table"])


def test_its_own_conformance_suite_passes(installed: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE / "tests")]
    result = subprocess.run(command, env=installed, capture_output=True, text=True, cwd=EXAMPLE, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.torch
def test_its_port_runs_in_the_kits_session(installed: dict[str, str]) -> None:
    pytest.importorskip("torch")
    code = """
import numpy as np
from porting.backends.protocol import Build
from porting.backends.torch.run import open_session
from porting.model.registry import model_named
spec = model_named("tiny")
session = open_session(spec, spec.sizes["tiny-16"], Build("classification"))
batch = {"input_ids": np.arange(6, dtype=np.int32).reshape(2, 3), "label_ids": np.array([0, 1], np.int32)}
out = session.forward(batch, ("bag",))
loss, gradients = session.gradients(batch)
print(sorted(out), out["bag"].shape, sorted(gradients) == sorted(session.parameters), loss > 0)
"""
    result = subprocess.run([sys.executable, "-c", code], env=installed, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "['bag', 'logits', 'loss'] (2, 16) True True", result.stderr
