"""What the tests of replicas, floors and the probe share: every model and task, tiny, in PyTorch."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from porting.backends.protocol import Build
from porting.errors import UsageError
from porting.model.registry import models
from porting.parity.capture import Manifest
from porting.parity.probe import probe_batch, probe_weights
from porting.parity.reader import read_capture
from porting.parity.writer import CaptureWriter
from porting.testing.tiny import tiny

CASES = [(spec.name, task.name) for spec in models().values() if spec.symmetry for task in spec.tasks]
TRAINED = [case for case in CASES if case[1] not in ("encoder", "student", "teacher")]
SEEDS = (1, 2, 3)


class Net:
    """A tiny model of a task in PyTorch with the probe's weights, and its batch."""

    def __init__(self, name, task, config=None, **extra):
        from porting.backends.torch.run import open_session

        self.spec = models()[name]
        self.config = config or tiny(self.spec)
        self.build = Build(task, labels=1 if task == "regression" else 3, extra=extra)
        self.session = open_session(self.spec, self.config, self.build)
        self.dialect = self.spec.dialects["pytorch"]
        self.shapes = self.session.parameters
        self.weights = probe_weights(self.spec, self.config, self.build, self.shapes, self.dialect)
        self.batch = probe_batch(self.spec, self.config, self.build)
        self.session.load(self.weights)
        self.taps = self._taps()

    def _taps(self):
        """Every tap that this task has, with its layers."""
        layers = range(2 * sum(getattr(self.config, key, 0) for key in ("num_hidden_layers", "n_layer")))
        names = [tap.name.replace("{layer}", str(i)) for tap in self.spec.taps for i in layers]
        return [name for name in dict.fromkeys(names) if self._has(name)]

    def _has(self, tap):
        try:
            return tap in self.session.forward(self.batch, [tap])
        except UsageError:
            return False

    def forward(self, weights=None, batch=None):
        """The taps, with these weights or the probe's, and these features instead of the batch's own."""
        self.session.load(weights or self.weights)
        return self.session.forward({**self.batch, **(batch or {})}, self.taps)

    def truth(self):
        """Taps and gradients of the same model in float64."""
        from porting.backends.torch.run import open_session

        exact = open_session(self.spec, self.config, replace(self.build, compute="float64"))
        exact.load(self.weights)
        taps = exact.forward(self.batch, self.taps)
        return taps, exact.gradients(self.batch)[1] if self.trains else {}

    @property
    def unread(self):
        """Parameters that this task does not use: nothing can show in them."""
        if not self.trains:
            return set()
        return {name for name, grad in self.run()[1].items() if not grad.any()}

    @property
    def trains(self):
        return "loss" in self.taps

    def run(self, replica=None, left_behind=""):
        """Taps and gradients, of the model or of a replica of it, in the source's order.

        left_behind: a parameter that is not permuted.
        """
        weights, batch = self.weights, self.batch
        if replica is not None:
            moved = {name: replica.parameter(name, tensor) for name, tensor in weights.items()}
            weights = {name: weights[name] if name == left_behind else moved[name] for name in weights}
            batch = {name: replica.feature(name, tensor) for name, tensor in batch.items()}
        self.session.load(weights)
        taps = self.session.forward(batch, self.taps)
        grads = self.session.gradients(batch)[1] if self.trains else {}
        if replica is not None:
            taps = {name: replica.undo_tap(name, tensor) for name, tensor in taps.items()}
            grads = {name: replica.undo_parameter(name, tensor) for name, tensor in grads.items()}
        return taps, grads


@cache
def net(name, task):
    return Net(name, task)


def l2(tensor):
    return float(np.linalg.norm(np.asarray(tensor, np.float64)))


def apart(one, two):
    """Relative L2 of a pair; 0 of two that are 0."""
    difference = l2(np.asarray(one, np.float64) - np.asarray(two, np.float64))
    return difference / l2(one) if difference else 0.0


def visible(tensor):
    """Without what a mask has put far below: at 1e30 it would hide everything else."""
    return np.where(np.abs(tensor) < 1000, tensor, 0)


def recorded(folder, sections, *, whole=True, **changes):
    """A capture of tensors by section and name, written and read."""
    made = {
        "model": "bert",
        "config": {"hidden_size": 4},
        "build": {"task": "mlm", "compute": "float32"},
        "backend": "torch:cpu",
        "framework": "pytorch",
        "device": "cpu",
        "weights": "w",
        "batch": "b",
    }
    with CaptureWriter(folder, Manifest(**{**made, **changes}), whole=whole) as writer:
        for section, tensors in sections.items():
            for name, tensor in tensors.items():
                writer.add(section, name, tensor)
        return read_capture(writer.finish())
