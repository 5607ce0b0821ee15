"""Predictions as evidence: found among what a side gives; their metrics take the place of those that a log printed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from porting.acceptance.answer_file import read_answers
from porting.acceptance.answers import Answers
from porting.acceptance.task import MARGIN
from porting.acceptance.trajectory import Trajectory
from porting.errors import UsageError

LABELS = "labels"
"""What the name of a file begins with that holds the labels of a folder's predictions."""

PREDICTIONS = ("predictions", "test_results")


def answers_in(folder: Path, side: str, labels: Path | None) -> Answers | None:
    """The predictions that lie in a folder of captures or runs: `predictions.*` or `test_results.*` with their labels.

    Of a folder of both sides, `source-predictions.*` and `target-predictions.*`, or those in the side's own folders.
    Raises: UsageError for two of them, FormatError for what is none.
    """
    here = _named(folder, (*PREDICTIONS, f"{side}-predictions", f"{side}_predictions"))
    found = [*here, *(file for place in (folder / side, folder / "runs" / side) for file in _named(place, PREDICTIONS))]
    known = [one for file in found if (one := read_answers(file, labels or labels_in(file.parent))) is not None]
    return only(known, side)


def labels_in(folder: Path) -> Path | None:
    """The file of labels beside predictions; None where there is none, or several."""
    found = _named(folder, (LABELS,))
    return found[0] if len(found) == 1 else None


def only(known: list[Answers], side: str) -> Answers | None:
    """The one; None of none. Raises: UsageError for more."""
    if len(known) > 1:
        raise UsageError(f"--{side}: two files of predictions, {known[0].name} and {known[1].name}; give one")
    return known[0] if known else None


def _named(folder: Path, stems: tuple[str, ...]) -> list[Path]:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [file for file in files if file.is_file() and file.name.partition(".")[0] in stems]


def with_answers(run: Trajectory, answers: Answers) -> Trajectory:
    """A run with the metrics of its predictions. Where a log printed another value, that is said."""
    metrics = answers.metrics()
    notes = []
    for name, one in metrics.items():
        printed = run.metrics.get(name)
        if printed is not None and abs(printed.value - one.value) > max(printed.resolution, MARGIN / 100):
            notes.append(f"{name} is {one.value:.6g} by {answers.name}, and was printed as {printed.value:.6g}")
    inputs = (*run.inputs, *(one for one in answers.inputs if one not in run.inputs))
    notes = [*run.notes, *notes, *(f"{answers.name}: {note}" for note in answers.notes)]
    return replace(run, metrics={**run.metrics, **metrics}, inputs=inputs, notes=tuple(notes))
