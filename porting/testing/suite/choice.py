"""What a run of the suite was asked for, with its backends resolved. Plain values, so that workers are told it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from porting.backends.found import Resolved, resolve, usable
from porting.backends.names import BackendName
from porting.errors import PortError, UsageError
from porting.model.registry import models
from porting.parity.subject import PREFERRED, Subject, subject

SOURCE, BACKEND = "torch:cpu", "npu"
"""The defaults."""

FORWARD_ONLY = "onnxruntime"

TRAINED = ("L3", "L4")
LEVELS = ("L0", "L1", "L2 free", "L2 forced", *TRAINED)
"""What is asked of every case."""

TRAJECTORY = ("L5", "L6")
"""What is asked of one case, which is trained: it takes as long as all that the others take."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model with a task. model: as it was asked for, a spec's name or a size."""

    model: str
    task: str

    def __str__(self) -> str:
        return f"{self.model}-{self.task}"


@dataclass(frozen=True, slots=True)
class Target:
    """What is compared with the source. smaller: one task of each model only."""

    resolved: Resolved
    smaller: bool = False

    @property
    def label(self) -> str:
        """Its name without options: `torch-npu`, and `mindspore-cpu` of the port that stands in for an NPU's."""
        backend = self.resolved.backend
        return f"{backend.known}-{backend.device}"


@dataclass(frozen=True)
class Choice:
    """The options. backend: as asked for. source: resolved, None where it was recorded on another machine.

    recorded: that folder. record: where this machine's is written. checkpoint, config, models: as given. folder: shared
    by all workers of the run. floors: of floors that were measured before. absent: why the default cannot be run.
    """

    backend: str
    source: Resolved | None
    targets: tuple[Target, ...]
    folder: str
    recorded: str = ""
    record: str = ""
    models: tuple[str, ...] = ()
    checkpoint: str = ""
    config: str = ""
    floors: str = ""
    update_floor: bool = False
    report: str = ""
    absent: str = ""
    workers: bool = False

    @property
    def emulated(self) -> bool:
        """Whether the target is no device but what stands in for one."""
        return any(target.resolved.emulated for target in self.targets)

    def cases(self) -> list[Case]:
        """Every model with every task; of a recorded source those that were recorded, unless models are named."""
        found = [Case(name, task.name) for name in self.models or models() for task in self._spec(name).tasks]
        if self.recorded and not self.models:
            found = [case for case in found if (Path(self.recorded) / str(case)).is_dir()]
        return found

    def cases_of(self, target: Target) -> list[Case]:
        """The cases that a target is run on."""
        found = self.cases()
        return [case for case in found if case.task == self._first(case.model)] if target.smaller else found

    def trained_of(self, target: Target) -> list[Case]:
        """The cases that are trained on a target: one task of each model that is named, of the first without names.

        What stands beside an emulated NPU trains nothing: MindSpore compiles for seconds in each of its runs.
        """
        if target.smaller:
            return []
        known: dict[str, list[Case]] = {}
        for case in self.cases_of(target):
            known.setdefault(case.model, []).append(case)
        cases = [next((case for case in own if case.task == self._first(name)), own[0]) for name, own in known.items()]
        return cases if self.models else cases[:1]

    def subject(self, case: Case) -> Subject:
        """What is run. Raises: PortError for a config or a checkpoint that makes no sense."""
        return subject(case.model, task=case.task, checkpoint=self.checkpoint or None, config=self.config or None)

    def group(self, case: Case) -> str:
        """Cases whose captures are made together: all, with workers those of a model; big ones one by one."""
        if self.checkpoint or self.config or case.model not in models():
            return str(case)
        return case.model if self.workers else "all"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        targets = [{"resolved": one.resolved.to_json(), "smaller": one.smaller} for one in self.targets]
        source = None if self.source is None else self.source.to_json()
        return {**asdict(self), "source": source, "targets": targets}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Choice:
        """From what `to_json` gave."""
        targets = tuple(Target(Resolved.from_json(one["resolved"]), one["smaller"]) for one in values["targets"])
        source = None if values["source"] is None else Resolved.from_json(values["source"])
        return cls(**{**values, "source": source, "targets": targets, "models": tuple(values["models"])})

    def _spec(self, name: str) -> Any:
        known = models()
        return known[name] if name in known else next(s for s in known.values() if name in s.sizes)

    def _first(self, model: str) -> str:
        names = [task.name for task in self._spec(model).tasks]
        return next((name for name in PREFERRED if name in names), names[0])

    def header(self) -> Iterator[str]:
        """Source, target, versions, and whether anything is emulated."""
        yield f"parity source: {self.recorded or (shown(self.source) if self.source else 'none')}"
        if self.absent:
            yield f"parity target: none: {self.absent}"
        for target in [] if self.record else self.targets:
            words = shown(target.resolved) + (", one task of each model" if target.smaller else "")
            yield f"parity target: {words}"
        if self.emulated and not self.record:
            yield f"parity: EMULATED, nothing below is evidence of a device: {self.targets[0].resolved.reason}"


def shown(resolved: Resolved) -> str:
    """A backend with the versions of what it runs."""
    known = (resolved.device or {}).get("versions") or _versions(resolved)
    listed = ", ".join(f"{name} {number}" for name, number in known.items())
    emulated = f" EMULATED ({resolved.emulated})" if resolved.emulated else ""
    return f"{resolved.backend}{emulated} [{listed}]"


def targets_of(backend: str, *, require_device: bool) -> tuple[Target, ...]:
    """What a name stands for. An emulated NPU has MindSpore's port beside PyTorch's, if MindSpore is installed.

    Raises: UsageError for what cannot be used here.
    """
    name = BackendName.parse(backend)
    first = usable(name, require_device=require_device)
    if not first.emulated or name.framework:
        return (Target(first),)
    try:
        return Target(first), Target(resolve(name, framework="mindspore"), smaller=True)
    except UsageError:
        return (Target(first),)


def checked_models(names: Sequence[str], checkpoint: str) -> tuple[str, ...]:
    """Models by name or size. Raises: UsageError for one there is not, or a checkpoint of no model or several."""
    known = {*models(), *(size for spec in models().values() for size in spec.sizes)}
    for name in names:
        if name not in known:
            raise UsageError(f"--model {name}: not known; there are {', '.join(sorted(known))}")
    if checkpoint and len(names) != 1:
        raise UsageError("--checkpoint: wants one --model, whose weights it has")
    return tuple(names)


def _versions(resolved: Resolved) -> dict[str, str]:
    try:
        return {resolved.backend.known: version(resolved.backend.known)}
    except (PackageNotFoundError, PortError):
        return {}
