"""From a path to what it shows: a capture, a folder of `port parity`, training runs, logs, found by content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from porting.acceptance.acceptance import Kind, Party
from porting.acceptance.align import members
from porting.acceptance.answer_file import read_answers
from porting.acceptance.answered import LABELS, answers_in, labels_in, only, with_answers
from porting.acceptance.answers import Answers
from porting.acceptance.inputs import input_of, inputs_of
from porting.acceptance.limits import check_limit
from porting.acceptance.permutation import BLOCK
from porting.acceptance.runs import read_planted, read_runs, trajectory_of
from porting.acceptance.trajectory import Runs, Series, Trajectory
from porting.errors import FormatError, UsageError
from porting.logs.read import read_log
from porting.parity.capture import Manifest
from porting.parity.layout import MANIFEST, STEPS
from porting.parity.reader import read_capture

Side = Literal["source", "target"]

FLOOR, TRUTH, REFERENCE = "floor.json", "float64", "reference"
"""What a folder of `port parity` holds to judge by, beside the two sides."""

BY_HAND = "the step time was given by hand"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one path shows. capture: a folder with tensors, None of logs. judged_by: floor, truth and reference, where
    they lie beside it. runs: its training. planted: training with known mistakes. answers: its predictions.
    mixed: how its capture and its training runs are of two things, where they are.
    """

    party: Party
    capture: Path | None = None
    judged_by: Mapping[str, Path] = field(default_factory=dict)
    runs: Runs | None = None
    planted: Mapping[str, tuple[Trajectory, ...]] = field(default_factory=dict)
    answers: Answers | None = None
    mixed: tuple[str, ...] = ()

    @property
    def own(self) -> frozenset[str]:
        """Hashes of what only this side can have made: its capture's manifest, the steps of its training runs."""
        files = [input_of(self.capture / MANIFEST)] if self.capture is not None else []
        runs = members(self.runs) if self.runs is not None else ()
        files += [one for run in runs if run.kind == "capture" for one in run.inputs if one.path.endswith(STEPS)]
        return frozenset(one.hash for one in files)

    @property
    def run(self) -> Trajectory | None:
        """The training as it was meant to be."""
        return None if self.runs is None else self.runs.run

    def with_run(self, run: Trajectory, party: Party) -> Evidence:
        """The same with another run in the place of its own, or with one where it has none."""
        return replace(self, party=party, runs=Runs(run) if self.runs is None else replace(self.runs, run=run))

    @property
    def logs(self) -> bool:
        """Whether nothing but logs and predictions stands behind it."""
        return self.party.kind in ("log", "logs", "predictions")


Paths = str | Path | Sequence[str | Path]


def evidence_of(
    paths: Paths, side: Side, *, step_ms: float | None = None, labels: str | Path | None = None
) -> Evidence:
    """Read what one or several paths show of one side of a migration.

    paths: a log (`FILE#RUN` names one of several runs), a folder of logs, a capture, the folder of one side's runs, or
    the folder of `port parity`, of which the given side is taken; logs and a file of predictions may stand beside any
    of them. step_ms: milliseconds of a step, in place of what was recorded. labels: a file of them, for predictions
    that have none.
    Raises: UsageError for a path that there is not, for two that are no logs, or a step time that is none; FormatError
    for what is no evidence of any kind.
    """
    named = [paths] if isinstance(paths, (str, Path)) else list(paths)
    truth = Path(labels) if labels is not None else None
    found = [_evidence(path, side, truth) for path in named]
    whole = [one for one in found if not one.logs]
    if len(whole) > 1:
        both = " and ".join(one.party.path for one in whole[:2])
        raise UsageError(f"--{side} {both}: only logs may stand beside a capture or a folder of `port parity`")
    first = (whole or [one for one in found if one.party.kind != "predictions"] or found)[0]
    together = _beside(first, [one for one in found if one is not first])
    answers = only([one.answers for one in found if one.answers is not None], side)
    together = together if answers is None else _answering(together, answers)
    return together if step_ms is None else _with_step_time(together, side, step_ms)


