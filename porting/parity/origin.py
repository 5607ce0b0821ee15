"""The source's side of a comparison as a folder, which may be carried to another machine:

DIR/source        the source
DIR/float64       the same in float64, on PyTorch on the CPU: the truth
DIR/floor.json    the noise floor, from replicas that are there only while it is measured
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from porting.backends.found import Resolved, installed
from porting.backends.names import BackendName
from porting.errors import PortError, UsageError
from porting.model.spec import Compute
from porting.parity.floor import Floor, floor_of
from porting.parity.floor_file import read_floor, write_floor
from porting.parity.measure_floor import REPLICAS
from porting.parity.reader import Capture, read_capture
from porting.parity.side import Side, Take
from porting.parity.state import Level

LOWER: tuple[Compute, ...] = ("float16", "bfloat16")
"""Precisions that are judged by float64, not by the floor."""


SECTIONS_OF: Mapping[Level, tuple[str, ...]] = {
    Level.WEIGHTS: ("weights",),
    Level.FORWARD: ("forward", "forced"),
    Level.BACKWARD: ("gradients",),
    Level.STEP: ("step.weights", "step.m", "step.v"),
}


@dataclass(frozen=True)
class Origin:
    """A source to be recorded. replicas: how many, 0 where no floor is wanted."""

    side: Side
    folder: Path
    replicas: int = REPLICAS

    @property
    def source(self) -> Path:
        """Its capture."""
        return self.folder / "source"

    @property
    def float64(self) -> Path:
        """The truth."""
        return self.folder / "float64"

    @property
    def floor(self) -> Path:
        """The noise floor."""
        return self.folder / "floor.json"

    def takes(self) -> list[Take]:
        """What is to be captured: in one process, if the source runs where float64 is computed."""
        found = [Take(self.side, self.source)]
        exact = exact_backend()
        if exact is not None:
            found.append(Take(self.side.at("float64", exact), self.float64))
        return found + self.replica_takes()

    def replica_takes(self) -> list[Take]:
        """The replicas alone, of the seeds 1, 2 …"""
        seeds = range(1, self.replicas + 1)
        return [Take(self.side, self.folder / f"replica-{seed}", replica=seed) for seed in seeds]

    def measured(self) -> Floor:
        """The floor, from replicas that were captured; it is written, and they are removed.

        Raises: UsageError where one crashed, and what `floor_of` raises.
        """
        truth = _whole(self.float64) if self.float64.is_dir() else None
        found = floor_of(_whole(self.source), self._replicas(), truth)
        write_floor(self.floor, found)
        return found

    def _replicas(self) -> Iterator[Capture]:
        for take in self.replica_takes():
            yield _whole(take.folder)
            shutil.rmtree(take.folder)


def exact_backend() -> Resolved | None:
    """Where a model is run in float64: PyTorch on the CPU, if it is installed."""
    return installed(BackendName.parse("torch:cpu"))


def lower(two: Side) -> bool:
    """Whether it is known before it runs that a target computes in a lower precision."""
    return two.compute in LOWER or bool(two.resolved.emulated and two.resolved.backend.options)


def reference_side(one: Side, two: Side) -> Side:
    """The source at the target's precision: computed so, or emulated as the target is."""
    if two.resolved.emulated and two.resolved.backend.options:
        return replace(one, resolved=two.resolved)
    return one.at(two.compute)


def forcing(source: Path, target: Side) -> Path | None:
    """What the target's taps are forced by; a crashed source forces nothing, and onnxruntime cannot be forced."""
    able = read_capture(source).manifest.state == "whole" and target.resolved.backend.known != "onnxruntime"
    return source if able else None


def asked_of(source: Capture, two: Side) -> Capture:
    """What a source holds of the levels that a target is run at: onnxruntime, run forward only, has no gradients."""
    sections = [name for level in two.levels for name in SECTIONS_OF[level]]
    kept = {key: summary for key, summary in source.summaries.items() if key[0] in sections}
    if two.trains:
        return replace(source, summaries=kept)
    return replace(source, summaries=kept, steps=(), manifest=replace(source.manifest, recipe=None))


def floor_in(folder: Path) -> Floor | None:
    """The floor that an origin's folder has. Raises: FormatError for a file that is none."""
    path = folder / "floor.json"
    return read_floor(path) if path.is_file() else None


def first_error(errors: list[PortError | None]) -> PortError | None:
    """The first of what captures were refused by."""
    return next((error for error in errors if error is not None), None)


def _whole(folder: Path) -> Capture:
    found = read_capture(folder)
    if found.manifest.state == "crashed":
        made = found.manifest
        raise UsageError(f"noise floor: {folder.name} on {made.backend} crashed: {made.reason}")
    return found
