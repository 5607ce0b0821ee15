"""Intervals of metrics from predictions, by a bootstrap over examples (B. Efron, Annals of Statistics 7, 1979).

Examples are drawn, and with them both sides' answers where both answered the same ones: what is hard for one is hard
for the other, and the interval of the difference is narrow. A plain bootstrap of two sides that agree on all of a few
examples has no width at all, as if no example could ever tell them apart. So a draw has, for each side, one more
example on the average (Poisson), in whose place that side gives the answer to another: what none of n examples showed,
the next one may. That makes the width of a difference of nothing about 2 / n, as Tango's interval has it for shares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite, sqrt
from statistics import NormalDist

import numpy as np

from porting.acceptance.predictions import OF_NUMBERS
from porting.metrics import Array

Weighted = Callable[[Array], float]

RESAMPLES = 2000
MANY, FEWER = 100_000, 400
"""Examples from which on so many draws are enough: quantiles of 5 % are told to a tenth of the interval still."""

LEAST = 10
"""Examples that an interval is drawn from."""

POOL = 256
"""Exchanged answers that are drawn from, a side."""


def drawn_measures(
    names: Sequence[str], labels: Array, sides: Sequence[Mapping[str, Array]], *, seed: int = 0
) -> dict[str, list[Array]] | None:
    """Values of metrics over draws of the same examples for all sides: name -> float64 [draws] of each side.

    labels: [n]; sides: what each metric looks at, [n] each. None where there are too few examples, or all labels are
    one, so that draws say nothing.
    """
    if not names or labels.size < LEAST or bool((labels == labels[0]).all()):
        return None
    random = np.random.default_rng(seed)
    whole, rows = _with_exchanged(labels.size, len(sides), random)
    measures = {
        name: [_weighted(name, labels[whole], side[name][own]) for side, own in zip(sides, rows, strict=True)]
        for name in names
    }
    found: dict[str, list[list[float]]] = {name: [[] for _ in sides] for name in names}
    for weights in _weights(labels.size, whole.size, len(sides), random):
        for name, each in measures.items():
            for values, measure in zip(found[name], each, strict=True):
                values.append(measure(weights))
    return {name: [np.array(values) for values in each] for name, each in found.items()}


def bounds(values: Array | None, level: float) -> tuple[float, float] | None:
    """The middle share of draws; None where there are none, or one is no number."""
    if values is None or not np.isfinite(values).all():
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def tango(target_alone: int, source_alone: int, count: int, *, level: float = 0.9) -> tuple[float, float]:
    """Bounds of the difference of two shares of the same examples (T. Tango, Statistics in Medicine 17, 1998).

    target_alone, source_alone: examples that one side alone has right. The score test's interval: it has a width where
    the sides agree on every example, as Wilson's has at a share of 1.

    >>> tuple(round(bound, 4) for bound in tango(0, 0, 100))
    (-0.0263, 0.0263)
    """
    z = NormalDist().inv_cdf((1 + level) / 2)

    def score(apart: float) -> float:
        """Falls from the lower bound, where it is z, to the upper, where it is -z."""
        b = -target_alone - source_alone + (2 * count - target_alone + source_alone) * apart
        c = -source_alone * apart * (1 - apart)
        share = (sqrt(max(0.0, b * b - 8 * count * c)) - b) / (4 * count)
        spread = count * (2 * share + apart * (1 - apart))
        gap = target_alone - source_alone - count * apart
        return gap / sqrt(spread) if spread > 0 else float(np.sign(gap)) * float("inf")

    middle = (target_alone - source_alone) / count
    return _crossing(lambda one: score(one) < z, -1.0, middle), _crossing(lambda one: score(one) <= -z, middle, 1.0)


def _crossing(beyond: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition becomes true between two places, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return (low + high) / 2


def _with_exchanged(count: int, sides: int, random: np.random.Generator) -> tuple[Array, list[Array]]:
    """Examples and, behind them, for each side those in which it answers another: places of labels, and of answers."""
    pools = random.integers(0, count, (sides, POOL))
    whole = np.concatenate([np.arange(count), pools.reshape(-1)])
    rows = [whole.copy() for _ in range(sides)]
    for side, own in enumerate(rows):
        start = count + side * POOL
        own[start : start + POOL] = random.integers(0, count, POOL)
    return whole, rows


def _weights(count: int, whole: int, sides: int, random: np.random.Generator) -> Iterator[Array]:
    for _ in range(RESAMPLES if count <= MANY else FEWER):
        weights = np.bincount(random.integers(0, count, count), minlength=whole)
        for side in range(sides):
            start = count + side * POOL
            np.add.at(weights, random.integers(start, start + POOL, random.poisson(1.0)), 1)
        yield weights


def _weighted(name: str, labels: Array, found: Array) -> Weighted:
    """A metric as a function of how often each example counts; what is sorted or coded is so once."""
    if name in OF_NUMBERS and not np.isfinite(found).all():
        return lambda _: float("nan")
    if name == "auc":
        return _auc(labels, found)
    if name == "pearson":
        ours, theirs = (np.asarray(side, np.float64) - np.mean(side) for side in (labels, found))
        return lambda weights: _correlation(ours, theirs, weights)
    if name == "spearman":
        ranks = [_ranks(side) for side in (labels, found)]
        return lambda weights: _correlation(ranks[0](weights), ranks[1](weights), weights)
    return _counted(name, labels, found)


def _counted(name: str, labels: Array, found: Array) -> Weighted:
    """A metric of the table of labels and predictions."""
    classes = np.union1d(labels, found)
    size = classes.size
    codes = np.searchsorted(classes, labels) * size + np.searchsorted(classes, found)
    one = int(np.flatnonzero(classes == 1)[0]) if name in ("f1", "acc_and_f1") and bool((classes == 1).any()) else None

    def measure(weights: Array) -> float:
        table = np.bincount(codes, weights, size * size).reshape(size, size)
        if name == "matthews":
            return _matthews(table)
        either = 0.0 if one is None else table[one].sum() + table[:, one].sum()
        f1 = 2 * table[one, one] / either if either else 0.0
        accuracy = np.trace(table) / table.sum()
        return float({"f1": f1, "accuracy": accuracy, "acc_and_f1": (f1 + accuracy) / 2}[name])

    return measure


def _matthews(table: Array) -> float:
    total, rows, columns = table.sum(), table.sum(axis=1), table.sum(axis=0)
    scale = sqrt(max(0.0, total**2 - (rows**2).sum())) * sqrt(max(0.0, total**2 - (columns**2).sum()))
    return float((np.trace(table) * total - rows @ columns) / scale) if scale else 0.0


def _correlation(ours: Array, theirs: Array, weights: Array) -> float:
    total = weights.sum()
    ours, theirs = ours - weights @ ours / total, theirs - weights @ theirs / total
    scale = sqrt(float(weights @ (ours * ours)) * float(weights @ (theirs * theirs)))
    found = float(weights @ (ours * theirs)) / scale if scale else 0.0
    return found if isfinite(found) else float("nan")


def _ranks(values: Array) -> Callable[[Array], Array]:
    """Ranks of values, those of equal ones their mean, as a function of how often each counts."""
    known, places = np.unique(values, return_inverse=True)
    places = places.reshape(-1)

    def ranked(weights: Array) -> Array:
        counts = np.bincount(places, weights, known.size)
        return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places])

    return ranked


def _auc(labels: Array, scores: Array) -> Weighted:
    ranked, ones = _ranks(scores), labels == 1

    def measure(weights: Array) -> float:
        count = float(weights[ones].sum())
        others = float(weights.sum()) - count
        if not count or not others:
            return 0.5
        return float((weights[ones] @ ranked(weights)[ones] - count * (count + 1) / 2) / (count * others))

    return measure
