"""A Ray cluster as the place where jobs run: each is a task on a node that has what it needs.

Inputs go to the node and outputs come back in pieces, with their hashes. A job whose node is lost is tried on another,
ATTEMPTS times in all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Condition, Event, Lock
from typing import Any

from porting.cluster.job import Job, Result
from porting.cluster.node import Progress, denied
from porting.cluster.nodes import Node, check_needs, connect, nodes, nowhere, options
from porting.cluster.parcel import Message, Staged, Unpacking, packed
from porting.cluster.ray_node import task
from porting.errors import FormatError, PortError, first_line_of
from porting.version import VERSION

ATTEMPTS = 3
"""Nodes that a job is tried on before it is given up."""

AT_ONCE = 64
"""Jobs that are given to the cluster at the same time; Ray queues what does not fit yet."""

LOOK = 1.0
"""Seconds between looks at whether a waiting job has a node that it could run on."""

WAIT = 30.0
"""Seconds that a job waits for such a node to come back."""


class LostError(Exception):
    """A node, or what it had sent, is lost."""


class NowhereError(LostError):
    """There is no node left that another attempt could be made on."""


def connected(address: str) -> RayPlace:
    """The cluster at an address. Raises: UsageError."""
    return RayPlace(connect(address))


@dataclass(slots=True)
class RayPlace:
    """A cluster that this process is connected to."""

    ray: Any
    at_once: int = AT_ONCE
    stopped: Event = field(default_factory=Event)
    _inputs: dict[tuple[str, ...], list[Any]] = field(default_factory=dict)
    _putting: Lock = field(default_factory=Lock)
    _busy: set[str] = field(default_factory=set)
    _turn: Condition = field(default_factory=Condition)

    def check(self, jobs: list[Job]) -> None:
        """Raises: UsageError for a job that fits on no node."""
        check_needs(jobs, nodes(self.ray))

    def perform(self, job: Job, progress: Progress | None) -> Result:
        """Run a job, on another node if one is lost, and bring its outputs."""
        told: list[str] = []
        for attempt in range(1, ATTEMPTS + 1):
            try:
                result = self._attempt(job, progress)
            except LostError as error:
                told.append(f"attempt {attempt} of {ATTEMPTS}: {error}")
                if progress and not self.stopped.is_set():
                    progress({"lost": told[-1]})
                if self.stopped.is_set() or isinstance(error, NowhereError):
                    break
            except PortError as error:
                return replace(Result.refused(error), attempts=attempt, told=tuple(told))
            except OSError as error:
                return replace(Result.refused(denied(error, Path())), attempts=attempt, told=tuple(told))
            else:
                return replace(result, attempts=attempt, told=tuple(told))
        return Result("lost", reason=told[-1], attempts=len(told), told=tuple(told))

    def stop(self) -> None:
        """End what runs."""
        self.stopped.set()

    def _attempt(self, job: Job, progress: Progress | None) -> Result:
        """Raises: LostError; UsageError, FormatError or OSError for what cannot be read or written here."""
        staged = Staged(tuple(Path(path) for path in job.outputs))
        with staged, self._placing(job) as placed:
            remote = self.ray.remote(task).options(max_retries=0, **options(job.needs), **placed)
            messages = remote.remote(job.to_json(), VERSION, self._sent(job))
            try:
                result = self._received(job, messages, staged, progress)
            finally:
                self.ray.cancel(messages)  # of one that has ended it is nothing
            if result.state == "done":
                staged.commit()
            return result

    def _received(self, job: Job, messages: Any, staged: Staged, progress: Progress | None) -> Result:
        arriving, errors = _Arriving(Unpacking(staged.places), progress), self.ray.exceptions
        try:
            for message in self._messages(job, messages):
                arriving.take(message)
                if arriving.ended and arriving.result is not None and arriving.unpacking.whole:
                    return arriving.result
        except FormatError as error:  # of what arrived
            raise LostError(f"{arriving.name}: {error}") from error
        except errors.RayTaskError as error:
            last = str(error).strip().splitlines()[-1]
            return Result("crashed", reason=f"{arriving.name}: {last}", node=arriving.name)
        except errors.OutOfMemoryError as error:
            return Result("crashed", reason=f"{arriving.name}: out of memory: {_first(error)}", node=arriving.name)
        except errors.RayError as error:
            raise LostError(f"{arriving.name}: {_first(error)}") from error
        finally:
            arriving.unpacking.close()
        raise LostError(f"{arriving.name}: ended before all had arrived")

    def _messages(self, job: Job, messages: Any) -> Iterator[Message]:
        """What the node sends, as long as there is one that may send. Raises: LostError, RayError."""
        began, since = False, time.monotonic()
        while not self.stopped.is_set():
            if not self.ray.wait([messages], timeout=LOOK)[0]:
                there = [] if began else nodes(self.ray)
                if began or any(node.fits(job.needs) for node in there):
                    since = time.monotonic()
                elif time.monotonic() - since > WAIT:
                    raise NowhereError(nowhere(job.needs, there))
                continue
            try:
                reference = next(messages)
            except StopIteration:
                return
            yield self.ray.get(reference)
            began = True
        raise LostError("was stopped")

    def _sent(self, job: Job) -> list[dict[str, Any]]:
        """The inputs of a job as the node takes them, each sent to the cluster once."""
        groups: dict[str, dict[str, Any]] = {}
        for path, files in job.inputs.items():
            root = str(Path(path).parent)
            group = groups.setdefault(root, {"root": root, "paths": [], "files": {}})
            group["paths"].append(path)
            group["files"] |= dict.fromkeys(files)
        with self._putting:
            return [
                {"root": root, "paths": group["paths"], "pieces": self._put(Path(root), tuple(group["files"]))}
                for root, group in groups.items()
            ]

    def _put(self, root: Path, files: tuple[str, ...]) -> list[Any]:
        if files not in self._inputs:
            self._inputs[files] = [self.ray.put(piece) for piece in packed(root, [Path(file) for file in files])]
        return self._inputs[files]

    @contextmanager
    def _placing(self, job: Job) -> Iterator[dict[str, Any]]:
        """How Ray is to choose the node: over all, or, for a job that is to be alone, the one that is held for it."""
        if not job.alone:
            yield {"scheduling_strategy": "SPREAD"}
            return
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        node = self._idle(job)
        try:
            yield {"scheduling_strategy": NodeAffinitySchedulingStrategy(node.number, soft=False)}
        finally:
            with self._turn:
                self._busy.discard(node.number)
                self._turn.notify_all()

    def _idle(self, job: Job) -> Node:
        """A node that none of these jobs runs on. Raises: LostError if there is none left that fits."""
        since = time.monotonic()
        while not self.stopped.is_set():
            there = nodes(self.ray)
            fitting = [node for node in there if node.fits(job.needs)]
            with self._turn:
                idle = next((node for node in fitting if node.number not in self._busy), None)
                if idle is not None:
                    self._busy.add(idle.number)
                    return idle
                if fitting:
                    since = time.monotonic()
                elif time.monotonic() - since > WAIT:
                    raise NowhereError(nowhere(job.needs, there))
                self._turn.wait(LOOK)
        raise LostError("was stopped")


@dataclass(slots=True)
class _Arriving:
    """What a node has sent so far. name: of the node. ended: it says that this is all."""

    unpacking: Unpacking
    progress: Progress | None
    name: str = "before it began"
    result: Result | None = None
    ended: bool = False

    def take(self, message: Message) -> None:
        """One message. Raises: FormatError for a file that did not arrive as it was sent."""
        if isinstance(message, bytes) or "file" in message or "hash" in message:
            self.unpacking.take(message)
        elif "began" in message:
            self.name = f"{message['name']} {message['began'][:8]}"
        elif "progress" in message and self.progress:
            self.progress(message["progress"])
        elif "result" in message:
            self.result = replace(Result.from_json(message["result"]), node=self.name)
        self.ended = isinstance(message, dict) and "end" in message


def _first(error: Exception) -> str:
    """What Ray says first: it goes on for many lines."""
    return first_line_of(error).partition(". ")[0]
