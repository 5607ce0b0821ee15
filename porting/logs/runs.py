"""One series of a file, cut into the runs that follow each other in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from porting.acceptance.trajectory import Numbers, Series
from porting.logs.dialect import Points

MOST = 64
"""Runs of a file at most. Steps that go back more often are those of one run."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Series of runs one after the other. notes: what was decided about repeated steps."""

    series: tuple[Series, ...]
    notes: tuple[str, ...] = ()


def split(points: Points) -> Runs:
    """Cut where steps go back.

    Back to where the run began or before: a new run. Back to a later step: training was taken up again from a
    checkpoint, and what came later counts. Most steps there several times in a row with other values: ranks that the
    log does not name, and their mean counts.
    """
    steps, values = points.steps, points.values
    if (steps[1:] > steps[:-1]).all():
        return Runs((Series(steps, values, points.resolution),))
    ranks = _mean_of_ranks(steps, values)
    if ranks is not None:
        found, per_step = ranks
        series = Series(found[0], found[1], points.resolution)
        return Runs((series,), (f"up to {per_step} values a step, of ranks that the log does not name: their mean",))
    lowest = np.minimum.accumulate(steps)
    starts = np.flatnonzero(np.concatenate(([True], steps[1:] <= lowest[:-1])))
    notes = []
    if starts.size > MOST:
        notes.append(f"steps go back to the beginning {starts.size - 1} times: taken as one run, the later lines count")
        starts = starts[:1]
    made = []
    for start, end in zip(starts, [*starts[1:], steps.size], strict=True):
        kept = start + _latest(steps[start:end])
        made.append(Series(steps[kept], values[kept], points.resolution))
        if lost := int(end - start - kept.size):
            notes.append(f"steps go back within a run: {lost} values are replaced by later ones")
    return Runs(tuple(made), tuple(notes))


def _latest(steps: Numbers) -> Numbers:
    """Where the values stand that nothing later replaces: those before every later step."""
    later = np.minimum.accumulate(steps[::-1])[::-1]
    return np.flatnonzero(np.concatenate((steps[:-1] < later[1:], [True])))


def _mean_of_ranks(steps: Numbers, values: Numbers) -> tuple[tuple[Numbers, Numbers], int] | None:
    """Steps and mean values, if most steps stand there several times and mostly one after the other."""
    distinct, inverse, count = np.unique(steps, return_inverse=True, return_counts=True)
    beside = int((steps[1:] == steps[:-1]).sum())
    if 2 * int((count > 1).sum()) <= distinct.size or 2 * beside <= distinct.size:
        return None
    mean = np.bincount(inverse.reshape(-1), values, distinct.size) / count
    return (distinct, mean), int(count.max())
