"""This machine as the place where jobs run: as many at once as it has of what they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Condition, Event

from porting.cluster.job import Job, Result
from porting.cluster.node import Progress, denied, perform
from porting.cluster.parcel import Staged
from porting.errors import UsageError

HERE = "here"
"""The name of this node."""


@dataclass(slots=True)
class LocalPlace:
    """Of a CPU it has as many as workers were asked for; of a GPU, an NPU and anything else one.

    Devices are not told apart: CUDA_VISIBLE_DEVICES or ASCEND_RT_VISIBLE_DEVICES choose among several.
    """

    workers: int = 1
    stopped: Event = field(default_factory=Event)
    _used: dict[str, float] = field(default_factory=dict)
    _turn: Condition = field(default_factory=Condition)

    @property
    def at_once(self) -> int:
        """Jobs that may run at the same time."""
        return self.workers

    def check(self, jobs: list[Job]) -> None:
        """Raises: UsageError for a job that needs more than there is."""
        for job in jobs:
            for name, count in job.needs.items():
                if count > self._has(name):
                    raise UsageError(f"{job.name}: needs {count:g} {name}; here there is {self._has(name):g}")

    def perform(self, job: Job, progress: Progress | None) -> Result:
        """Run a job as soon as there is what it needs."""
        with self._taking(job.needs):
            if self.stopped.is_set():
                return Result("lost", reason="was stopped before it began", node=HERE, attempts=0)
            try:
                return replace(self._performed(job, progress), node=HERE)
            except OSError as error:
                return Result.refused(denied(error, Path()))

    def _performed(self, job: Job, progress: Progress | None) -> Result:
        staged = Staged(tuple(Path(path) for path in job.outputs))
        places = {path: str(place) for path, place in zip(job.outputs, staged.places, strict=True)}
        with TemporaryDirectory(prefix="port-job-", ignore_cleanup_errors=True) as room, staged:
            result = perform(job, places, folder=Path(room), progress=progress, stop=self.stopped)
            if result.state == "done":
                staged.commit()
            return result

    def stop(self) -> None:
        """End what runs."""
        self.stopped.set()

    def _has(self, name: str) -> float:
        return self.workers if name == "cpu" else 1

    @contextmanager
    def _taking(self, needs: Mapping[str, float]) -> Iterator[None]:
        def free() -> bool:
            return all(self._used.get(name, 0) + count <= self._has(name) for name, count in needs.items())

        with self._turn:
            self._turn.wait_for(free)
            for name, count in needs.items():
                self._used[name] = self._used.get(name, 0) + count
        try:
            yield
        finally:
            with self._turn:
                for name, count in needs.items():
                    self._used[name] -= count
                self._turn.notify_all()
