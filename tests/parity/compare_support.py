"""Captures made by hand for tests of the comparison: a small model's tensors, and a floor for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from porting.parity.capture import Manifest
from porting.parity.compare import Comparison
from porting.parity.floor import Floor, floor_of
from porting.parity.reader import Capture, read_capture
from porting.parity.state import Level, State
from porting.parity.writer import CaptureWriter

CONFIG = {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "hidden_size": 16, "hidden_dropout_prob": 0.1}
BUILD = {"task": "mlm", "mode": "eager", "compute": "float32", "labels": 2, "dropout": {"mode": "off"}, "extra": {}}
RECIPE = {"name": "adam", "clip": {"kind": "global_norm", "norm": 1.0}, "schedule": {"kind": "constant", "peak": 1e-3}}

Tensors = dict[tuple[str, str], np.ndarray]


def tensors(seed: int = 0) -> Tensors:
    """All sections of a capture of two layers; the key's bias has a gradient of nothing but rounding."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    found: Tensors = {}
    names = [f"layer.{layer}.{part}" for layer in (0, 1) for part in ("query.weight", "key.bias")]
    for name in names:
        found["weights", name] = draw(16, 16) if name.endswith("weight") else draw(16)
    for name in ("embeddings", "layer.0.output", "layer.1.output"):
        found["forward", name] = draw(4, 8, 16)
    found["forward", "logits"] = draw(4, 8, 30, scale=5)
    found["forward", "loss"] = np.asarray(np.float32(3.4))
    for name in names:
        found["gradients", name] = draw(*found["weights", name].shape, scale=1e-9 if name.endswith("bias") else 1e-2)
    for name in names:
        found["step.weights", name] = found["weights", name] + draw(*found["weights", name].shape, scale=1e-3)
        found["step.m", name] = draw(*found["weights", name].shape, scale=1e-3)
        found["step.v", name] = np.square(draw(*found["weights", name].shape, scale=1e-3))
    return found


def near(known: Tensors, seed: int, scale: float = 3e-7) -> Tensors:
    """The same up to the noise of another order of sums: in everything but the weights."""
    rng = np.random.default_rng([seed, 77])
    found = dict(known)
    for key, tensor in known.items():
        if key[0] != "weights":
            size = max(float(np.abs(tensor).mean()), 1e-4 if key[0] == "gradients" else 0.0)
            found[key] = (tensor + scale * size * rng.standard_normal(tensor.shape)).astype(tensor.dtype)
    return found


STEPS = ({"step": 0, "loss": 3.4, "lr": 1e-3, "grad_norm": 0.5, "overflow": False, "batch": "b0"},)


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "model": "bert",
        "config": CONFIG,
        "build": BUILD,
        "backend": "torch:cpu",
        "framework": "pytorch",
        "device": "cpu",
        "weights": "w",
        "batch": "b",
        "recipe": RECIPE,
    }
    return Manifest(**values | changes)


def save(
    folder: Path,
    known: Mapping[tuple[str, str], np.ndarray],
    *,
    whole: bool = True,
    steps: tuple[Mapping[str, Any], ...] = STEPS,
    **changes: Any,
) -> Capture:
    """Write a capture and read it back."""
    with CaptureWriter(folder, manifest(**changes), whole=whole) as writer:
        for (section, name), tensor in known.items():
            writer.add(section, name, tensor)
        for step in steps:
            writer.step(step)
        writer.finish(taps=tuple(name for section, name in known if section == "forward"))
    return read_capture(folder)


def floor_for(folder: Path, source: Capture, known: Tensors) -> Floor:
    """A floor from two replicas that are as far from the source as `near` is."""
    replicas = [save(folder / f"replica{seed}", near(known, seed), replica=seed) for seed in (1, 2)]
    return floor_of(source, replicas, None)


def scaled(key: tuple[str, str], factor: float) -> Callable[[Tensors], None]:
    def change(known: Tensors) -> None:
        known[key] = known[key] * np.float32(factor)

    return change


def put(key: tuple[str, str], value: float) -> Callable[[Tensors], None]:
    def change(known: Tensors) -> None:
        known[key] = known[key].copy()
        known[key].reshape(-1)[3] = value

    return change


def target(tmp_path: Path, change: Callable[[Tensors], Any] = lambda _: None, **changes: Any) -> Capture:
    """An honest target, then changed."""
    known = near(tensors(), 9)
    change(known)
    return save(tmp_path / "target", known, **{"backend": "mindspore:cpu", "framework": "mindspore", **changes})


def level(found: Comparison, name: Level) -> State:
    return next(verdict.state for verdict in found.levels if verdict.level is name)
