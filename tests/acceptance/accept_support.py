"""Logs and captures of two sides, made for tests of the way from a path to a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from porting.parity.capture import Manifest
from porting.parity.writer import CaptureWriter

FIELD = Path(__file__).parents[1] / "field_logs"


def estimator(path: Path, losses: dict[int, float]) -> Path:
    """A log of TensorFlow's Estimator."""
    path.write_text("".join(f"INFO:tensorflow:loss = {loss}, step = {step}\n" for step, loss in losses.items()))
    return path


def descent(steps: int = 1200, gap: float = 0.0, noise: float = 0.0, seed: int = 0) -> dict[int, float]:
    """Losses that fall from 10 to 2."""
    rng = np.random.default_rng(seed)
    values = 2 + 8 * np.exp(-np.arange(steps) / (steps / 5)) + gap
    return dict(enumerate((values + rng.normal(0, noise, steps)).round(7).tolist()))


def capture(
    folder: Path,
    *,
    scale: float = 1.0,
    losses: Sequence[float] = (),
    seconds: float = 0.05,
    taps: Sequence[str] = ("layer.0.out", "layer.1.out", "logits"),
    emulated: str = "",
    backend: str = "torch:cpu",
    weights: float = 1.0,
    gradients: bool = True,
) -> Path:
    """A capture of a toy model; scale: how far its taps are from those of scale 1."""
    rng = np.random.default_rng(0)
    framework, device = backend.split(":")
    manifest = Manifest(
        "toy", {"hidden": 8}, {"task": "mlm", "mode": "eager", "compute": "float32", "dropout": False},
        backend, framework, device, emulated, {framework: "1.0"}, weights="xxh3_128:w", batch="xxh3_128:b",
        recipe={"name": "adam", "lr": 1e-3}, taps=tuple(taps),
    )  # fmt: skip
    with CaptureWriter(folder, manifest, whole=True) as writer:
        writer.add("weights", "layer.0.weight", np.full((8, 8), weights, np.float32))
        for tap in taps:
            writer.add("forward", tap, (rng.normal(size=(4, 8)) * scale).astype(np.float32))
        if gradients:
            writer.add("gradients", "layer.0.weight", (rng.normal(size=(8, 8)) * scale).astype(np.float32))
        for step, loss in enumerate(losses):
            writer.step({
                "step": step, "loss": loss, "lr": 1e-3, "grad_norm": 1.0 + 0.1 * loss, "seconds": seconds,
                "batch": f"xxh3_128:{step:x}",
            })  # fmt: skip
        writer.finish()
    return folder
