"""What a run's evaluations leave in its folder: a line of JSON for each, and the weights of the best.

evaluations.jsonl      {"step": …, "epoch": …, "metrics": {…}}, steps and epochs from 1
best.safetensors       the weights of the best so far, in the names of the framework that trained; in its metadata the
                       line that it got, and the run that it is of

Both appear whole or not at all, and stay as they are when a run that was killed goes on: it makes the evaluations after
its newest state again, with equal numbers, and they take the place of the old lines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porting.backends.protocol import Array
from porting.checkpoint.output import make_folder, write_text
from porting.errors import FormatError, UsageError
from porting.parity.layout import line, numbers

EVALUATIONS, BEST = "evaluations.jsonl", "best.safetensors"
KEY = "porting.train.best"
"""Of the JSON object in the metadata."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation has found. step: after which. epoch: that the step was of. Both from 1."""

    step: int
    epoch: int
    metrics: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"step": self.step, "epoch": self.epoch, "metrics": dict(self.metrics)}


@dataclass(frozen=True, slots=True)
class Best:
    """The best so far. metric: by which."""

    metric: str
    evaluation: Evaluation

    @property
    def value(self) -> float:
        """Of the metric; not a number where it was not defined."""
        return self.evaluation.metrics[self.metric]


def read_evaluations(folder: Path) -> list[Evaluation]:
    """The evaluations of a folder, in the order of their steps; none if there are none."""
    path = folder / EVALUATIONS
    if not path.is_file():
        return []
    try:
        rows = [json.loads(text) for text in path.read_text("utf-8").splitlines()]
        return [Evaluation(row["step"], row["epoch"], numbers(row["metrics"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise FormatError(path, "", 'wanted a line {"step": …, "epoch": …, "metrics": {…}} per evaluation') from None


def add_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write an evaluation down, in place of those of its step and later ones: they are of a run that was wound back.

    Raises: FormatError for a file that is none of evaluations, or where it cannot be written.
    """
    kept = [one for one in read_evaluations(folder) if one.step < evaluation.step]
    make_folder(folder)
    write_text(folder / EVALUATIONS, "".join(line(one.to_json()) for one in (*kept, evaluation)))


def read_best(folder: Path) -> Best | None:
    """The best so far, without its weights; None if there is none. Raises: FormatError for a file of something else."""
    found = _said(folder)
    return None if found is None else found[0]


def best_weights(folder: Path) -> dict[str, Array]:
    """The weights of the best, mapped lazily, in the names of the framework that trained. Raises: FormatError."""
    from porting.checkpoint.registry import read

    return {name: entry.read() for name, entry in read(folder / BEST, format="safetensors").items()}


def keep_best(
    folder: Path, evaluation: Evaluation, metric: str, weights: Mapping[str, Array], run: Mapping[str, Any]
) -> Best:
    """Keep these weights if they are better than those that are kept: of equals the earlier stay. Returns the best.

    run: what makes two runs the same, as JSON values.
    Raises: UsageError for a metric that was not measured, or where another run's best is kept; FormatError where it
    cannot be written: then the old one stays.
    """
    from porting.checkpoint.write import write

    if metric not in evaluation.metrics:
        raise UsageError(f"metric {metric}: was not measured; there are {', '.join(evaluation.metrics)}")
    found, mine = _said(folder), Best(metric, evaluation)
    if found is not None:
        best, other = found
        _check_same(folder / BEST, best, metric, other, run)
        if not _better(mine, best):
            return best
    make_folder(folder)
    said = json.dumps({"metric": metric, "run": run, **json.loads(line(evaluation.to_json()))}, sort_keys=True)
    write(folder / BEST, weights, format="safetensors", overwrite=True, metadata={KEY: said})
    return mine


def _better(one: Best, two: Best) -> bool:
    return one.value > two.value or (math.isnan(two.value) and not math.isnan(one.value))


def _check_same(path: Path, best: Best, metric: str, other: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    if best.metric != metric or other != json.loads(json.dumps(run)):
        raise UsageError(f"{path}: is the best of another run, by {best.metric}: take another folder, or move it away")


def _said(folder: Path) -> tuple[Best, Mapping[str, Any]] | None:
    from porting.checkpoint.registry import read

    path = folder / BEST
    if not path.is_file():
        return None
    try:
        said = json.loads(read(path, format="safetensors").metadata[KEY])
        evaluation = Evaluation(said["step"], said["epoch"], numbers(said["metrics"]))
        return Best(said["metric"], evaluation), said["run"]
    except (KeyError, ValueError, TypeError, AttributeError):
        raise FormatError(path, "", "wanted the best weights of a run, got another safetensors file") from None
