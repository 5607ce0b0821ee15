"""Sums over the ranks that torchrun has started, by gloo, NCCL or HCCL as the device wants it."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from importlib import import_module

import numpy as np
import torch
import torch.distributed as dist

from porting.backends.group import Numbers, Team, World, sum_joined
from porting.errors import UsageError, first_line_of

Slopes = Sequence[torch.Tensor | None]

BY_DEVICE = {"cpu": "gloo", "cuda": "nccl", "npu": "hccl"}
LIMIT = timedelta(minutes=10)
"""That the ranks may be behind one another. One that has ended is known before: porting.backends.lifeline."""


def begin(device: str, world: World) -> TorchCollective:
    """Make this rank's device the current one, and meet the others. device: cpu, cuda or npu.

    Raises: UsageError where that cannot be done.
    """
    try:
        if device == "npu":
            import_module("torch_npu")
        if device != "cpu":
            getattr(torch, device).set_device(world.local)
        dist.init_process_group(BY_DEVICE[device], timeout=LIMIT)
    except (RuntimeError, ValueError, ImportError, OSError) as error:
        raise UsageError(f"rank {world.rank}: {BY_DEVICE[device]} does not begin: {first_line_of(error)}") from error
    atexit.register(_finish)
    return TorchCollective(device)


def _finish() -> None:
    with suppress(RuntimeError, ValueError, AssertionError):
        dist.destroy_process_group()


class TorchCollective:
    """See porting.backends.group.Collective."""

    def __init__(self, device: str) -> None:
        self._device = device

    def sum(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Sums of tensors of one dtype."""
        return sum_joined(tensors, torch.Tensor.numel, self._joined)

    def numbers(self, values: Numbers) -> Numbers:
        """The same of a vector on the host."""
        tensor = torch.from_numpy(np.array(values)).to(self._device)
        dist.all_reduce(tensor)
        self._wait()
        return tensor.cpu().numpy()

    def finish(self) -> None:
        """Leave the group."""
        _finish()

    def _joined(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        self._wait()
        return flat

    def _wait(self) -> None:
        """For a device that works on its own: who waits for others waits here, where it is watched."""
        if self._device != "cpu":
            getattr(torch, self._device).current_stream().synchronize()


def summed(team: Team, loss: torch.Tensor, grads: Slopes, rows: Slopes) -> tuple[torch.Tensor, Slopes, Slopes]:
    """The loss and gradients of the whole batch, of this rank's share of each.

    rows: gradients of gathered rows, which stand side by side in the whole batch. Only their norm is wanted, and that
    of all rows is the norm of the ranks' norms: so a vector of those takes their place.
    """
    present = [grad for grad in (*grads, *(_own_norm(team.world, slope) for slope in rows)) if grad is not None]
    total, *rest = team.sum([loss.reshape(1).to(present[0].dtype), *present])
    found = iter(rest)
    made = [None if grad is None else next(found) for grad in (*grads, *rows)]
    return total[0], made[: len(grads)], made[len(grads) :]


def _own_norm(world: World, slope: torch.Tensor | None) -> torch.Tensor | None:
    """A rank's norm in its place, for the sum over ranks to hold them all."""
    if slope is None:
        return None
    norms = slope.new_zeros(world.size)
    norms[world.rank] = torch.linalg.vector_norm(slope.double() if slope.device.type == "cpu" else slope)
    return norms
