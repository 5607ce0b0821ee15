"""Whether a difference that was found matters: two one-sided tests of the tail mean (TOST).

The 90 % interval of a difference lies within the margin just if two tests of 5 % each, one for either direction, both
reject a difference as large as the margin (D. Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from porting.acceptance.align import aligned
from porting.acceptance.preconditions import MARGIN
from porting.acceptance.student import t_quantile
from porting.acceptance.trajectory import Numbers, Trajectory

SEEDS = 5
"""Runs of the source with other seeds that calibrate a margin."""

NORM_MARGIN = 0.1
"""Of a gradient norm's tail mean, relative: the MindFormers precision guide's mean error of the global norm."""


@dataclass(frozen=True, slots=True)
class Margin:
    """How far a tail mean may be off, relative, either way."""

    limit: float
    source: str
    calibrated: bool


@dataclass(frozen=True, slots=True)
class Equivalence:
    """The difference of two groups' tail means, target minus source, relative to the source's, with its interval."""

    difference: float
    low: float
    high: float
    margin: Margin

    @property
    def within(self) -> bool:
        """Whether the interval lies within the margin."""
        return -self.margin.limit <= self.low and self.high <= self.margin.limit

    @property
    def beyond(self) -> bool:
        """Whether all of the interval is outside, so that no more runs would help."""
        return self.low > self.margin.limit or self.high < -self.margin.limit


def margin_of(name: str, seeds: Sequence[Trajectory]) -> Margin:
    """Half the spread that other data orders and dropout masks make in the source, and no more than a fixed share."""
    fixed = NORM_MARGIN if name.startswith("grad_norm") else MARGIN
    known = aligned(seeds, name) if len(seeds) >= SEEDS else None
    found = None if known is None else known.finite
    if found is None or not found.steps.size:
        return Margin(fixed, f"{fixed:.1%}, uncalibrated: {len(seeds)} runs with other seeds, wanted {SEEDS}", False)
    half = float(found.tail.std(ddof=1) / abs(found.tail.mean()) / 2)
    if half < fixed:
        return Margin(half, f"half the standard deviation of {len(seeds)} runs with other seeds", True)
    return Margin(fixed, f"{fixed:.1%}, less than half of what {len(seeds)} other seeds make ({half:.2%})", True)


def equivalence(
    source: Sequence[Trajectory], target: Sequence[Trajectory], name: str, seeds: Sequence[Trajectory] = ()
) -> Equivalence | None:
    """Compare tail means of two groups. None where a series has none, or a group fewer than two runs.

    Runs of the same permutations on both sides are pairs; others are compared by Welch's interval.
    """
    known = aligned((*source, *target), name)
    if known is None or min(len(source), len(target)) < 2 or not known.finite.steps.size:
        return None
    found = known.finite
    tails = found.tail / abs(float(found.tail[: len(source)].mean()))
    ours, theirs = tails[: len(source)], tails[len(source) :]
    paired = [one.replica for one in source] == [one.replica for one in target]
    centre, half = _paired(theirs - ours) if paired else _welch(ours, theirs)
    return Equivalence(centre, centre - half, centre + half, margin_of(name, seeds))


def _paired(apart: Numbers) -> tuple[float, float]:
    """Mean and half the 90 % interval."""
    count = apart.size
    return float(apart.mean()), t_quantile(0.95, count - 1) * float(apart.std(ddof=1)) / sqrt(count)


def _welch(ours: Numbers, theirs: Numbers) -> tuple[float, float]:
    """Likewise, of groups of unequal spread (B. L. Welch, Biometrika 34, 1947)."""
    parts = [float(one.var(ddof=1)) / one.size for one in (ours, theirs)]
    total = sum(parts)
    centre = float(theirs.mean() - ours.mean())
    if not total:
        return centre, 0.0
    freedom = total**2 / sum(part**2 / (one.size - 1) for part, one in zip(parts, (ours, theirs), strict=True))
    return centre, t_quantile(0.95, freedom) * sqrt(total)
