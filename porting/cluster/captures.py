"""Captures on the nodes of a cluster: each on one that has its backend's kind of device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from porting.backends.found import Resolved
from porting.backends.message import decode_error
from porting.backends.names import BackendName
from porting.backends.process import Outcome
from porting.checkpoint.registry import read
from porting.cluster.capture_job import CAPTURE, RESOLVE
from porting.cluster.engine import lost_nodes, run
from porting.cluster.job import Job, files_of
from porting.errors import PortError, UsageError
from porting.parity.side import Take

SLACK = 60.0
"""Seconds that a job may be silent beyond its captures' own limit, which then ends them first."""


@dataclass(frozen=True, slots=True)
class ClusterCaptures:
    """Finds backends and makes captures on a cluster. tell: takes a line for people: a node that was lost."""

    cluster: str | None
    tell: Callable[[str], None]

    def resolve(self, name: str, *, require_device: bool = False) -> Resolved:
        """What a name stands for on a node of its kind. Raises: UsageError where no such can be used."""
        values = {"verb": RESOLVE, "backend": name, "require_device": require_device}
        (found,) = run([Job(name, values, _needs(name))], cluster=self.cluster, progress=lost_nodes(self.tell))
        if found.outcome().state != "done":
            raise UsageError(f"backend {name}: {found.reason}")
        return Resolved.from_json(found.value)

    def make(self, takes: Sequence[Take]) -> list[PortError | None]:
        """As porting.parity.side.capture_all: what runs on one kind of device is one job on one node.

        What is computed in float64 goes where the first is captured: it needs no device, and the same packages.
        """
        groups: dict[str, list[int]] = {}
        for number, take in enumerate(takes):
            of = takes[0] if take.side.compute == "float64" else take
            groups.setdefault(str(of.side.resolved.backend), []).append(number)
        jobs = [_job(backend, [takes[number] for number in numbers]) for backend, numbers in groups.items()]
        errors: list[PortError | None] = [None] * len(takes)
        ended = run(jobs, cluster=self.cluster, workers=1, progress=lost_nodes(self.tell))
        for numbers, found in zip(groups.values(), ended, strict=True):
            if found.state == "done":
                for number, error in zip(numbers, found.value, strict=True):
                    errors[number] = decode_error(error) if error else None
                continue
            for number in numbers:
                errors[number] = found.error or _crashed(takes[number], found.outcome())
        return errors


def captures_on(cluster: str | None, *, steps: int, tell: Callable[[str], None]) -> ClusterCaptures | None:
    """Where captures are made; None for this machine. Raises: UsageError for training, which stays on one machine."""
    if cluster is None:
        return None
    if steps:
        raise UsageError("--cluster: makes captures; with --steps both sides train on this machine")
    return ClusterCaptures(cluster, tell)


def _needs(backend: str) -> dict[str, float]:
    return {BackendName.parse(backend).kind: 1}


def _job(backend: str, takes: Sequence[Take]) -> Job:
    """Captures on one node. An emulated device needs none: its node was chosen for what it was asked as."""
    timeout = max(take.side.timeout for take in takes)
    inputs: dict[str, tuple[str, ...]] = {}
    for take in takes:
        subject = take.side.subject
        if take.forced_by is not None and take.forced_by not in [each.folder for each in takes]:
            inputs[str(take.forced_by.absolute())] = files_of(take.forced_by)
        for path in filter(None, (subject.checkpoint, subject.batch)):
            inputs[path] = checkpoint_files(path)
    values = {"verb": CAPTURE, "takes": [take.job() for take in takes], "timeout": timeout}
    outputs = tuple(str(take.folder.absolute()) for take in takes)
    return Job(f"captures on {backend}", values, _needs(backend), timeout + SLACK, inputs, outputs)


def checkpoint_files(path: str) -> tuple[str, ...]:
    """The files of a checkpoint of any format. Raises: UsageError for one that lies in several folders; FormatError."""
    place = Path(path).absolute()
    files = tuple(str(file.absolute()) for file in read(place).files)
    outside = [file for file in files if not Path(file).is_relative_to(place.parent)]
    if outside:
        raise UsageError(f"{path}: {outside[0]} lies in another folder: such a checkpoint cannot be sent to a node")
    return files


def _crashed(take: Take, outcome: Outcome) -> PortError | None:
    """A capture of the state `crashed`, written here: the node has sent none."""
    try:
        take.write_crash(outcome)
    except PortError as error:
        return error
    return None
