"""Matrices without a framework: results as a cell's process gives them, made of numbers, and a `run` of these."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from porting.bench.cell import Cell, Setting
from porting.bench.corpus import generated
from porting.bench.figures import Measured, measured
from porting.bench.matrix import Made, Matrix, bench
from porting.parity.capture_job import code_hash

WARM = 4
"""Slow steps at the beginning of a made result."""


def result(
    *, step: float = 0.01, steps: int = 60, seed: int = 0, per_epoch: int = 30, power: float | None = 200.0,
    reads: str = "nvidia:0", backend: str = "torch:cuda", emulated: str = "", **changes: Any,
) -> dict[str, Any]:  # fmt: skip
    """Of a cell that is done: steps of `step` seconds and 2 % noise after a warm-up, samples every 20 ms."""
    random = np.random.default_rng(seed)
    seconds = step * (1 + 0.02 * random.standard_normal(steps))
    seconds[:WARM] = 30 * step
    end = float(seconds.sum())
    times = np.arange(-0.05, end + 0.05, 0.02)
    readings = [
        [round(float(t), 4), reads, None if power is None else power + float(random.normal()), 80.0, 1500.0]
        for t in times
    ]
    readings += [[round(float(t), 4), "host", None, 30.0, 700.0] for t in times] if reads != "host" else []
    found = {
        "state": "done", "reason": "", "backend": backend, "emulated": emulated, "start": 1000.0,
        "seconds": seconds.tolist(), "loss": np.linspace(0.7, 0.6, steps).tolist(), "per_epoch": per_epoch,
        "examples": {"train": 2 * per_epoch, "eval": 100},
        "evaluation": {"loss": 0.61, "accuracy": 0.69, "matthews": 0.0},
        "readings": readings, "reads": reads, "monitor": {"missing": [], "problems": [], "missed": {}},
        "peak_rss": 700 << 20, "device": "A device", "versions": {"torch": "2.13"}, "switches": {}, "mode": "eager",
        "code": code_hash("porting_bert"), "data": {"train": "sha256:1", "eval": "sha256:2"},
        "recipe": {"hash": "sha256:3", "epsilon": 1e-6}, "notes": [], "compilations": 0,
    }  # fmt: skip
    return {**found, **changes}


def matrix(models: Sequence[str] = ("bert-tiny",), sizes: Sequence[int] = (2, 4), **changes: Any) -> Matrix:
    """A matrix of the CPU over a few generated examples."""
    setting = Setting("cola", generated(60, seed=0, length=16), epochs=2, period=0.02)
    values: dict[str, Any] = {"backends": ("torch:cpu",), "setting": setting, **changes}
    return Matrix(tuple(models), tuple(sizes), **values)


def giving(
    results: Mapping[int, Mapping[str, Any]] | None = None, seen: list[int] | None = None, **changes: Any
) -> Any:
    """A `run` that gives made results. results: by batch size, of those that are other. seen: sizes that were run."""

    def run(jobs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        for number, job in enumerate(jobs):
            if seen is not None:
                seen.append(job["batch_size"])
            other = (results or {}).get(job["batch_size"])
            yield number, copy.deepcopy(other) if other else result(backend=job["backend"], **changes)

    return run


def made(folder: Path, *sizes: int, **changes: Any) -> Made:
    """A matrix on the disk, of made results."""
    return bench(matrix(sizes=sizes or (2, 4)), folder, run=giving(**changes))


def one(**changes: Any) -> Measured:
    """A made cell."""
    return measured(Cell("torch:cuda", "bert-tiny", 2), result(**changes))


def names(paths: Iterable[Path]) -> list[str]:
    """Of files or folders."""
    return sorted(path.name for path in paths)


Port = Callable[..., Any]
