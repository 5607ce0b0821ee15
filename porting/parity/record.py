"""Records a session: weights, taps, gradients and training steps of one subject on one backend, as a capture.

What a replica permuted is put back before it is written, and every parameter goes under its name in the family's first
dialect, so captures compare name by name whatever framework, and whatever order of sums, made them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from porting.backends.feed import NoSuchTaps
from porting.errors import UsageError
from porting.parity.capture import Section
from porting.parity.naming import Naming
from porting.parity.replica import Replica
from porting.parity.state import Level
from porting.parity.taps import candidates, gaps

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Build, Session
    from porting.model.spec import Config, ModelSpec
    from porting.parity.reader import Capture
    from porting.parity.writer import CaptureWriter

LEVELS = (Level.WEIGHTS, Level.FORWARD, Level.BACKWARD, Level.STEP)
"""What a capture may hold."""


@dataclass(frozen=True)
class Net:
    """A session with what it runs. batch: as this session wants it, permuted for a replica."""

    spec: ModelSpec
    config: Config
    build: Build
    session: Session
    naming: Naming
    batch: Mapping[str, Array]
    replica: Replica | None = None

    def parameter(self, name: str, tensor: Array) -> Array:
        """A canonical parameter, gradient or moment, in the source's order."""
        return tensor if self.replica is None else self.replica.undo_parameter(name, tensor)

    def tap(self, name: str, tensor: Array) -> Array:
        """A tap in the source's order."""
        return tensor if self.replica is None else self.replica.undo_tap(name, tensor)


def taps_of(net: Net) -> tuple[str, ...]:
    """The taps that this task of the model has, in the order of computation.

    Raises: UsageError if it has none; RuntimeError for taps that are there in some layers and give nothing in others,
    which is no property of a task but a fault of the port.
    """
    wanted = list(candidates(net.spec, net.config))
    while wanted:
        try:
            found = net.session.forward(net.batch, wanted)
        except NoSuchTaps as error:
            wanted = [name for name in wanted if name not in error.names]
            continue
        taps = tuple(name for name in wanted if name in found)
        if silent := [*(name for name in wanted if name not in found), *gaps(net.spec, taps)]:
            raise RuntimeError(f"{net.spec.name} {net.build.task}: taps that gave nothing: {', '.join(silent)}")
        return taps
    raise UsageError(f"{net.spec.name} {net.build.task}: none of its taps gave a value")


def record(
    net: Net,
    writer: CaptureWriter,
    *,
    levels: Collection[Level],
    taps: Collection[str],
    steps: int = 0,
    forced_by: Capture | None = None,
    progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> None:
    """Write what is asked for, tensor by tensor, in the order of levels.

    steps: training steps, each a line. That of level L4, whose weights and moments are kept, is the first at a rate
    above 0, or the last: a warm-up's first step changes no weight.
    forced_by: a capture of the other side, whose taps every module is given in place of those before it.
    Raises: UsageError for steps without a recipe, taps that the other side lacks, and what the session raises.
    """
    tell = progress or _quiet
    if Level.WEIGHTS in levels:
        _parameters(net, writer, "weights", net.session.weights())
        tell({"done": "weights"})
    shapes: dict[str, tuple[int, ...]] = {}
    if Level.FORWARD in levels:
        found = net.session.forward(net.batch, taps)
        shapes = {name: value.shape for name, value in found.items()}
        _taps(net, writer, "forward", found, taps)
        tell({"done": "forward"})
    if forced_by is not None:
        # A tap of another shape than the source's differs already: it goes on as it is, and the rest is still forced.
        given = {name: v for name, v in _given(forced_by, taps).items() if shapes.get(name, v.shape) == v.shape}
        _taps(net, writer, "forced", net.session.forward(net.batch, taps, given), taps)
        tell({"done": "forced"})
    if Level.BACKWARD in levels:
        _parameters(net, writer, "gradients", net.session.gradients(net.batch)[1])
        tell({"done": "gradients"})
    wanted = Level.STEP in levels
    for number in range(steps):
        moves = _step(net, writer, number) > 0 or number == steps - 1
        if wanted and moves:
            _updated(net, writer)
            wanted = False
        tell({"done": f"step {number + 1} of {steps}"})


def _taps(
    net: Net, writer: CaptureWriter, section: Section, values: Mapping[str, Array], taps: Collection[str]
) -> None:
    for name in taps:
        if name in values:
            writer.add(section, name, net.tap(name, np.asarray(values[name])))


def _given(source: Capture, taps: Collection[str]) -> dict[str, Array]:
    """The other side's taps. Raises: UsageError for a capture that lacks some, or holds summaries only."""
    found: dict[str, Array] = {}
    for name in taps:
        tensor = source.tensor("forward", name) if ("forward", name) in source.summaries else None
        if tensor is None:
            raise UsageError(f"tap {name}: {source.folder}, whose taps are to be given, holds no whole tensor of it")
        found[name] = np.array(tensor)  # a session may want to write where it is given a value
    return found


def _parameters(net: Net, writer: CaptureWriter, section: Section, tensors: Mapping[str, Array]) -> None:
    for name, tensor in net.naming.canonical(tensors):
        writer.add(section, name, net.parameter(name, np.asarray(tensor)))


def _step(net: Net, writer: CaptureWriter, number: int) -> float:
    """Make one, and write its line. Its rate."""
    started = time.perf_counter()
    done = net.session.step(net.batch)
    seconds = time.perf_counter() - started
    writer.step(
        {
            "step": number, "loss": done.loss, "lr": done.lr, "grad_norm": done.grad_norm,
            "loss_scale": done.loss_scale, "overflow": done.overflow, "seconds": seconds,
        }
    )  # fmt: skip
    return done.lr


def _updated(net: Net, writer: CaptureWriter) -> None:
    """Weights and moments as they are now."""
    _parameters(net, writer, "step.weights", net.session.weights())
    slots = net.session.slots()
    _parameters(net, writer, "step.m", slots["m"])
    _parameters(net, writer, "step.v", slots["v"])


def _quiet(values: Mapping[str, Any]) -> None:
    del values
