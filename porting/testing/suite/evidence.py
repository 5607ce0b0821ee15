"""The captures and comparisons of a run, made once and shared by all its workers through a folder.

FOLDER/GROUP.lock, GROUP.done       who makes a group's captures holds the lock, the others wait for it
FOLDER/origin/CASE/                 the source: see porting.parity.origin
FOLDER/weights/CASE.safetensors     its weights, in the family's first dialect
FOLDER/TARGET/CASE/                 a target, and what came of it: comparison.json, or problem.txt
FOLDER/TARGET/CASE/runs             of a case that is trained: see porting.acceptance.runs
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from porting.acceptance.shadow import STEPS
from porting.acceptance.speed import HUNDREDS, NEEDED
from porting.acceptance.train import Plan, on, train, training_recipe
from porting.checkpoint.write import write
from porting.errors import PortError, UsageError
from porting.parity.compare import Comparison
from porting.parity.floor import Floor
from porting.parity.floor_file import read_floor, write_floor
from porting.parity.measure_floor import REPLICAS
from porting.parity.origin import Origin, exact_backend, floor_in, lower, reference_side
from porting.parity.parity import judged, target_takes
from porting.parity.probe import probe_recipe
from porting.parity.reader import read_capture
from porting.parity.side import Side, Take, capture_all
from porting.parity.state import Finding, Level, State, Verdict, verdict_of
from porting.testing.suite.choice import FORWARD_ONLY, Case, Choice, Target


@dataclass(frozen=True)
class Evidence:
    """What is known of the cases of a run. selected: those that tests were collected of."""

    choice: Choice
    selected: Sequence[Case]

    def verdict(self, target: Target, case: Case, level: Level, mode: str = "") -> Verdict:
        """One level of a case on a target. mode: of L2, `free` or `forced`; both without one.

        Raises: UsageError with what the case was refused by.
        """
        self._ensure(case)
        place = self._target(target, case)
        if (place / "problem.txt").is_file():
            raise UsageError((place / "problem.txt").read_text(encoding="utf-8"))
        found = json.loads((place / "comparison.json").read_text(encoding="utf-8"))
        verdict = _verdict(next(one for one in found["levels"] if one["level"] == level))
        if found["target"]["state"] == "crashed":
            crash = Finding(level, "target run", State.CRASHED, found["target"]["reason"])
            return verdict_of(level, [crash], emulated=verdict.emulated)
        if level is not Level.FORWARD or not mode:
            return verdict
        own = [one for one in verdict.findings if (one.mode == "forced") == (mode == "forced")]
        return verdict_of(level, own, emulated=verdict.emulated)

    def trained(self, target: Target, case: Case, level: Level) -> Verdict:
        """L5 or L6 of a case, which is trained on both sides when it is first asked for.

        Raises: UsageError with what it was refused by.
        """
        forward, backward, step = (self.verdict(target, case, one) for one in NEEDED[:3])
        place = self._target(target, case)
        with _locked(place.with_name(f"{place.name}.lock")):
            found = train(self._plan(target, case), place, limit=HUNDREDS, below=[forward, backward, step])
        if self.choice.report:
            path = Path(self.choice.report) / target.label / "training" / f"{case}.json"
            self._note(path, json.dumps(found.to_json(), indent=1) + "\n")
        return found.trajectory if level is Level.TRAJECTORY else found.speed

    def _plan(self, target: Target, case: Case) -> Plan:
        side = self._origin(case).side
        learning = replace(side, recipe=training_recipe(side.subject.spec, STEPS), steps=STEPS)
        one, two = on(learning, side.resolved), on(learning, target.resolved)
        # As at L2, lower precision is held against the source at that precision: it trains in its own way.
        return Plan(reference_side(one, two) if lower(two) else one, two)

    def weights(self, case: Case) -> Path:
        """The source's weights as a file, in the family's first dialect. Raises: UsageError if they were refused."""
        self._ensure(case)
        path = self._weights(case)
        if not path.is_file():
            raise UsageError(f"{case}: the source gave no weights: {self._problem(case)}")
        return path

    def recorded(self, case: Case) -> Path:
        """The folder that a case was recorded in, for another machine. Raises: UsageError with why it was not."""
        self._ensure(case)
        folder = self._origin(case).folder
        if problem := self._problem(case):
            raise UsageError(problem)
        return folder

    def _ensure(self, case: Case) -> None:
        """Make the captures of a case's group, unless they are there; wait for who is making them."""
        group, folder = self.choice.group(case), Path(self.choice.folder)
        done = folder / f"{group}.done"
        with _locked(folder / f"{group}.lock"):
            if not done.exists():
                self._make([one for one in self.selected if self.choice.group(one) == group] or [case])
                done.touch()

    def _make(self, cases: Sequence[Case]) -> None:
        """Sources first, in one process if they share a backend, then each target's, then what comes of them."""
        problems: dict[Case, str] = {}
        self._capture({case: self._origin(case).takes() for case in cases if not self.choice.recorded}, problems)
        for case in cases:
            self._settle_origin(case, problems)
        for target in () if self.choice.record else self.choice.targets:
            own = [case for case in self.choice.cases_of(target) if case in cases]
            wrong = dict(problems)
            self._capture({case: self._target_takes(target, case) for case in own if case not in wrong}, wrong)
            for case in own:
                self._judge(target, case, wrong)
        if not self.choice.record:
            for case in cases:
                shutil.rmtree(Path(self.choice.folder) / "origin" / str(case), ignore_errors=True)

    @staticmethod
    def _capture(wanted: Mapping[Case, Sequence[Take]], problems: dict[Case, str]) -> None:
        takes = [(case, take) for case, own in wanted.items() for take in own]
        for (case, _), error in zip(takes, capture_all([take for _, take in takes]), strict=True):
            if error is not None:
                problems.setdefault(case, str(error))

    def _settle_origin(self, case: Case, problems: dict[Case, str]) -> None:
        """The floor that is wanted of a source, and its weights for the tests of dialects."""
        origin = self._origin(case)
        try:
            if case not in problems and (made := read_capture(origin.source).manifest).state == "crashed":
                problems[case] = f"CRASHED: the source on {made.backend}: {made.reason}"
            if case not in problems and origin.replicas:
                found = origin.measured()
                if self.choice.update_floor:
                    self._floor(case).parent.mkdir(parents=True, exist_ok=True)
                    write_floor(self._floor(case), found)
            if case not in problems and not self.choice.record:
                source, path = read_capture(origin.source), self._weights(case)
                path.parent.mkdir(exist_ok=True)
                tensors = {name: source.tensor("weights", name) for name in source.section("weights")}
                write(path, {name: one for name, one in tensors.items() if one is not None}, format="safetensors")
        except PortError as error:
            problems.setdefault(case, str(error))
        if case in problems:
            self._note(Path(self.choice.folder) / "problems" / f"{case}.txt", problems[case])

    def _target_takes(self, target: Target, case: Case) -> list[Take]:
        one = self._origin(case)
        return target_takes(one.side, self._side(target, case), one.folder, self._target(target, case))

    def _judge(self, target: Target, case: Case, problems: Mapping[Case, str]) -> None:
        place, origin = self._target(target, case), self._origin(case)
        try:
            if case in problems:
                raise UsageError(problems[case])
            side = self._side(target, case)
            found = judged(replace(origin, replicas=REPLICAS), side, place, floor=self._known_floor(case))
            self._keep(target, case, found)
        except PortError as error:
            self._note(place / "problem.txt", str(error))
        for name in ("target", "reference"):
            shutil.rmtree(place / name, ignore_errors=True)

    def _keep(self, target: Target, case: Case, found: Comparison) -> None:
        text = json.dumps(found.to_json(), indent=1) + "\n"
        self._note(self._target(target, case) / "comparison.json", text)
        if self.choice.report:
            self._note(Path(self.choice.report) / target.label / f"{case}.json", text)

    def _known_floor(self, case: Case) -> Floor | None:
        """One that was recorded with the source, or measured before and kept, if it fits."""
        origin = self._origin(case)
        if floor := floor_in(origin.folder):
            return floor
        if not self._floor(case).is_file():
            return None
        kept = read_floor(self._floor(case))
        return None if kept.misfits(read_capture(origin.source).manifest) else kept

    def _origin(self, case: Case) -> Origin:
        choice = self.choice
        resolved = choice.source or exact_backend()
        if resolved is None:
            raise UsageError("a recorded source, and no PyTorch here to emulate a device by")
        spec = choice.subject(case).spec
        forward = any(target.resolved.backend.known == FORWARD_ONLY for target in choice.targets)
        side = Side(resolved, choice.subject(case), recipe=None if forward else probe_recipe(spec))
        side = replace(side, levels=(Level.WEIGHTS, Level.FORWARD)) if forward else side
        place = Path(choice.recorded or choice.record or Path(choice.folder) / "origin") / str(case)
        return Origin(side, place, REPLICAS if self._wants_floor(case) else 0)

    def _wants_floor(self, case: Case) -> bool:
        choice = self.choice
        if choice.record or choice.update_floor:
            return True
        if choice.recorded or self._floor(case).is_file():
            return False
        plain = [target for target in choice.targets if not target.resolved.backend.options]
        return any(case in choice.cases_of(target) for target in plain)

    def _side(self, target: Target, case: Case) -> Side:
        one = self._origin(case).side
        return replace(one, resolved=target.resolved)

    def _target(self, target: Target, case: Case) -> Path:
        return Path(self.choice.folder) / target.label / str(case)

    def _weights(self, case: Case) -> Path:
        return Path(self.choice.folder) / "weights" / f"{case}.safetensors"

    def _floor(self, case: Case) -> Path:
        return Path(self.choice.floors) / f"{case}.json"

    def _problem(self, case: Case) -> str:
        path = Path(self.choice.folder) / "problems" / f"{case}.txt"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    @staticmethod
    def _note(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among the processes that lock this file; a process that dies lets go of it."""
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _verdict(values: Mapping[str, Any]) -> Verdict:
    findings = tuple(
        Finding(**{**one, "level": Level(one["level"]), "state": State(one["state"])}) for one in values["findings"]
    )
    return Verdict(
        Level(values["level"]), State(values["state"]), findings, values["compared"], values["total"],
        values["emulated"], values["reason"],
    )  # fmt: skip
