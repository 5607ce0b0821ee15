"""Noise floors: how far replicas are apart, and the model from itself in float64, on the CPU with the probe.

    python benchmarks/floor.py [--model bert --size bert-base --task classification] [--replicas 3]

Without a model: the tiny config of every installed one. For each section the median over its tensors and the largest,
relative L2, with the tensor; tensors that are zero but for rounding are held against their section. Everything runs in
this process, one session after the other.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from porting.backends.feed import NoSuchTaps
from porting.backends.protocol import Build
from porting.backends.torch.run import TorchSession, open_session
from porting.model.registry import model_named, models
from porting.model.spec import Config, ModelSpec
from porting.parity.capture import Manifest, Section, Summary
from porting.parity.floor import Floor, floor_of
from porting.parity.probe import probe_batch, probe_weights
from porting.parity.replica import replica_of
from porting.parity.summarise import summarise
from porting.parity.taps import candidates
from porting.testing.tiny import tiny

Array = np.ndarray[Any, np.dtype[Any]]
Sections = Mapping[Section, Mapping[str, Array]]


@dataclass(frozen=True)
class InMemory:
    """A capture that never was on a disk."""

    manifest: Manifest
    summaries: dict[tuple[str, str], Summary]
    arrays: dict[tuple[str, str], Array]

    def tensor(self, section: str, name: str) -> Array | None:
        """As porting.parity.reader.Capture has it."""
        return self.arrays[section, name]


def captured(manifest: Manifest, sections: Sections) -> InMemory:
    """Tensors with their summaries."""
    arrays: dict[tuple[str, str], Array] = {}
    summaries: dict[tuple[str, str], Summary] = {}
    for section, tensors in sections.items():
        for name, tensor in tensors.items():
            arrays[section, name] = whole = np.ascontiguousarray(tensor)
            summaries[section, name] = summarise(section, name, whole, sketch=False, out=_nowhere)
    return InMemory(manifest, summaries, arrays)


def _nowhere(_: Array) -> None:
    """Summaries only."""


@dataclass
class Case:
    """A model of a task with the probe's weights and batch."""

    spec: ModelSpec
    config: Config
    build: Build

    def __post_init__(self) -> None:
        self.session = open_session(self.spec, self.config, self.build)
        self.dialect = self.spec.dialects["pytorch"]
        self.shapes = self.session.parameters
        self.weights = probe_weights(self.spec, self.config, self.build, self.shapes, self.dialect)
        self.batch = probe_batch(self.spec, self.config, self.build)
        self.session.load(self.weights)
        self.taps = self._taps()

    def floor(self, replicas: int) -> Floor:
        """Measure it."""
        source = captured(self._manifest(), self._run(self.session))
        return floor_of(source, (self._replica(seed) for seed in range(1, replicas + 1)), self._truth())

    def _replica(self, seed: int) -> InMemory:
        one = replica_of(self.spec, self.config, self.build, seed, self.shapes, self.dialect)
        self.session.load({name: one.parameter(name, tensor) for name, tensor in self.weights.items()})
        batch = {name: one.feature(name, values) for name, values in self.batch.items()}
        found = self._run(self.session, batch)
        undone: Sections = {
            "forward": {name: one.undo_tap(name, tensor) for name, tensor in found["forward"].items()},
            "gradients": {name: one.undo_parameter(name, tensor) for name, tensor in found["gradients"].items()},
        }
        return captured(replace(self._manifest(), replica=seed), undone)

    def _truth(self) -> InMemory:
        exact = open_session(self.spec, self.config, replace(self.build, compute="float64"))
        exact.load(self.weights)
        manifest = replace(self._manifest(), build={"task": self.build.task, "compute": "float64"})
        return captured(manifest, self._run(exact))

    def _run(self, session: TorchSession, batch: Mapping[str, Array] | None = None) -> Sections:
        features = self.batch if batch is None else batch
        return {"forward": session.forward(features, self.taps), "gradients": session.gradients(features)[1]}

    def _manifest(self) -> Manifest:
        build = {"task": self.build.task, "compute": "float32"}
        return Manifest(self.spec.name, self.config.to_dict(), build, "torch:cpu", "pytorch", "cpu")

    def _taps(self) -> list[str]:
        """Every tap that this task has. Raises: NoSuchTaps if what it says it lacks is not all."""
        asked = list(candidates(self.spec, self.config))
        try:
            self.session.forward(self.batch, asked)
        except NoSuchTaps as error:
            asked = [tap for tap in asked if tap not in error.names]
        self.session.forward(self.batch, asked)
        return asked


def lines(title: str, floor: Floor, seconds: float) -> Iterator[str]:
    """A line per section."""
    for section in dict.fromkeys(section for section, _ in floor.entries):
        own = {name: entry for (part, name), entry in floor.entries.items() if part == section}
        name, worst = max(own.items(), key=lambda item: item[1].rel_l2)
        origins = [entry.origin for entry in own.values()]
        shares = ", ".join(f"{kind} {origins.count(kind)}" for kind in dict.fromkeys(origins))
        middle = median(entry.rel_l2 for entry in own.values())
        yield f"{title:34} {section:10} median {middle:.1e}  largest {worst.rel_l2:.1e} {name}  ({shares})"
    yield f"{title:34} {seconds:.1f} s"


def main() -> None:
    """Print the floors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--size", help="a published size; without one, the tiny config")
    parser.add_argument("--task", default="classification")
    parser.add_argument("--replicas", type=int, default=3)
    given = parser.parse_args()
    for spec in [model_named(given.model)] if given.model else models().values():
        if spec.symmetry is None or spec.probe is None:
            continue
        config = spec.sizes[given.size] if given.size else tiny(spec)
        started = time.perf_counter()
        floor = Case(spec, config, Build(given.task, labels=3)).floor(given.replicas)
        print(
            *lines(f"{given.size or spec.name + ' (tiny)'} {given.task}", floor, time.perf_counter() - started),
            sep="\n",
        )


if __name__ == "__main__":
    main()
