"""`port parity MODEL --steps N`: both sides trained on the same batches by the same recipe, and judged.

Every run is a capture of its own. One that is whole is kept when the command is given again, one that was killed or has
crashed is made anew; so an interruption costs the run at hand. What lies where is in porting.acceptance.runs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from porting.acceptance.judge import judge_trajectory
from porting.acceptance.permutation import GROUP
from porting.acceptance.runs import FALLBACKS, read_planted, read_runs
from porting.acceptance.speed import judge_speed
from porting.backends.found import Resolved
from porting.backends.process import Outcome
from porting.checkpoint.output import remove_stale_parts, write_json
from porting.errors import PortError, UsageError
from porting.model.recipe import Recipe, Schedule
from porting.model.spec import ModelSpec
from porting.parity.capture_job import code_hash
from porting.parity.origin import first_error
from porting.parity.presets import Rule
from porting.parity.probe import probe_recipe
from porting.parity.reader import read_capture
from porting.parity.side import Side, Take, capture_all
from porting.parity.state import State, Verdict
from porting.terminal import unsaid

REPLICAS = GROUP - 1
"""Beside the run itself."""

PLANTED_RUNS = GROUP
"""Of each mistake. With fewer the test sees less, and the report would state less than it would have caught."""

_APART = {"source": 0, "target": 1000, "planted": 2000}
"""Added to the seeds of replicas: groups that are to be told apart by chance alone have no permutation in common."""

RISE = 10
"""The share of a run's steps in which the rate of the probe's recipe rises: a tenth."""


@dataclass(frozen=True)
class Plan:
    """What is trained. replicas, seeds: beside each side's run. shadow: in float32 too, where a side is not."""

    source: Side
    target: Side
    replicas: int = REPLICAS
    seeds: int = 0
    shadow: bool = True
    planted: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What has to be the same for a folder to be gone on with. How many runs there are may grow."""
        sides = {
            name: Training(one, Path(), 0).job() for name, one in (("source", self.source), ("target", self.target))
        }
        kept = ("backend", "emulated", "subject", "mode", "compute", "recipe", "steps")
        code = code_hash(self.source.subject.spec.package)
        return {"code": code, **{name: {key: job[key] for key in kept} for name, job in sides.items()}}

    def trainings(self, folder: Path) -> Iterator[Training]:
        """All runs, those first that show at once whether anything works."""
        sides = {"source": self.source, "target": self.target}
        yield from (Training(side, folder / name / "run") for name, side in sides.items())
        for name, side in sides.items():
            for number in range(1, self.replicas + 1):
                yield Training(side, folder / name / f"replica-{number}", replica=_APART[name] + number)
        if self.shadow:
            yield from self._shadows(folder)
        for number in range(1, self.seeds + 1):
            yield Training(self.source, folder / "source" / f"seed-{number}", order=number)
        for mistake in self.planted:
            for number in range(PLANTED_RUNS):
                place = folder / "planted" / f"{mistake}-{number}"
                yield Training(self.source, place, replica=_APART["planted"] + number, planted=mistake)

    def _shadows(self, folder: Path) -> Iterator[Training]:
        """In float32, of each side that is not: what a device's arithmetic was emulated for runs without that."""
        for name, side in (("source", self.source), ("target", self.target)):
            if side.compute == "float32" and not side.resolved.emulated:
                continue
            exact = replace(side, compute="float32", resolved=replace(side.resolved, emulated=""))
            yield Training(exact, folder / name / "shadow")
            for number in range(1, self.replicas + 1):
                yield Training(exact, folder / name / f"shadow-{number}", replica=_APART[name] + number)


