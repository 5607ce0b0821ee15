"""The noise floor: how far apart runs are that compute the same, for one model, its weights and one batch.

It is the larger of two distances from the source run: that of its replicas, which differ in the order of sums only
(`porting.parity.replica`), and that of the same model in float64. A threshold is a factor times the floor of the very
tensor that is judged, so it comes from what this model can decide on this batch, and not out of the air.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from statistics import median
from typing import Any, Literal, Protocol

import numpy as np

from porting.errors import UsageError
from porting.parity.capture import Manifest, Summary
from porting.parity.deviation import Deviation
from porting.parity.measure import deviation

Array = np.ndarray[Any, np.dtype[Any]]
Key = tuple[str, str]
"""Section and name."""

VANISHING = 1e-2
"""A tensor whose replicas are further apart than this, relative to itself, is zero but for rounding."""


class Recorded(Protocol):
    """What a floor needs of a capture: `porting.parity.reader.Capture` has it."""

    @property
    def manifest(self) -> Manifest:
        """Where it comes from."""
        ...

    @property
    def summaries(self) -> Mapping[Key, Summary]:
        """In the order of computation."""
        ...

    def tensor(self, section: str, name: str) -> Array | None:
        """A whole tensor, None where it is only summarised."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """The floor of one tensor: relative L2, and largest difference over the scale.

    origin: what it comes from: replicas, float64, or the rounding of the stored dtype, below which no floor is.
    against: `tensor`, its own norm and largest element; `section`, for a tensor that is zero but for rounding (the
    gradient of a key's bias), the median root mean square and largest element of its section's tensors.
    norm, scale: what the two measures are relative to.
    """

    rel_l2: float
    max_rel: float
    origin: Literal["replicas", "float64", "rounding"]
    against: Literal["tensor", "section"]
    norm: float
    scale: float

    def measured(self, found: Deviation, source: Summary) -> tuple[float, float | None]:
        """Relative L2 and largest difference of a deviation from `source`, against what the floor is against.

        The largest is None where only sketches were compared.
        """
        if self.against == "tensor":
            return found.rel_l2, found.max_rel
        # Of a source that is exactly zero only the largest difference is known, which bounds the norm.
        bound = (found.max_abs or 0.0) * found.elements**0.5
        l2 = found.rel_l2 * source.l2 if isfinite(found.rel_l2) else bound
        return l2 / self.norm, None if found.max_abs is None else found.max_abs / self.scale


@dataclass(frozen=True, slots=True)
class Floor:
    """The floor of every tensor of a capture but its weights and whole numbers, which must agree to the bit.

    model, config, build, weights, batch, recipe: what it was measured for, as in that capture's manifest. backend: on
    which. replicas: their seeds. float64: whether the model was run in float64 too.
    """

    model: str
    config: Mapping[str, Any]
    build: Mapping[str, Any]
    weights: str
    batch: str
    recipe: Mapping[str, Any] | None
    backend: str
    replicas: tuple[int, ...]
    float64: bool
    entries: Mapping[Key, Entry]

    def misfits(self, manifest: Manifest) -> tuple[str, ...]:
        """Why the floor does not hold for a capture, a line each: another model, config, task, weights, batch, recipe.

        The same on another backend is what it is for; a capture without training steps needs no recipe.
        """
        wanted, got = _measured_for(self), _measured_for(manifest)
        lines = [
            f"{name}: the floor was measured for {_short(wanted[name])}, the capture has {_short(got[name])}"
            for name in wanted
            if wanted[name] != got[name] and (name != "recipe" or None not in (wanted[name], got[name]))
        ]
        return tuple(lines)


def floor_of(source: Recorded, replicas: Iterable[Recorded], truth: Recorded | None) -> Floor:
    """The floor from captures of whole tensors: the larger of replicas' spread and distance from float64.

    replicas: undone captures with different seeds, taken one after the other, so that each may go when the next comes.
    truth: of the same model in float64; alone where there are no replicas, as for a model without a table of its axes.
    Raises: UsageError for captures of something else or of summaries only, for none or the same replica twice, for
    values that are not finite in one only, for a section in which nothing differs: a floor of 0 is an error.
    """
    floating = (key for key, summary in source.summaries.items() if np.dtype(summary.dtype).kind == "f")
    distances = {key: _Distance() for key in floating if key[0] != "weights"}
    seeds: list[int] = []
    for replica in replicas:
        seeds.append(_seed(source.manifest, replica.manifest, seeds))
        _measure(source, replica, distances, "replicas")
    if not seeds and truth is None:
        raise UsageError("floor: wanted at least one replica, got none, and no run in float64 either")
    if truth is not None:
        _check_truth(source.manifest, truth.manifest)
        _measure(source, truth, distances, "float64")
    _refuse_zero(distances)
    made = source.manifest
    return Floor(
        made.model,
        made.config,
        made.build,
        made.weights,
        made.batch,
        made.recipe,
        made.backend,
        tuple(seeds),
        truth is not None,
        _entries(source, distances),
    )


@dataclass(slots=True)
class _Distance:
    """The largest so far, absolute, with what it came from."""

    l2: float = 0.0
    largest: float = 0.0
    origin: Literal["replicas", "float64"] = "replicas"


def _measure(
    source: Recorded, other: Recorded, distances: Mapping[Key, _Distance], origin: Literal["replicas", "float64"]
) -> None:
    for key, distance in distances.items():
        section, name = key
        where = f"floor: {section}/{name}"
        if key not in other.summaries:
            raise UsageError(f"{where}: is in the source, not in {origin}")
        one, two = source.tensor(*key), other.tensor(*key)
        if one is None or two is None:
            raise UsageError(f"{where}: wanted whole tensors, got a capture of summaries")
        if one.shape != two.shape:
            raise UsageError(f"{where}: the source has shape {one.shape}, {origin} {two.shape}")
        found = deviation(one, two, measures="core")
        if found.unlike:
            raise UsageError(f"{where}: {found.unlike} elements are not finite in one of source and {origin}")
        # In absolute terms: what is zero but for rounding is relative to its section.
        norm, scale = source.summaries[key].l2, source.summaries[key].largest
        largest = found.max_abs or 0.0
        if found.max_rel is not None and isfinite(found.max_rel) and scale:
            largest = found.max_rel * scale  # what a mask has hidden is measured apart, by a scale of its own
        l2 = found.rel_l2 * norm if isfinite(found.rel_l2) else largest * found.elements**0.5
        if l2 > distance.l2:
            distance.l2, distance.origin = l2, origin
        distance.largest = max(distance.largest, largest)


def _entries(source: Recorded, distances: Mapping[Key, _Distance]) -> dict[Key, Entry]:
    typical = {section: _typical(source, section) for section, _ in distances}
    return {key: _entry(source.summaries[key], distance, typical[key[0]]) for key, distance in distances.items()}


def _entry(summary: Summary, distance: _Distance, typical: tuple[float, float]) -> Entry:
    norm, scale = summary.l2, summary.largest
    vanishing = distance.l2 > VANISHING * norm or not norm
    if vanishing:
        norm, scale = typical[0] * prod(summary.shape) ** 0.5, typical[1]
    rounding = float(np.finfo(summary.dtype).eps) / 2
    l2, largest = distance.l2 / norm, distance.largest / scale
    origin = distance.origin if l2 > rounding else "rounding"
    against: Literal["tensor", "section"] = "section" if vanishing else "tensor"
    return Entry(max(l2, rounding), max(largest, rounding), origin, against, norm, scale)


def _typical(source: Recorded, section: str) -> tuple[float, float]:
    """The median root mean square and largest element of a section's tensors, those of zeros only left out."""
    sizes = [
        (summary.l2 / prod(summary.shape) ** 0.5, summary.largest)
        for (part, _), summary in source.summaries.items()
        if part == section and summary.l2
    ]
    if not sizes:
        raise UsageError(f"floor: section {section}: the source is zero all over")
    return median(rms for rms, _ in sizes), median(largest for _, largest in sizes)


def _refuse_zero(distances: Mapping[Key, _Distance]) -> None:
    for section in dict.fromkeys(section for section, _ in distances):
        own = [distance for (part, _), distance in distances.items() if part == section]
        if not any(distance.l2 for distance in own):
            raise UsageError(
                f"floor: section {section}: 0 over all of its {len(own)} tensors: the replicas are the source itself,"
                " so nothing was permuted or nothing was computed"
            )


def _seed(source: Manifest, replica: Manifest, known: Sequence[int]) -> int:
    _check_same(source, replica, f"replica {replica.replica}")
    if source.replica is not None:
        raise UsageError(f"floor: the source is itself a replica, of seed {source.replica}")
    if replica.replica is None or replica.replica in known:
        raise UsageError(f"floor: wanted replicas of different seeds, got {[*known, replica.replica]}")
    return replica.replica


def _check_truth(source: Manifest, truth: Manifest) -> None:
    _check_same(source, truth, "float64")
    compute = truth.build.get("compute")
    if compute != "float64":
        raise UsageError(f"floor: truth: wanted a capture computed in float64, got {compute}")


def _check_same(source: Manifest, other: Manifest, what: str) -> None:
    wanted, got = _measured_for(source), _measured_for(other)
    for name, value in wanted.items():
        if got[name] != value:
            raise UsageError(f"floor: {what}: {name}: the source has {_short(value)}, got {_short(got[name])}")


def _measured_for(made: Manifest | Floor) -> dict[str, Any]:
    """What must be the same. Of a build: the task, not how it is run."""
    build = {name: made.build.get(name) for name in ("task", "labels", "dropout", "extra")}
    return {
        "model": made.model,
        "config": dict(made.config),
        "build": build,
        "weights": made.weights,
        "batch": made.batch,
        "recipe": made.recipe,
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
