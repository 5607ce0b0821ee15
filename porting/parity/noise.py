"""How far apart two tensors are in units of the noise floor, whatever scales a tensor mixes.

The scores of attention hold what a mask has put at -10000 or -1e30 beside numbers of tens. Relative to all of a tensor
a mistake in what is seen vanishes in the rounding of what is hidden, so the two are measured apart: elements beyond a
gap in the sizes of the source are one band, the others another.

The floor of a band is the largest distance of the reference from itself in float64, and from itself with every weight
and every value that is given moved by a unit in the last place: what an operation makes of the rounding of its inputs
differs from honest port to honest port, and by luck one run shows little of it. It is no less than half a unit of the
result. A target that errs 3 times as much as the source is 1 + 3 floors from it: `porting.parity.criteria`, whose
factors these are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from porting.parity.criteria import APART_L2, APART_MAX
from porting.parity.variation import Tensors, Variation

if TYPE_CHECKING:
    from porting.backends.protocol import Array

LIMIT = APART_L2
"""Floors that an honest target may be apart."""

GAP = 1000.0
"""Elements this many times larger than the tenth part that is smallest are of another band. Of normal values, whose
tenth part ends at an eighth of their deviation, none is."""

ROUNDING = float(np.finfo(np.float32).eps) / 2
FEW = 64
"""Of fewer elements no floor can be measured, as by luck it is near zero: that of the median tensor stands for it."""

VANISHING = 1e-2
"""A tensor that is further from its replicas than this, relative to itself, is zero but for rounding."""


def _moved(seed: int, tensors: Tensors) -> Tensors:
    """Every float32 a unit in the last place up or down, by chance."""
    random = np.random.default_rng(seed)
    return {
        name: value if value.dtype != np.float32 else np.nextafter(value, random.choice(_ENDS, value.shape))
        for name, value in tensors.items()
    }


_ENDS = np.array([-inf, inf], np.float32)

RERUNS = 4
"""With inputs rounded otherwise. Of two, one clean pair in 28 (PyTorch, TensorFlow) was 4.1 floors apart: the second
moment of a weight, whose norm is that of a single element or two."""

ROUNDED = (
    Variation("float64", build={"compute": "float64"}),
    *(
        Variation(f"rounded otherwise, {seed}", weights=partial(_moved, seed), given=partial(_moved, seed))
        for seed in range(1, 1 + RERUNS)
    ),
)
"""The same as the reference but for rounding."""


@dataclass(frozen=True, slots=True)
class Band:
    """Elements of one scale. chosen: which, None for all. l2, largest: the floor, absolute. norm: of the source.

    least: below which the floor does not fall where both tensors are smaller than the source; the floor itself but for
    elements that a mask put far off, which may be there on neither side.
    """

    chosen: Any
    l2: float
    largest: float
    norm: float
    least: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Noise:
    """The floors of a set of tensors, by name, each measured against `source`."""

    source: Tensors
    bands: Mapping[str, tuple[Band, ...]]

    def floors(self, name: str, one: Array | None, two: Array | None) -> float:
        """The distance of two tensors in floors, the largest of any band and measure; an honest one is at most `LIMIT`.

        The largest difference counts less than the norm by as much as it may be larger. Infinite for what is missing on
        one side, of another shape, or not finite on one side only.
        """
        if one is None or two is None or one.shape != two.shape:
            return 0.0 if one is None and two is None else inf
        a, b = np.asarray(one, np.float64), np.asarray(two, np.float64)
        finite = np.isfinite(a) & np.isfinite(b)
        if not finite.all():
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            if not (same | finite).all():
                return inf
            a, b = np.where(finite, a, 0), np.where(finite, b, 0)
        with np.errstate(over="ignore"):
            return max(_over(band, a, b) for band in self.bands[name])


def _over(band: Band, one: Array, two: Array) -> float:
    """Rounding grows with what is rounded, so the floor does with the lesser of the two."""
    a, b = (one, two) if band.chosen is None else (one[band.chosen], two[band.chosen])
    size = min(float(np.linalg.norm(a)), float(np.linalg.norm(b))) / band.norm if band.norm else 1.0
    floors = max(band.l2 * size, band.least[0]), max(band.largest * size, band.least[1])
    apart = a - b
    l2, largest = float(np.linalg.norm(apart)), float(np.abs(apart).max(initial=0.0))
    return max(l2 / floors[0], largest / floors[1] * (APART_L2 / APART_MAX))


def noise_of(source: Tensors, others: Sequence[Tensors]) -> Noise:
    """The floors of tensors, from runs of the same that differ in rounding only."""
    measured = {name: _measure(name, value, others) for name, value in source.items()}
    typical = _typical(source)
    usual = {what: _usual(measured.values(), what) for what in (0, 1)}
    bands = {name: _bands(found, typical, usual) for name, found in measured.items()}
    return Noise(source, bands)


@dataclass(frozen=True, slots=True)
class _Measured:
    """One band: its elements, the size of the source there, its distance from the others."""

    chosen: Any
    count: int
    norm: float
    scale: float
    l2: float
    largest: float


def _measure(name: str, value: Array, others: Iterable[Tensors]) -> list[_Measured]:
    wide = np.asarray(value, np.float64)
    wide = np.where(np.isfinite(wide), wide, 0)
    found = []
    for chosen in _chosen(wide):
        own = wide if chosen is None else wide[chosen]
        l2 = largest = 0.0
        for other in others:
            there = np.asarray(other[name], np.float64)
            apart = own - (there if chosen is None else there[chosen])
            apart = np.where(np.isfinite(apart), apart, 0)
            l2, largest = max(l2, float(np.linalg.norm(apart))), max(largest, float(np.abs(apart).max(initial=0)))
        scale = float(np.abs(own).max(initial=0.0))
        found.append(_Measured(chosen, own.size, float(np.linalg.norm(own)), scale, l2, largest))
    return found


def _chosen(value: Array) -> list[Any]:
    """The bands of a tensor, as masks; None for one that holds all."""
    sizes = np.abs(value)
    small = float(np.quantile(sizes, 0.1)) if value.size else 0.0
    far = sizes > GAP * small
    return [~far, far] if small and far.any() else [None]


def _typical(source: Tensors) -> tuple[float, float]:
    """Median root mean square and largest element, zeros left out."""
    wide = [np.asarray(value, np.float64) for value in source.values() if value.size]
    sizes = [(float(np.sqrt(np.mean(value * value))), float(np.abs(value).max())) for value in wide]
    sizes = [size for size in sizes if 0 < size[0] < inf]
    return (median(rms for rms, _ in sizes), median(most for _, most in sizes)) if sizes else (1.0, 1.0)


def _usual(measured: Iterable[list[_Measured]], what: int) -> float:
    """The median floor of what has enough elements, relative to its size."""
    shares = [
        (one.l2 / one.norm, one.largest / one.scale)[what]
        for found in measured
        for one in found
        if one.count >= FEW and one.norm and VANISHING * one.norm > one.l2
    ]
    return median(shares) if shares else ROUNDING


def _bands(measured: list[_Measured], typical: tuple[float, float], usual: Mapping[int, float]) -> tuple[Band, ...]:
    """The first band is that of the small elements: its floor is the least of all."""
    found: list[Band] = []
    for one in measured:
        norm, scale = one.norm, one.scale
        if one.l2 > VANISHING * norm or not norm:
            norm, scale = typical[0] * max(one.count, 1) ** 0.5, typical[1]
        least = (max(usual[0], ROUNDING), max(usual[1], ROUNDING)) if one.count < FEW else (ROUNDING, ROUNDING)
        floor = max(one.l2, least[0] * norm), max(one.largest, least[1] * scale)
        found.append(Band(one.chosen, *floor, one.norm, found[0].least if found else floor))
    return tuple(found)
