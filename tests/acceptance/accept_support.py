"""Logs and captures of two sides, made for tests of the way from a path to a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from porting.parity.capture import Manifest
from porting.parity.floor import Entry, Floor
from porting.parity.floor_file import write_floor
from porting.parity.reader import read_capture
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
    stepped: bool = False,
    replica: int | None = None,
    forced: Path | bool = False,
    hashed: str = "xxh3_128:w",
) -> Path:
    """A capture of a toy model; scale: how far its taps are from those of scale 1."""
    rng = np.random.default_rng(0)
    framework, device = backend.split(":")
    manifest = Manifest(
        "toy", {"hidden": 8}, {"task": "mlm", "mode": "eager", "compute": "float32", "dropout": {"mode": "off"}},
        backend, framework, device, emulated, {framework: "1.0"}, weights=hashed, batch="xxh3_128:b",
        recipe={"name": "adam", "lr": 1e-3}, taps=tuple(taps), replica=replica,
        forced_by=read_capture(forced).manifest.content if isinstance(forced, Path) else "",
    )  # fmt: skip
    losses = [8.0] if stepped else losses
    with CaptureWriter(folder, manifest, whole=True) as writer:
        writer.add("weights", "layer.0.weight", np.full((8, 8), weights, np.float32))
        for tap in taps:
            writer.add("forward", tap, (rng.normal(size=(4, 8)) * scale).astype(np.float32))
        again = np.random.default_rng(0)
        for tap in taps if isinstance(forced, Path) else ():
            writer.add("forced", tap, (again.normal(size=(4, 8)) * scale).astype(np.float32))
        if gradients:
            writer.add("gradients", "layer.0.weight", (rng.normal(size=(8, 8)) * scale).astype(np.float32))
        for section in ("step.weights", "step.m", "step.v") if stepped else ():
            writer.add(section, "layer.0.weight", np.full((8, 8), 0.9, np.float32))
        for step, loss in enumerate(losses):
            writer.step({
                "step": step, "loss": loss, "lr": 1e-3, "grad_norm": 1.0 + 0.1 * loss, "seconds": seconds,
                "batch": f"xxh3_128:{step:x}",
            })  # fmt: skip
        writer.finish()
    return folder


def trained(
    folder: Path, *, backend: str, seconds: float, seed: int, emulated: str = "", runs: int = 6, steps: int = 60
) -> None:
    """One side's run and its replicas: one descent, each with noise of its own."""
    clean = np.array(list(descent(steps).values()))
    rng = np.random.default_rng(seed)
    for number in range(runs):
        losses = clean * (1 + rng.normal(0, 1e-6, steps))
        names = "run" if number == 0 else f"replica-{number}"
        capture(
            folder / names, backend=backend, losses=losses.tolist(), seconds=seconds, gradients=False, taps=(),
            emulated=emulated,
            replica=None if number == 0 else seed * 100 + number,
        )  # fmt: skip


def evaluation(path: Path, accuracy: float, count: int = 2_000_000) -> Path:
    """A log of an evaluation."""
    path.write_text(
        f"Running evaluation\nINFO  Num examples = {count}\nINFO  Batch size = 16\n"
        f"INFO  ***** Eval results  *****\nINFO  acc = {accuracy:.7f}\n"
    )
    return path


def floor(folder: Path) -> None:
    """A floor that fits the capture beside it, as `port parity` measures one."""
    source = read_capture(folder / "source")
    known = source.manifest
    entries = {
        key: Entry(1e-7, 1e-7, "replicas", "tensor", one.l2, one.largest)
        for key, one in source.summaries.items()
        if key[0] != "weights"
    }
    made = Floor(
        known.model, known.config, known.build, known.weights, known.batch, known.recipe, known.backend, (1, 2, 3),
        float64=True, entries=entries,
    )  # fmt: skip
    write_floor(folder / "floor.json", made)


def migration(folder: Path, *, seconds: float = 0.05, emulated: str = "") -> Path:
    """A folder as `port parity` leaves it after both kinds of runs, of a port that computes the same."""
    for seed, (side, backend) in enumerate((("source", "torch:cuda"), ("target", "mindspore:ascend")), 1):
        theirs = side == "target"
        arithmetic = emulated if theirs else ""
        capture(folder / side, backend=backend, forced=theirs and folder / "source", emulated=arithmetic, stepped=True)
        runs = folder / "runs" / side
        trained(runs, backend=backend, seconds=seconds if theirs else 0.05, seed=seed, emulated=arithmetic)
    floor(folder)
    return folder
