"""Long curves drawn with few points, and no peak lost."""

from __future__ import annotations

import numpy as np

from porting.acceptance.trajectory import Numbers

BUCKETS = 1000
"""About a pixel each on a wide screen: the line that two points a bucket make is the one that all would make."""


def kept(values: Numbers, buckets: int = BUCKETS) -> Numbers:
    """Which points to draw, ascending: the least and the greatest of every bucket, and the first that is not finite.

    values: float64 [n]. All of them where there are no more than two a bucket.

    >>> kept(np.array([0.0, 5.0, 1.0, 1.0, -3.0, 1.0]), buckets=2).tolist()
    [0, 1, 3, 4, 5]
    """
    count = len(values)
    if count <= 2 * buckets:
        return np.arange(count)
    size = -(-count // buckets)
    rows = np.full(size * -(-count // size), np.nan)
    rows[:count] = values
    table = rows.reshape(-1, size)
    bad = ~np.isfinite(table)
    least = np.argmin(np.where(bad, np.inf, table), axis=1)
    greatest = np.argmax(np.where(bad, -np.inf, table), axis=1)
    start = np.arange(len(table)) * size
    broken = start[bad.any(axis=1)] + np.argmax(bad[bad.any(axis=1)], axis=1)
    chosen = np.concatenate([[0], start + least, start + greatest, broken, [count - 1]])
    drawn: Numbers = np.unique(chosen[chosen < count])
    return drawn
