"""Sums over the ranks that msrun has started: gloo on a CPU, HCCL on an Ascend, as MindSpore chooses by the device."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import ops
from mindspore.communication import init

from porting.backends.group import Numbers, Team, World, sum_joined
from porting.errors import UsageError, first_line_of

# MindSpore carries no types.
Tensor = Any

TARGETS = {"cpu": "CPU", "ascend": "Ascend"}


def begin(device: str, world: World) -> MindSporeCollective:
    """Make this rank's device the process's own, and meet the others. device: cpu or ascend.

    In msrun's scheduler, which runs the same command and trains nothing, it returns or ends when all have ended.
    Raises: UsageError where that cannot be done.
    """
    try:
        ms.set_device("CPU" if world.rank < 0 else TARGETS[device], max(world.local, 0) if device == "ascend" else 0)
        init()
    except (RuntimeError, ValueError) as error:
        who = "msrun's scheduler" if world.rank < 0 else f"rank {world.rank}: MindSpore does not begin"
        raise UsageError(f"{who}: {first_line_of(error)}") from error
    return MindSporeCollective()


class MindSporeCollective:
    """See porting.backends.group.Collective."""

    def __init__(self) -> None:
        self._sum = ops.AllReduce()

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Sums of float32 tensors; the kernels of the CPU know no whole numbers."""
        return sum_joined(tensors, lambda tensor: int(tensor.size), self._joined)

    def numbers(self, values: Numbers) -> Numbers:
        """The same of a vector on the host."""
        return np.array(self._sum(ms.Tensor(values)).asnumpy())

    def finish(self) -> None:
        """Take leave of the scheduler, who waits for a rank that has not: MindSpore does so as Python ends."""
        atexit._run_exitfuncs()  # noqa: SLF001 - MindSpore has no other name for it

    def _joined(self, tensors: Sequence[Tensor]) -> Tensor:
        flat = self._sum(ops.cat([tensor.reshape((-1,)) for tensor in tensors]))
        flat[:1].asnumpy()  # MindSpore goes on without its device: who waits for others waits here, where it is seen
        return flat


def factor(shares: dict[str, float]) -> float:
    """The one factor of a loss. Raises: UsageError where the parts of a loss have different ones."""
    if len(set(shares.values())) > 1:
        said = ", ".join(f"{name} {share:.6g}" for name, share in shares.items())
        raise UsageError(f"MindSpore weights a loss on several devices as a whole; its parts want {said}: use PyTorch")
    return next(iter(shares.values()))


def summed(
    team: Team, loss: Tensor, grads: Sequence[Tensor], rows: Sequence[Tensor]
) -> tuple[Tensor, Sequence[Tensor], Sequence[Tensor]]:
    """The loss and gradients of the whole batch, of this rank's share of each; see porting.backends.torch.parallel."""
    norms = [_own_norm(team.world, slope) for slope in rows]
    total, *found = team.sum([loss.reshape((1,)), *grads, *norms])
    return total[0], tuple(found[: len(grads)]), tuple(found[len(grads) :])


def _own_norm(world: World, slope: Tensor) -> Tensor:
    """A rank's norm in its place, for the sum over ranks to hold them all."""
    place = np.zeros(world.size, np.float32)
    place[world.rank] = 1
    return ops.sqrt(ops.square(slope).sum()).reshape((1,)) * ms.Tensor(place)
