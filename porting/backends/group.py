"""Training by several processes, each with its part of a batch: what their sessions have to do with each other.

A process is a rank. Every rank computes its part's share of the loss and of its gradients, and the sums over all ranks
are what the recipe clips, checks for overflow and updates by; so all ranks make the same step, and it is the step of
one process with the whole batch, but for the order in which the sums are taken.

The share of a part: a loss that is a mean over examples counts 1/size. One that is a mean over what is labelled, or a
sum of such (`Task.means`), counts by what the part has of all that is labelled in the whole batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from porting.backends.protocol import Array, Batch, Session
from porting.errors import UsageError, first_line_of
from porting.model.spec import Mean, ModelSpec, Task

if TYPE_CHECKING:
    from porting.backends.lifeline import Lifeline

Numbers = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run. rank: this one's place, from 0. size: all of them. local: its place on its own machine.

    A scheduler (msrun's), which trains nothing, has rank -1.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes what all have in common: logs, states, results."""
        return self.rank == 0


ALONE = World()
"""One process."""


class Collective(Protocol):
    """What a framework does between ranks. Every rank calls the same in the same order."""

    def sum(self, tensors: Sequence[Any]) -> list[Any]:
        """The sum over ranks of each of the framework's tensors, the same bits on every rank."""
        ...

    def numbers(self, values: Numbers) -> Numbers:
        """The same of a vector on the host."""
        ...

    def finish(self) -> None:
        """Say that this rank has ended well, where the process will not end as Python's processes do."""
        ...


JOINED = 1 << 24
"""Elements that are summed at once: 64 MiB of float32."""


def sum_joined(tensors: Sequence[Any], size: Callable[[Any], int], reduce: Callable[[Sequence[Any]], Any]) -> list[Any]:
    """Sums of tensors, many in a call: few large messages are faster than many small ones.

    size: elements of a tensor. reduce: the sum over ranks of several tensors, joined to a vector.
    """
    joined: list[list[Any]] = [[]]
    room = JOINED
    for tensor in tensors:
        if joined[-1] and size(tensor) > room:
            joined.append([])
            room = JOINED
        joined[-1].append(tensor)
        room -= size(tensor)
    found: list[Any] = []
    for several in joined:
        flat, start = reduce(several), 0
        for tensor in several:
            found.append(flat[start : start + size(tensor)].reshape(tensor.shape))
            start += size(tensor)
    return found


def gather(collective: Collective, world: World, said: bytes, room: int = 256) -> list[bytes]:
    """What every rank says, by rank: a sum of rows, each of which one rank fills. Bytes are exact in float32."""
    rows = np.zeros((world.size, room), np.float32)
    rows[world.rank, : len(said)] = np.frombuffer(said[:room], np.uint8)
    found = collective.numbers(rows.reshape(-1)).reshape(rows.shape).astype(np.uint8)
    return [bytes(row).rstrip(b"\0") for row in found]


