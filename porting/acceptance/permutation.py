"""Two groups of runs: whether they differ by more than runs of one group do, over all series and blocks at once.

Each series is cut into blocks of 10 steps and averaged over them. In each block the groups' means differ by so many
pooled spreads; the statistic is the largest of all blocks of all series. It is computed for every split of all
the runs into two groups of these sizes (924 of 6 and 6). Were the target one of the source's replicas, every split
would be as likely as the one at hand, so the share of splits with a statistic as large is a p-value, whatever the noise
is like and however the series hang together (R. A. Fisher, The Design of Experiments, 1935; of a largest statistic:
P. Westfall and S. Young, Resampling-Based Multiple Testing, 1993).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from porting.acceptance.align import aligned, members, resolution, series_names
from porting.acceptance.trajectory import Numbers, Runs, Series, Trajectory

ALPHA = 0.05
"""The rate of alarms of honest replicas, over all series and blocks together."""

BLOCK = 10
"""Steps."""

GROUP = 6
"""Runs that each side has at least, the one without a permutation counted."""

SPLITS = 10_000
"""Beyond so many not all splits are tried but so many, drawn by chance."""

_COLUMNS = 4096
_ROUNDING = 2.0**-24


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Block means of one series. starts: first step of each block; values: float64 [runs, blocks].

    least: a spread that rounding and printing alone make, float64 [blocks].
    """

    starts: Numbers
    values: Numbers
    least: Numbers


@dataclass(frozen=True, slots=True, eq=False)
class Permuted:
    """What the test has found.

    z: the statistic by series and block, signed, target minus source. limit: the statistic that a share of alpha of
    the splits exceeds. p: share of the splits that are as far as the one at hand. spreads: the target's spread over
    the source's, the median of all blocks.
    """

    z: Mapping[str, Series]
    limit: float
    p: float
    splits: int
    spreads: float

    @property
    def largest(self) -> dict[str, float]:
        """By series."""
        return {name: float(np.abs(one.values).max()) for name, one in self.z.items()}

    @property
    def found(self) -> bool:
        """Whether the groups differ beyond noise."""
        return self.p <= ALPHA


@np.errstate(all="ignore")  # what is no number any more is found as such
def permuted(source: Sequence[Trajectory], target: Sequence[Trajectory], *, seed: int = 0) -> Permuted | None:
    """Test two groups of runs. None where no series is common to all, or all runs of a group are the same bits.

    seed: of the splits, where there are too many to try all.
    """
    blocks = {name: found for name in series_names((*source, *target)) if (found := blocks_of(source, target, name))}
    if not blocks or any(all(_same(b.values[part]) for b in blocks.values()) for part in _sides(source, target)):
        return None
    values = np.hstack([one.values for one in blocks.values()])
    least = np.hstack([one.least for one in blocks.values()])
    z, most = np.empty(values.shape[1]), np.zeros(0)
    masks = splits(len(source), len(target), seed)
    for start in range(0, values.shape[1], _COLUMNS):
        part = slice(start, start + _COLUMNS)
        apart = statistics(values[:, part], masks, least[part])
        z[part] = apart[0]
        largest = np.abs(apart).max(axis=1)
        most = np.maximum(most, largest) if most.size else largest
    ends = np.cumsum([one.starts.size for one in blocks.values()])[:-1]
    return Permuted(
        z={name: Series(one.starts, own) for (name, one), own in zip(blocks.items(), np.split(z, ends), strict=True)},
        limit=float(np.sort(most)[::-1][int(ALPHA * most.size)]),
        p=float(np.mean(most >= most[0] * (1 - 1e-9))) if np.isfinite(most[0]) else 0.0,
        splits=most.size,
        spreads=_ratio(values, len(source), least),
    )