@dataclass(frozen=True)
class Training:
    """One run that is to be made: see porting.parity.side.Makes. order: of the data. planted: a mistake's name."""

    side: Side
    folder: Path
    order: int = 0
    replica: int | None = None
    planted: str = ""

    def job(self) -> dict[str, Any]:
        """What the worker is told: see porting.acceptance.train_job."""
        return {**self._take.job(), "verb": "train", "order": self.order, "planted": self.planted or None}

    def write_crash(self, outcome: Outcome) -> None:
        """A capture of the state `crashed`. Raises: what the writer raises."""
        self._take.write_crash(outcome)

    @property
    def _take(self) -> Take:
        return Take(self.side, self.folder, whole=False, replica=self.replica, overwrite=True)

    @property
    def made(self) -> bool:
        """Whether it is there, and whole."""
        try:
            return read_capture(self.folder).manifest.state == "whole"
        except PortError:
            return False


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts of L5 and L6. kept: runs that were there already, of all."""

    trajectory: Verdict
    speed: Verdict
    made: int = 0
    kept: int = 0

    @property
    def passed(self) -> bool:
        """Whether training passes, emulated or not, and speed does not fail."""
        return self.trajectory.state is State.PASS and self.speed.state is not State.FAIL

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        levels = [asdict(verdict) for verdict in (self.trajectory, self.speed)]
        return {"levels": levels, "made": self.made, "kept": self.kept}


def on(side: Side, resolved: Resolved) -> Side:
    """A side on a backend, in the mode that it is trained in: MindSpore compiles, as its steps take 20 times as long
    in PyNative mode; the others run eagerly, as compiling takes longer than some hundred steps.
    """
    return replace(side, resolved=resolved, mode="graph" if resolved.backend.known == "mindspore" else "eager")


def training_recipe(spec: ModelSpec, steps: int) -> Recipe:
    """The probe's, with a rate that rises over a tenth of these steps and falls over the rest."""
    known = probe_recipe(spec)
    schedule = Schedule("bert", peak=known.schedule.peak, steps=steps, warmup=steps // RISE)
    return replace(known, schedule=schedule)


def train(
    plan: Plan,
    folder: str | Path,
    *,
    rule: Rule | None = None,
    limit: float | None = None,
    below: Sequence[Verdict] = (),
    overwrite: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Judged:
    """Make every run that is not there yet, and judge. folder: DIR; the runs go into DIR/runs.

    rule: for single runs. limit: of the ratio of step times. below: verdicts of L2 to L5, without which there is none
    of speed. overwrite: begin anew where another plan was begun.
    Raises: UsageError for a folder of another plan, and what a side is refused by.
    """
    place, say = Path(folder) / "runs", tell or unsaid
    _begin(place, plan, overwrite=overwrite)
    wanted = list(plan.trainings(place))
    todo = [one for one in wanted if not one.made]
    say(f"{len(todo)} runs of {plan.source.steps} steps" + (f", {len(wanted) - len(todo)} are there" if todo else ""))
    _made(todo)
    say("judging")
    found = judged(place, rule=rule, limit=limit, below=below)
    result = replace(found, made=len(todo), kept=len(wanted) - len(todo))
    write_json(place / "trajectory.json", result.to_json())
    return result


def judged(
    folder: str | Path, *, rule: Rule | None = None, limit: float | None = None, below: Sequence[Verdict] = ()
) -> Judged:
    """The verdicts on DIR/runs. Raises: FormatError for a folder without them."""
    place = Path(folder)
    source, target = read_runs(place / "source"), read_runs(place / "target")
    planted = read_planted(place / "planted")
    trajectory = judge_trajectory(source, target, rule=rule, planted=planted)
    speed = judge_speed(source.run, target.run, limit=limit, below=[*below, trajectory])
    return Judged(trajectory, speed)


def _made(todo: Sequence[Training]) -> None:
    """Make runs, and keep what their frameworks said of operators that ran on the CPU.

    Runs of one backend are made in one process, so what it said is kept beside all of them.
    Raises: what one is refused by.
    """
    heard: dict[str, set[str]] = {str(one.side.resolved.backend): set() for one in todo}

    def listening(one: Training) -> Training:
        lines = heard[str(one.side.resolved.backend)]
        return replace(one, side=replace(one.side, progress=lambda told: lines.update(told.get("notes", ()))))

    error = first_error(capture_all([listening(one) for one in todo]))
    for folder, backend in {(one.folder.parent, str(one.side.resolved.backend)) for one in todo}:
        path = folder / FALLBACKS
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        write_json(path, sorted({*known, *heard[backend]}))
    if error is not None:
        raise error


def _begin(place: Path, plan: Plan, *, overwrite: bool) -> None:
    """Write the plan. Raises: UsageError if another was begun here."""
    path, values = place / "plan.json", json.loads(json.dumps(plan.to_json()))
    remove_stale_parts(place, [path.name])
    if path.is_file():
        known = _read(path)
        different = [key for key in values if known.get(key) != values[key]]
        if different and not overwrite:
            raise UsageError(f"{place}: was begun with another {', '.join(different)}; --overwrite begins anew")
        if different:
            shutil.rmtree(place)
    elif place.is_dir() and any(place.iterdir()):
        raise UsageError(f"{place}: holds other things than training runs")
    place.mkdir(parents=True, exist_ok=True)
    write_json(path, values)


def _read(path: Path) -> Mapping[str, Any]:
    """A plan; nothing of what is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