@dataclass(slots=True)
class Team:
    """A session's part in its group.

    collective: of its framework, which may raise RuntimeError. lifeline: knows who has ended.
    """

    world: World
    collective: Collective
    lifeline: Lifeline
    agreed: bool = field(default=False)

    def sum(self, tensors: Sequence[Any]) -> list[Any]:
        """The sum over ranks of each tensor. Raises: UsageError if the ranks have lost each other."""
        return self._together(lambda: self.collective.sum(tensors))

    def begin(self, session: Session, task: Task, batch: Batch) -> dict[str, float]:
        """What comes before a rank's part is computed: its shares, and once that all stand at one place.

        Raises: UsageError.
        """
        self.agree(session, batch)
        return self.shares(task, batch)

    def meet(self) -> None:
        """Wait until all ranks are here. Raises: UsageError if the ranks have lost each other."""
        self._together(lambda: self.collective.numbers(np.zeros(1, np.float32)))

    def shares(self, task: Task, batch: Batch) -> dict[str, float]:
        """By loss, or part of a loss, the factor of this rank's in that of all.

        Raises: UsageError for a part without anything that counts, if the loss is not defined then.
        """
        means = task.means or (Mean("loss"),)
        own = np.array([_count(mean, batch) for mean in means], np.float32)
        if not any(mean.counts for mean in means):
            return {mean.tap: 1 / self.world.size for mean in means}
        total = self._together(lambda: self.collective.numbers(own))
        found: dict[str, float] = {}
        for mean, mine, all_ in zip(means, own.tolist(), total.tolist(), strict=True):
            if not mine and not (mean.more or mean.floor):
                raise UsageError(f"{mean.counts}: nothing in the part of rank {self.world.rank} counts: a larger batch")
            found[mean.tap] = (
                _denominator(mean, mine) / _denominator(mean, all_) if mean.counts else 1 / self.world.size
            )
        return found

    def agree(self, session: Session, batch: Batch) -> None:
        """Refuse, before the first step, ranks that do not stand at one place.

        Raises: UsageError, on every rank, naming the first that differs from rank 0, and in what.
        """
        if self.agreed:
            return
        what = {
            "weights": _digest({name: tensor.tobytes() for name, tensor in session.weights().items()}),
            "steps made": _digest({"counters": repr(asdict(session.counters())).encode()}),
            "shapes of the batch": _digest({name: repr(np.shape(array)).encode() for name, array in batch.items()}),
        }
        found = self._together(lambda: gather(self.collective, self.world, "".join(what.values()).encode()))
        for rank, said in enumerate(found):
            if said != found[0]:
                width = len(said) // len(what)
                there = [name for i, name in enumerate(what) if _cut(said, i, width) != _cut(found[0], i, width)]
                raise UsageError(
                    f"rank {rank} does not stand where rank 0 does: it has other {', '.join(there)}; "
                    "all ranks begin from the same checkpoint, or the same state in a folder that all see"
                )
        self.agreed = True

    def _together(self, call: Callable[[], T]) -> T:
        """What all ranks do at once. Where it fails one is gone as a rule: then this process ends, and names it."""
        with self.lifeline.waiting():
            try:
                return call()
            except RuntimeError as error:
                self.lifeline.settle()
                title = f"rank {self.world.rank}: the ranks have lost each other"
                raise UsageError(f"{title}: {first_line_of(error)}") from error


def whole_shapes(spec: ModelSpec, batch: Batch, world: World) -> dict[str, tuple[int, ...]]:
    """Shapes of the features of the whole batch, of those of one part."""
    axes = {feature.name: feature.axes.split() for feature in spec.features}
    return {
        name: tuple(
            size * world.size if label == "batch" else size
            for label, size in zip(axes.get(name, ["batch", *[""] * (array.ndim - 1)]), array.shape, strict=True)
        )
        for name, array in batch.items()
    }


def part_of(array: Array, world: World) -> Array:
    """This rank's rows of what belongs to a whole batch."""
    rows = len(array) // world.size
    return array[world.rank * rows : (world.rank + 1) * rows]


def _count(mean: Mean, batch: Batch) -> float:
    """What counts in a part: the sum of weights, or the number of labels that are not ignored; 1 for all alike."""
    if mean.counts not in batch:
        return 1.0
    array = np.asarray(batch[mean.counts])
    return float(array.sum() if array.dtype.kind == "f" else (array >= 0).sum())


def _denominator(mean: Mean, count: float) -> float:
    return max(count + mean.more, mean.floor)


def _digest(parts: Mapping[str, bytes]) -> str:
    state = hashlib.sha256()
    for name in sorted(parts):
        state.update(f"{name}\0{len(parts[name])}\0".encode())
        state.update(parts[name])
    return state.hexdigest()[:32]


def _cut(said: bytes, index: int, width: int) -> bytes:
    return said[index * width : (index + 1) * width]
