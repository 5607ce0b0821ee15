"""What a mask has hidden: elements so far from all others that beside them nothing else counts.

The scores of attention hold -10000 or -1e30 where a mask is, beside numbers of tens. Relative to all of such a
tensor, a mistake in what is seen vanishes in the rounding of what is hidden. So the two are measured apart, each
relative to its own, and the larger measure is the tensor's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np

from porting.parity.deviation import Deviation

Array = np.ndarray[Any, np.dtype[Any]]
Pieces = Iterator[tuple[Array, Array]]

GAP = 1000.0
"""How many times larger than the tenth part that is smallest what is hidden is. Of normal values, whose tenth part ends
at an eighth of their deviation, none is: that would be 125 deviations away."""

FEW = 64
"""Of fewer elements nothing is said to be hidden."""

_SAMPLE = 1 << 14


def hidden_from(source: Array) -> float | None:
    """The size from which on elements of a flat tensor are hidden; None where none is. By a sample, spread evenly."""
    if source.size < FEW or source.dtype.kind not in "fV":
        return None
    some = np.abs(np.asarray(source[:: max(1, source.size // _SAMPLE)], np.float64))
    some = some[np.isfinite(some) & (some > 0)]
    if some.size < FEW // 2:
        return None
    limit = float(np.quantile(some, 0.1)) * GAP
    return limit if some.max() > limit else None


def apart(pieces: Callable[[], Pieces], limit: float, measure: Callable[[Pieces], Deviation]) -> Deviation:
    """Measure what is seen and what is hidden, each with the other at zero on both sides.

    The source decides which an element is: one that only the target hides deviates among those that are seen.
    """
    seen = measure(_only(pieces(), limit, hidden=False))
    masked = measure(_only(pieces(), limit, hidden=True))
    worse = masked if (masked.max_rel or 0.0) > (seen.max_rel or 0.0) else seen
    return replace(
        seen,
        rel_l2=max(seen.rel_l2, masked.rel_l2),
        l2=sqrt(seen.l2**2 + masked.l2**2),
        max_rel=worse.max_rel,
        max_abs=worse.max_abs,
        worst=worse.worst,
        bitwise=seen.bitwise and masked.bitwise,
    )


def _only(pieces: Pieces, limit: float, *, hidden: bool) -> Pieces:
    for one, two in pieces:
        with np.errstate(invalid="ignore"):
            far = np.abs(one) > limit
        keep = far if hidden else ~far
        yield np.where(keep, one, one.dtype.type(0)), np.where(keep, two, two.dtype.type(0))