@np.errstate(all="ignore")  # what is no number any more is found as such
def blocks_of(source: Sequence[Trajectory], target: Sequence[Trajectory], name: str) -> Blocks | None:
    """Block means of one series over the steps that all runs have; of a gradient norm its logarithm.

    Steps at which a run has no finite value (an overflow) are left out for all. None where no step is left.
    """
    runs = (*source, *target)
    found = aligned(runs, name)
    if found is None:
        return None
    coarse = resolution(runs, name)
    logarithm = name.startswith("grad_norm")
    values = np.log(found.values) if logarithm else found.values
    least = coarse / np.abs(found.values) if logarithm else np.full(found.values.shape, coarse)
    whole = np.isfinite(values).all(axis=0)
    steps, values, least = found.steps[whole], values[:, whole], least[:, whole]
    if not steps.size:
        return None
    starts, sizes = cut(steps.size)
    means = np.add.reduceat(values, starts, axis=1) / sizes
    rounding = _ROUNDING * (1.0 if logarithm else np.abs(means).max(axis=0))
    printed = np.add.reduceat(least.max(axis=0), starts) / sizes / 12**0.5
    return Blocks(steps[starts], means, np.asarray(np.maximum(rounding, printed) / np.sqrt(sizes)))


def cut(count: int) -> tuple[Numbers, Numbers]:
    """Where blocks of so many steps begin, and their sizes: a rest of less than a block is part of the last.

    >>> cut(25)
    (array([ 0, 10]), array([10, 15]))
    """
    starts = np.arange(0, max(1, count // BLOCK) * BLOCK, BLOCK)
    return starts, np.diff([*starts, count])


def splits(first: int, second: int, seed: int = 0) -> Numbers:
    """Which runs are of the first group, bool [splits, runs]; the split at hand is the first of them."""
    count, at_hand = first + second, np.arange(first + second) < first
    if comb(count, first) <= SPLITS:
        found = np.zeros((comb(count, first), count), bool)
        for row, chosen in enumerate(combinations(range(count), first)):
            found[row, chosen] = True
        return found
    random = np.random.default_rng(seed)
    drawn = np.argsort(random.random((SPLITS - 1, count)), axis=1) < first
    return np.vstack([at_hand, drawn])


@np.errstate(all="ignore")  # what is no number any more is found as such
def statistics(values: Numbers, masks: Numbers, least: Numbers) -> Numbers:
    """Differences of means over pooled spreads, of every split and column.

    values: float64 [runs, columns]; masks: bool [splits, runs], the first group; least: of a spread [columns].
    Returns float64 [splits, columns], second group minus first; infinite where numbers are too large to tell.
    """
    first = int(masks[0].sum())
    second = masks.shape[1] - first
    centred = values - values.mean(axis=0)
    sums = masks.astype(np.float64) @ centred
    means = sums / first, -sums / second
    within = (centred**2).sum(axis=0) - first * means[0] ** 2 - second * means[1] ** 2
    pooled = np.maximum(within, 0.0) / max(1, first + second - 2)
    apart = (means[1] - means[0]) / np.sqrt(pooled + least**2)
    return np.asarray(np.nan_to_num(apart, nan=np.inf, posinf=np.inf, neginf=-np.inf))


def _ratio(values: Numbers, first: int, least: Numbers) -> float:
    """The second group's spread over the first's, the median of all columns; as infinite as the first is still."""
    one, two = (
        np.sqrt(part.var(axis=0, ddof=1) + least**2) if len(part) > 1 else least
        for part in (values[:first], values[first:])
    )
    return float(np.median(two / one))


def _sides(source: Sequence[Trajectory], target: Sequence[Trajectory]) -> Iterator[slice]:
    """The rows of each group that has more than one run."""
    if len(source) > 1:
        yield slice(0, len(source))
    if len(target) > 1:
        yield slice(len(source), len(source) + len(target))


def _same(values: Numbers) -> bool:
    """Whether all rows are the same bits: replicas that do not differ are none."""
    return bool((values == values[0]).all())


def band(runs: Runs, name: str) -> tuple[Series, Series] | None:
    """The lowest and the highest of a side's replicas, step by step; None where there are no two of them."""
    found = aligned(members(runs), name) if len(members(runs)) > 1 else None
    if found is None:
        return None
    return Series(found.steps, found.values.min(axis=0)), Series(found.steps, found.values.max(axis=0))


def z_of(source: Runs, target: Runs, name: str) -> Series | None:
    """Difference of the groups' means over their pooled spread, per block; None where there are no replicas.

    steps: the first of each block.
    """
    ours, theirs = members(source), members(target)
    found = blocks_of(ours, theirs, name) if min(len(ours), len(theirs)) > 1 else None
    if found is None:
        return None
    at_hand = np.arange(len(ours) + len(theirs))[None] < len(ours)
    return Series(found.starts, statistics(found.values, at_hand, found.least)[0])