def _beside(first: Evidence, logs: Sequence[Evidence]) -> Evidence:
    """Evidence with what logs beside it add: series and metrics that it lacks itself. Predictions are no run."""
    if not logs:
        return first
    parties = [first.party, *(one.party for one in logs)]
    party = replace(
        first.party,
        kind="logs" if first.run is not None and first.logs else first.party.kind,
        inputs=tuple(dict.fromkeys(one for party in parties for one in party.inputs)),
        limits=tuple(dict.fromkeys(limit for party in parties for limit in party.limits)),
        notes=tuple(dict.fromkeys(note for party in parties for note in party.notes)),
    )
    runs = [one.run for one in (first, *logs) if one.run is not None]
    if not runs:
        return replace(first, party=party)
    run = merged(runs)
    run = replace(run, emulated=run.emulated or party.emulated)
    return first.with_run(run, party)


def _answering(found: Evidence, answers: Answers) -> Evidence:
    """Evidence with the metrics of its predictions."""
    party = found.party
    run = found.run or Trajectory(party.name, "log" if found.logs else "capture", (), {}, emulated=party.emulated)
    run = with_answers(run, answers)
    inputs = tuple(dict.fromkeys((*party.inputs, *answers.inputs)))
    party = replace(party, inputs=inputs, notes=tuple(dict.fromkeys((*party.notes, *run.notes))))
    return replace(found.with_run(run, party), answers=answers)


def _evidence(path: str | Path, side: Side, labels: Path | None) -> Evidence:
    place = Path(path)
    if place.is_dir():
        return _folder(place, side, labels)
    if place.is_file() and (answers := read_answers(place, labels or labels_in(place.parent))) is not None:
        return Evidence(Party(str(path), "predictions", answers.name, inputs=answers.inputs), answers=answers)
    if place.exists() or Path(str(path).rpartition("#")[0]).is_file():
        return _log(str(path), [read_log(str(path))], "log")
    raise UsageError(f"--{side} {path}: there is no such file or folder")


def _folder(folder: Path, side: Side, labels: Path | None) -> Evidence:
    """What a folder is, with the predictions that lie in it."""
    found = _recorded(folder, side)
    return replace(found, answers=answers_in(folder, side, labels)) if found else _logs(folder, side, labels)


def _recorded(folder: Path, side: Side) -> Evidence | None:
    """Captures and training runs; None of a folder that holds neither."""
    if (folder / MANIFEST).is_file():
        return _capture(folder, "capture", folder, {})
    if (folder / "run" / MANIFEST).is_file():
        return _trained(folder)
    taps, runs = folder / side, folder / "runs" / side
    known = {name: folder / name for name in (FLOOR, TRUTH, REFERENCE) if (folder / name).exists()}
    if (taps / MANIFEST).is_file():
        found = _capture(folder, "parity", taps, known)
        return _joined(found, taps, runs, folder) if (runs / "run").is_dir() else found
    if (runs / "run").is_dir():
        return _with_planted(_trained(runs, str(folder)), folder)
    return None


def _capture(path: Path, kind: Kind, folder: Path, judged_by: Mapping[str, Path]) -> Evidence:
    capture = read_capture(folder)
    manifest = capture.manifest
    party = Party(
        str(path), kind, f"{manifest.model} on {manifest.backend}", environment_of(manifest),
        inputs_of([folder, *judged_by.values()]), notes=manifest.notes, emulated=manifest.emulated,
    )  # fmt: skip
    # Fewer steps than a block of the permutation test are those of L4, and no training run.
    runs = Runs(trajectory_of(capture)) if len(capture.steps) >= BLOCK else None
    return Evidence(party, folder, judged_by, runs)


def _trained(folder: Path, path: str = "") -> Evidence:
    runs = read_runs(folder)
    manifest = read_capture(folder / "run").manifest
    party = Party(
        path or str(folder), "runs", f"{manifest.model} on {manifest.backend}", environment_of(manifest),
        inputs_of([folder]), runs.run.limits, runs.run.notes, manifest.emulated,
    )  # fmt: skip
    return Evidence(party, None, {}, runs)


def _joined(found: Evidence, taps: Path, runs: Path, folder: Path) -> Evidence:
    """Tensors and training of one folder."""
    trained = _trained(runs)
    ours, theirs = found.party, trained.party
    party = replace(
        ours, inputs=(*ours.inputs, *theirs.inputs), limits=(*ours.limits, *theirs.limits),
        notes=(*ours.notes, *theirs.notes), emulated=ours.emulated or theirs.emulated,
    )  # fmt: skip
    mixed = tuple(_mixed(read_capture(folder).manifest for folder in (taps, runs / "run")))
    return _with_planted(replace(found, party=party, runs=trained.runs, mixed=mixed), folder)


