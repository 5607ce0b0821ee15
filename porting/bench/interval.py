"""Bounds of a ratio of means of two series whose neighbours are alike, and of a difference of two shares."""

from __future__ import annotations

from math import hypot, sqrt

import numpy as np

from porting.acceptance.speed import RESAMPLES
from porting.acceptance.trajectory import Numbers

LEVEL = 0.95
Z = 1.959964
"""Of a normal distribution's two sides, at LEVEL."""


def mean_ratio(source: Numbers, target: Numbers) -> tuple[float, float]:
    """Bounds of mean(target) / mean(source), by a bootstrap over blocks of the cube root of the number of samples.

    Source: H. Künsch, Annals of Statistics 17, 1989; as porting.acceptance.speed has it of medians.
    """
    random = np.random.default_rng(0)
    drawn = _means(target, random) / _means(source, random)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _means(values: Numbers, random: np.random.Generator) -> Numbers:
    """Means of resampled blocks, by differences of running sums, so that many samples cost no more."""
    length = max(1, round(values.size ** (1 / 3)))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    blocks = (sums[length:] - sums[:-length]) / length
    found: Numbers = blocks[random.integers(0, blocks.size, (RESAMPLES, -(-values.size // length)))].mean(axis=1)
    return found


def share_difference(first: float, second: float, counts: tuple[int, int]) -> tuple[float, float]:
    """Bounds of second - first, two shares of so many independent examples each, by the normal approximation."""
    half = Z * hypot(*(sqrt(share * (1 - share) / count) for share, count in zip((first, second), counts, strict=True)))
    return second - first - half, second - first + half
