"""Training on several devices: a process for each, started by torchrun (PyTorch) or msrun (MindSpore).

    world()                   this process's place, by what the launcher says
    ranks = meet(backend)     before the device is prepared: None for one process
    ranks.join(session)       the session trains with the others from now on (porting.train.start.open_trainee)
    Part(batches, world())    its part of each batch, of batches that are those of all ranks (porting.train.loop.train)
    together(work)            done by rank 0, while the others wait
    alone_in(folder)          rank 0 keeps other runs out of it, for all

Rank 0 writes what all have in common (`World.leads`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from porting.backends.group import ALONE, Collective, Team, World, gather, part_of
from porting.backends.names import BackendName
from porting.errors import UsageError
from porting.lock import locked

if TYPE_CHECKING:
    from porting.backends.lifeline import Lifeline
    from porting.backends.protocol import Batch
    from porting.train.loop import Batches

__all__ = ["ALONE", "Part", "Ranks", "World", "alone_in", "leave", "meet", "schedule", "together", "world"]

T = TypeVar("T")
_TABLE = "RANK_TABLE_FILE"
LOCK = "run.lock"


def world(variables: Mapping[str, str] | None = None) -> World:
    """This process's place among those of its run; one process where no launcher has started it.

    torchrun sets RANK, WORLD_SIZE, LOCAL_RANK; msrun RANK_ID, MS_WORKER_NUM, DEVICE_ID.
    Raises: UsageError for variables that contradict each other.
    """
    said = os.environ if variables is None else variables
    if "MS_ROLE" in said:
        if said["MS_ROLE"] == "MS_SCHED":
            return World(-1, _number(said, "MS_WORKER_NUM"), -1)
        if "MS_NODE_ID" not in said:
            raise UsageError("msrun has not numbered the ranks: on several machines it wants --node_rank")
        names = ("RANK_ID", "MS_WORKER_NUM", "DEVICE_ID")
    elif "RANK" in said and "WORLD_SIZE" in said:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    else:
        return ALONE
    rank, size, local = (_number(said, name) for name in names)
    if rank >= size or local > rank:
        raise UsageError(", ".join(f"{name}={said[name]}" for name in names) + ": is no place among the ranks")
    return World(rank, size, local)


def _number(said: Mapping[str, str], name: str) -> int:
    text = said.get(name, "")
    if not text.isdecimal():
        raise UsageError(f"{name}: wanted a number, as the launcher sets it, got {text or 'nothing'}")
    return int(text)


@dataclass(frozen=True, slots=True)
class Part:
    """A rank's part of batches (porting.train.loop.Batches): rows rank·B to (rank + 1)·B of N·B.

    batches: of all ranks together, the same on each.
    """

    batches: Batches
    world: World

    @property
    def per_epoch(self) -> int:
        """Batches of one epoch."""
        return self.batches.per_epoch

    def batch(self, epoch: int, number: int) -> Batch:
        """This rank's part of a batch. Raises: UsageError for one that the ranks cannot share evenly."""
        whole = self.batches.batch(epoch, number)
        for name, array in whole.items():
            if len(array) % self.world.size:
                raise UsageError(f"{name}: {len(array)} examples are not shared evenly by {self.world.size} ranks")
        return {name: part_of(array, self.world) for name, array in whole.items()}


@dataclass(frozen=True, slots=True)
class Ranks:
    """The ranks of this run, who have met."""

    world: World
    collective: Collective
    lifeline: Lifeline

    def join(self, session: Any) -> None:
        """Train a session with those of the other ranks. Its weights and its state are set by each for itself.

        Raises: UsageError for a framework that trains on one device.
        """
        if not hasattr(session, "join"):
            raise UsageError(f"{type(session).__name__}: trains on one device")
        session.join(Team(self.world, self.collective, self.lifeline))

    def wait(self) -> None:
        """Until all are here. Raises: UsageError."""
        Team(self.world, self.collective, self.lifeline).meet()


_MET: list[Ranks] = []
"""Of this process: one, after they have met."""


def meet(backend: BackendName) -> Ranks | None:
    """Meet the other ranks, before the device is prepared; None for one process. Once for all sessions of a process.

    Raises: UsageError for a launcher of another framework, and where they do not meet; MismatchError for a rank table
    (RANK_TABLE_FILE) that is not this world's.
    """
    schedule()
    here = world()
    if here.size == 1:
        return None
    wanted, launcher = ("mindspore", "msrun") if "MS_ROLE" in os.environ else ("torch", "torchrun")
    if backend.known != wanted or backend.options:
        raise UsageError(f"backend {backend}: {launcher} starts {wanted} on devices that are there")
    if os.environ.get(_TABLE):
        from porting.train.rank_place import check_place

        check_place(Path(os.environ[_TABLE]), here, os.environ)
    return _met(backend.known, backend.device, here)


def together(work: Callable[[], T]) -> T | None:
    """Let rank 0 do what the others go on from; they wait for it, and get None.

    Raises: UsageError for a rank that has ended.
    """
    done = work() if world().leads else None
    for ranks in _MET:
        ranks.wait()
    return done


def alone_in(folder: Path) -> AbstractContextManager[None]:
    """Keep another run out of a folder while this one trains there. Raises, of rank 0: UsageError, FormatError."""
    return locked(folder / LOCK, "trains there now") if world().leads else nullcontext()


def leave() -> None:
    """The end of a rank's work, in a process that ends without Python's own end (porting.backends.worker)."""
    for ranks in _MET:
        ranks.collective.finish()


def schedule() -> None:
    """In msrun's scheduler, which runs the same command: serve until all ranks have ended, and end the process.

    Raises: UsageError where a rank has ended before the others.
    """
    here = world()
    if here.rank < 0 and here.size > 1:
        import_module("porting.backends.mindspore.parallel").begin("cpu", here)
    if here.rank < 0:
        sys.exit(0)


@cache
def _met(framework: str, device: str, here: World) -> Ranks:
    from porting.backends import lifeline

    collective: Collective = import_module(f"porting.backends.{framework}.parallel").begin(device, here)
    meeting = os.environ.get("MS_SCHED_HOST" if framework == "mindspore" else "MASTER_ADDR", "127.0.0.1")
    line = lifeline.join(here.rank, here.size, meeting, lambda said: gather(collective, here, said))
    _MET.append(Ranks(here, collective, line))
    return _MET[-1]
