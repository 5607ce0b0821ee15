"""One side of a comparison: a subject on a backend, captured in another process, and many of them in one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Protocol

from porting.backends.found import Resolved
from porting.backends.message import decode_error
from porting.backends.names import BackendName
from porting.backends.process import Outcome, call
from porting.errors import PortError
from porting.model.recipe import Recipe
from porting.model.spec import Compute
from porting.parity.capture import Manifest
from porting.parity.probe import STEPS
from porting.parity.state import Level
from porting.parity.subject import Subject
from porting.parity.writer import CaptureWriter

CAPTURED = (Level.WEIGHTS, Level.FORWARD, Level.BACKWARD, Level.STEP)
"""Levels that are captured unless others are asked for; settings (L1) are in every manifest."""

TIMEOUT = 1800.0
"""Seconds that a capture may take, the import of its framework included."""

Progress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Side:
    """A backend and how a subject is run on it. recipe: None trains nothing. steps: of training, from 1 on with L4."""

    resolved: Resolved
    subject: Subject
    mode: Literal["eager", "graph"] = "eager"
    compute: Compute = "float32"
    recipe: Recipe | None = None
    levels: Sequence[Level] = CAPTURED
    steps: int = STEPS
    timeout: float = TIMEOUT
    progress: Progress | None = None

    def capture(
        self,
        folder: str | Path,
        *,
        whole: bool = True,
        forced_by: Path | None = None,
        replica: int | None = None,
        compute: Compute | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Record the subject into a folder, and return it.

        compute: another than the side's; the others as in Take.
        A crash or a hang makes a capture whose state is `crashed`, with the reason: nothing takes that for a pass.
        Raises: the PortError of what is asked wrongly.
        """
        side = self if compute is None else self.at(compute)
        take = Take(side, Path(folder).absolute(), whole, forced_by, replica, overwrite)
        (error,) = capture_all([take])
        if error is not None:
            raise error
        return take.folder

    def at(self, compute: Compute, resolved: Resolved | None = None) -> Side:
        """The same at another precision, or on another backend."""
        return replace(self, compute=compute, resolved=resolved or self.resolved)

    @property
    def trains(self) -> bool:
        """Whether steps are recorded."""
        return self.recipe is not None


@dataclass(frozen=True)
class Take:
    """One capture that is to be made.

    whole: every tensor, not only summaries. forced_by: a capture whose taps every module is given. replica: seed of a
    permutation, undone again.
    """

    side: Side
    folder: Path
    whole: bool = True
    forced_by: Path | None = None
    replica: int | None = None
    overwrite: bool = False

    def job(self) -> dict[str, Any]:
        """What the worker is told: see porting.parity.capture_job."""
        side = self.side
        return {
            "verb": "capture",
            "backend": str(side.resolved.backend),
            "emulated": side.resolved.emulated,
            "subject": side.subject.to_json(),
            "mode": side.mode,
            "compute": side.compute,
            "recipe": side.recipe.to_dict() if side.recipe else None,
            "levels": [str(level) for level in side.levels if level is not Level.STEP or side.trains],
            "steps": side.steps if side.trains else 0,
            "whole": self.whole,
            "replica": self.replica,
            "forced_by": str(self.forced_by.absolute()) if self.forced_by else None,
            "output": str(self.folder.absolute()),
            "overwrite": self.overwrite,
        }

    @classmethod
    def from_job(cls, job: Mapping[str, Any], *, timeout: float, progress: Progress | None = None) -> Take:
        """From what `job` gave. Raises: UsageError for a recipe that makes no sense."""
        from porting.parity.capture_job import recipe_of

        side = Side(
            Resolved(BackendName.parse(job["backend"]), job["emulated"]), Subject.from_json(job["subject"]),
            job["mode"], job["compute"], recipe_of(job["recipe"]), [Level(name) for name in job["levels"]],
            job["steps"] or STEPS, timeout, progress,
        )  # fmt: skip
        forced = Path(job["forced_by"]) if job["forced_by"] else None
        return cls(side, Path(job["output"]), job["whole"], forced, job["replica"], job["overwrite"])

    def write_crash(self, outcome: Outcome) -> None:
        """A capture of the state `crashed`, with what was asked for. Raises: UsageError, FormatError of the writer."""
        side, backend = self.side, self.side.resolved.backend
        build = asdict(side.subject.build(mode=side.mode, compute=side.compute))
        del build["device"]
        manifest = Manifest(
            side.subject.model, side.subject.config, build, str(backend), backend.known, backend.device,
            side.resolved.emulated, recipe=side.recipe.to_dict() if side.recipe else None, replica=self.replica,
        )  # fmt: skip
        last = f": {outcome.tail[-1]}" if outcome.tail else ""
        with CaptureWriter(self.folder, manifest, whole=self.whole, overwrite=self.overwrite) as writer:
            writer.finish(state="crashed", reason=outcome.reason + last, notes=outcome.notes)


class Makes(Protocol):
    """What a worker makes a capture of: a Take, or a training run."""

    @property
    def side(self) -> Side:
        """On which backend."""
        ...

    @property
    def folder(self) -> Path:
        """Where it goes."""
        ...

    def job(self) -> dict[str, Any]:
        """What the worker is told."""
        ...

    def write_crash(self, outcome: Outcome) -> None:
        """A capture of the state `crashed`."""
        ...


def capture_all(takes: Sequence[Makes]) -> list[PortError | None]:
    """Make captures, those of one backend in one process after the other, and say of each what it was refused by.

    A take's time limit is counted from what its process told last. One that crashes or hangs becomes a capture of that
    state, and those after it are made in a new process.
    """
    backends = dict.fromkeys(str(take.side.resolved.backend) for take in takes)
    errors: dict[int, PortError | None] = {}
    for backend in backends:
        left = [number for number, take in enumerate(takes) if str(take.side.resolved.backend) == backend]
        while left:
            errors |= _one_process([(number, takes[number]) for number in left])
            left = [number for number in left if number not in errors]
    return [errors[number] for number in range(len(takes))]


@dataclass(slots=True)
class _Told:
    """What a process told of its takes, by their place in it. progress: of the side, which is told all the same."""

    progress: Progress | None
    ended: dict[int, PortError | None] = field(default_factory=dict)

    def __call__(self, values: Mapping[str, Any]) -> None:
        if "ended" in values:
            self.ended[values["ended"]] = decode_error(values["error"]) if "error" in values else None
        elif self.progress and "began" not in values:
            self.progress(values)


def _one_process(numbered: Sequence[tuple[int, Makes]]) -> dict[int, PortError | None]:
    """As many as one process makes: all, or those up to one that it does not survive."""
    takes = [take for _, take in numbered]
    first, told = takes[0], _Told(takes[0].side.progress)
    parent = first.folder.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{first.folder.name}.", suffix=".work", dir=parent) as scratch:
        outcome = call(
            first.side.resolved.backend, {"verb": "captures", "jobs": [take.job() for take in takes]},
            timeout=max(take.side.timeout for take in takes), folder=Path(scratch), progress=told, renewed=True,
        )  # fmt: skip
    if told.progress:
        told.progress({"notes": list(outcome.notes)})
    if outcome.state == "crashed" and len(told.ended) < len(takes):
        lost = takes[len(told.ended)]
        try:
            lost.write_crash(outcome)
            told.ended[len(told.ended)] = None
        except PortError as error:
            told.ended[len(told.ended)] = error
    return {number: told.ended[place] for place, (number, _) in enumerate(numbered) if place in told.ended}
