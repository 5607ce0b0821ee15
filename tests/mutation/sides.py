"""Both sides of a comparison in one process: nets of any framework, planted ones and replicas too, on the probe.

A net is judged twice, as a user would have it: by the comparison of captures, whose floor is measured from replicas and
float64, and by the diagnosis.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import import_module

import numpy as np

from porting.parity.capture import Manifest
from porting.parity.capture_job import FRAMEWORKS
from porting.parity.compare import compare
from porting.parity.diagnose import diagnose
from porting.parity.floor import floor_of
from porting.parity.naming import naming_of
from porting.parity.observe import observe
from porting.parity.prepare import batch_of, canonical_dialect, content_hash, weights_of
from porting.parity.probe import STEPS, probe_recipe
from porting.parity.reader import read_capture
from porting.parity.record import LEVELS, Net, record, taps_of
from porting.parity.replica import replica_of
from porting.parity.state import Level
from porting.parity.subject import subject
from porting.parity.variation import Case
from porting.parity.writer import CaptureWriter
from porting.testing.tiny import tiny

REPLICAS = (1, 2, 3)

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Subject:
    """A tiny model of a task on the probe. config: changes of the tiny config. batch: a file of features."""

    model: str
    task: str
    config: tuple[tuple[str, object], ...] = ()
    seed: int = 0
    batch: str | None = None

    @cached_property
    def whole(self):
        one = subject(self.model, task=self.task, labels=1 if self.task == "regression" else 3, seed=self.seed)
        return replace(one, config=tiny(one.spec, **dict(self.config)).to_dict(), batch=self.batch)


class Permuted:
    """A session of a replica, as if it were one of the source: what goes in is permuted, what comes out put back."""

    def __init__(self, net):
        self.session, self.replica, self.naming = net.session, net.replica, net.naming
        self.trainable = net.session.trainable

    def load(self, weights):
        moved = {p: self.replica.parameter(p, value) for p, value in self.naming.canonical(weights)}
        self.session.load(dict(self.naming.to_native(moved)))

    def weights(self):
        return self._back(self.session.weights())

    def slots(self):
        return {role: self._back(moments) for role, moments in self.session.slots().items()}

    def forward(self, batch, taps=(), given=None):
        fed = {name: self.replica.tap(name, value) for name, value in (given or {}).items()}
        found = self.session.forward(self._fed(batch), taps, fed)
        return {name: self.replica.undo_tap(name, value) for name, value in found.items()}

    def gradients(self, batch):
        loss, found = self.session.gradients(self._fed(batch))
        return loss, self._back(found)

    def step(self, batch):
        return self.session.step(self._fed(batch))

    def _fed(self, batch):
        return {name: self.replica.feature(name, value) for name, value in batch.items()}

    def _back(self, found):
        put = {p: self.replica.undo_parameter(p, value) for p, value in self.naming.canonical(found)}
        return dict(self.naming.to_native(put))


def opened(what, framework="torch", *, run=None, package=None, replica=None, compute="float32", recipe=True):
    """A net of a subject with its weights. run, package: the session's module and the port's package, if planted."""
    one = what.whole
    spec = one.spec if package is None else replace(one.spec, package=package)
    config, build = one.configured(), one.build(compute=compute)
    learns = probe_recipe(spec) if recipe else None
    run = run or import_module(f"porting.backends.{framework}.run")
    session = run.open_session(spec, config, build, learns)
    naming = naming_of(one.spec, config, build, FRAMEWORKS[framework], session.parameters)
    weights, batch, moved = weights_of(one, build, naming.shapes)[0], batch_of(one, build), None
    if replica is not None:
        moved = replica_of(spec, config, build, replica, naming.shapes, canonical_dialect(spec))
        weights = {name: moved.parameter(name, value) for name, value in weights.items()}
        batch = {name: moved.feature(name, value) for name, value in batch.items()}
    session.load(dict(naming.to_native(weights)))
    return Net(spec, config, build, session, naming, batch, moved)


class Source:
    """The clean port in PyTorch, and what others are judged by. folder: where captures are written."""

    def __init__(self, what, folder):
        self.what, self.folder = what, folder
        self.net = opened(what)
        self.weights = weights_of(what.whole, self.net.build, self.net.naming.shapes)[0]
        self.batch = batch_of(what.whole, self.net.build)
        self.taps = taps_of(self.net)

    @cached_property
    def trains(self):
        return "loss" in self.taps

    @cached_property
    def capture(self):
        return self.recorded(opened(self.what))

    @cached_property
    def floor(self):
        replicas = [self.recorded(opened(self.what, replica=seed)) for seed in REPLICAS]
        return floor_of(self.capture, replicas, self.recorded(opened(self.what, compute="float64")))

    @cached_property
    def case(self):
        net = self.net
        native = dict(net.naming.to_native(self.weights))
        recipe = probe_recipe(net.spec)
        return Case(net.spec, net.config, net.build, native, self.batch, self.taps, recipe)

    @cached_property
    def observed(self):
        return observe(self.net.session, self.case, self.case.weights, None)

    def recorded(self, net, framework="torch", forced=None):
        """A capture of a net."""
        taps, place = taps_of(net), self.folder / f"capture-{next(_NUMBERS)}"
        build = asdict(net.build)
        del build["device"]
        manifest = Manifest(
            net.spec.name,
            net.config.to_dict(),
            build,
            f"{framework}:cpu",
            framework,
            "cpu",
            weights=content_hash(self.weights),
            batch=content_hash(self.batch),
            taps=taps,
            recipe=probe_recipe(net.spec).to_dict(),
            replica=None if net.replica is None else net.replica.seed,
            forced_by="" if forced is None else forced.manifest.content,
        )
        levels = LEVELS if self.trains else (Level.WEIGHTS, Level.FORWARD)
        with CaptureWriter(place, manifest, whole=True) as writer:
            record(net, writer, levels=levels, taps=taps, steps=STEPS if self.trains else 0, forced_by=forced)
            writer.finish()
        return read_capture(place)

    def compared(self, net, framework="torch"):
        """The verdict of the comparison on a net, which has not made a step yet."""
        forced = self.capture if net.replica is None else None
        target = self.recorded(net, framework, forced)
        return compare(self.capture, target, floor=self.floor)

    def diagnosed(self, net, **options):
        """What the diagnosis says of a net."""
        session = net.session if net.replica is None else Permuted(net)
        mine, theirs = self.net.naming, net.naming

        def to_mine(found):
            return dict(mine.to_native(dict(theirs.canonical(found))))

        native = dict(theirs.to_native(self.weights))
        target = observe(session, self.case, native, self.observed.free, to_mine)
        return diagnose(self.case, self.observed, target, **{"detectable": False, **options})


def same(one, two):
    """Whether every array of one is the other's."""
    return all(np.array_equal(one[name], two[name]) for name in one)