def _mixed(manifests: Iterable[Manifest]) -> Iterator[str]:
    """How a capture and a training run are not of one thing."""
    one, other = manifests
    if one.backend != other.backend:
        yield f"capture was made on {one.backend}, and its training runs on {other.backend}"
    if one.model != other.model:
        yield f"capture is of {one.model}, and its training runs are of {other.model}"
    elif one.weights and other.weights and one.weights != other.weights:
        yield "capture and its training runs have other weights"


def _with_planted(found: Evidence, folder: Path) -> Evidence:
    """Evidence with the runs of a folder that have a known mistake, which the detection power rests on."""
    files = inputs_of([folder / "runs" / "planted"])
    party = replace(found.party, inputs=(*found.party.inputs, *files))
    return replace(found, party=party, planted=read_planted(folder))


def environment_of(manifest: Manifest) -> dict[str, str]:
    """What a manifest says of where it was made, by the names that `differences` has."""
    found = {"model": manifest.model, "backend": manifest.backend, "framework": manifest.framework}
    found |= {
        "device": manifest.device,
        "emulated": manifest.emulated,
        "precision": str(manifest.build.get("compute", "")),
    }
    for name, values in (("versions", manifest.versions), ("switches", manifest.switches)):
        found |= {f"{name}.{key}": str(value) for key, value in values.items()}
    return {name: value for name, value in found.items() if value}


def _logs(folder: Path, side: Side, labels: Path | None) -> Evidence:
    """A folder of logs and predictions: what is neither is left out, by name. Raises: FormatError if none is one."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    found: list[Trajectory] = []
    left: list[str] = []
    known: list[Answers] = []
    truth = labels or labels_in(folder)
    for file in files:
        if file.name.partition(".")[0] == LABELS:
            continue
        answers = read_answers(file, truth)
        if answers is not None:
            known.append(answers)
            continue
        try:
            found.append(read_log(file))
        except FormatError as error:
            left.append(f"{file.name} is left out: {error.problem}")
    answers = only(known, side)
    if found:
        return replace(_log(str(folder), found, "logs", tuple(left)), answers=answers)
    if answers is not None:
        party = Party(str(folder), "predictions", answers.name, inputs=answers.inputs, notes=tuple(left))
        return Evidence(party, answers=answers)
    raise FormatError(folder, "", "wanted a capture, a folder of `port parity`, logs or predictions, got none of them")


def _log(path: str, found: Sequence[Trajectory], kind: Kind, notes: tuple[str, ...] = ()) -> Evidence:
    run = merged(found)
    name = run.name if kind == "log" else Path(path).name
    party = Party(path, kind, name, run.environment, run.inputs, run.limits, (*notes, *run.notes), run.emulated)
    return Evidence(party, runs=Runs(run))


def merged(found: Sequence[Trajectory]) -> Trajectory:
    """Logs of one run as one: the log of the training and that of the evaluation.

    Where two hold the same series or metric, the first by name is taken, and it is said.
    """
    first, *others = found
    for other in others:
        twice = sorted({*first.series} & {*other.series} | {*first.metrics} & {*other.metrics})
        notes = [f"{other.name}: {note}" for note in other.notes]
        if twice:
            notes.append(f"{', '.join(twice)}: taken from {first.name}, not from {other.name}, which has it too")
        first = replace(
            first,
            inputs=(*first.inputs, *(one for one in other.inputs if one not in first.inputs)),
            series={**other.series, **first.series},
            metrics={**other.metrics, **first.metrics},
            counts=Counter(first.counts) + Counter(other.counts),
            environment={**other.environment, **first.environment},
            limits=tuple(dict.fromkeys((*first.limits, *other.limits))),
            notes=(*first.notes, *notes),
        )  # fmt: skip
    return first


def _with_step_time(found: Evidence, side: Side, step_ms: float) -> Evidence:
    check_limit(f"--{side}-step-ms", step_ms)
    kind: Literal["capture", "log"] = "log" if found.logs else "capture"
    run = found.run or Trajectory(found.party.name, kind, found.party.inputs, {}, emulated=found.party.emulated)
    given = Series(np.array([0]), np.array([step_ms / 1000]))
    left = {name: series for name, series in run.series.items() if name not in ("seconds", "examples_per_second")}
    run = replace(run, series={**left, "seconds": given}, limits=(*run.limits, BY_HAND))
    party = replace(found.party, limits=(*found.party.limits, BY_HAND))
    return found.with_run(run, party)
