"""How much speaks for two tensors of two captures being the same one: from shapes, values, names and places.

All evidence is a natural logarithm of odds, so that it adds up. It is of the order of `-log` of the chance that two
tensors which have nothing to do with each other agree as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from porting.convert.proposal.kinship import plain
from porting.parity.capture import Summary

Array = np.ndarray[Any, np.dtype[Any]]

UNRELATED = -1.5
"""Every pair starts with this: a pair that nothing but a common shape speaks for is better left out."""

VALUES, SCALED, AGAINST, NAMES, OWNERS, PLACE = 9.0, 5.0, -2.0, 3.0, 2.0, 0.4
"""The most that each kind may add (AGAINST: may take away). A place is worth less than what makes two alternatives
differ (`alignment.EQUAL`): it chooses which of equals is shown first, and decides nothing."""

AGREE = 1e-3
"""Relative distance of statistics below which values count as the same: the noise of half precision."""

_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True)
class Member:
    """One tensor of a capture. owned: sizes of its module's own weights."""

    summary: Summary
    owned: tuple[tuple[int, ...], ...] = ()

    @property
    def name(self) -> str:
        """The name of the tensor."""
        return self.summary.name

    @property
    def sizes(self) -> tuple[int, ...]:
        """The axes' sizes in no order."""
        return tuple(sorted(self.summary.shape))


def pair_evidence(source: Sequence[Member], target: Sequence[Member]) -> Array:
    """Evidence for every pair, (sources, targets); -inf where no permutation of axes can make the shapes equal."""
    fits = _fits(source, target)
    same = _equal([one.summary.shape for one in source], [one.summary.shape for one in target])
    total = UNRELATED + _rarity(source, target) + 0.3 * same
    total += _value_evidence(source, target)
    total += NAMES * _likeness(source, target) ** 2
    total += _owners(source, target)
    places = [np.linspace(0, 1, len(side)) if len(side) > 1 else np.zeros(len(side)) for side in (source, target)]
    total -= PLACE * np.abs(places[0][:, None] - places[1])
    return np.where(fits, total, -np.inf)


def distance(source: Sequence[Summary], target: Sequence[Summary], *, scale: bool = False) -> Array:
    """How far apart the values of every pair are: the largest relative distance of norm, largest element and mean.

    None of the three depends on the order of the elements. scale: leave the norm out and take the others in units of
    it, so that a tensor and a multiple of it are 0 apart.
    """
    a, b = _statistics(source), _statistics(target)
    if scale:
        found = [_relative(a[:, None, 1] / a[:, None, 2], b[:, 1] / b[:, 2])]
    else:
        found = [_relative(a[:, None, 0], b[:, 0]), _relative(a[:, None, 1], b[:, 1])]
    units = (a[:, None, 2], b[:, 2]) if scale else (np.maximum(a[:, None, 2], b[:, 2]),) * 2
    found.append(np.abs(a[:, None, 3] / units[0] - b[:, 3] / units[1]))
    result: Array = np.maximum.reduce(found)
    return result


def _statistics(side: Sequence[Summary]) -> Array:
    """(tensors, 4): norm, largest element, root of the mean square, mean; the root never 0."""
    rows = [(s.l2, s.largest, max(s.l2 / max(prod(s.shape), 1) ** 0.5, _TINY), s.mean) for s in side]
    return np.array(rows, np.float64).reshape(-1, 4)


def _relative(a: Array, b: Array) -> Array:
    found: Array = np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), _TINY)
    return found


def _value_evidence(source: Sequence[Member], target: Sequence[Member]) -> Array:
    a, b = [one.summary for one in source], [one.summary for one in target]
    plainly = np.clip(-np.log(np.maximum(distance(a, b), 1e-6)), AGAINST, VALUES)
    scaled = np.clip(-np.log(np.maximum(distance(a, b, scale=True), 1e-6)) - 2, AGAINST, SCALED)
    result: Array = np.maximum(plainly, scaled)
    return result


def _fits(source: Sequence[Member], target: Sequence[Member]) -> Array:
    return _equal([one.sizes for one in source], [one.sizes for one in target])


def _equal(a: Sequence[object], b: Sequence[object]) -> Array:
    """Whether the keys of every pair are equal."""
    numbers: dict[object, int] = {}
    codes = [np.array([numbers.setdefault(key, len(numbers)) for key in side], np.int64) for side in (a, b)]
    result: Array = codes[0][:, None] == codes[1]
    return result


def _rarity(source: Sequence[Member], target: Sequence[Member]) -> Array:
    """-log of the share of targets that have the source's sizes: a shape that occurs once says much."""
    counts = Counter(one.sizes for one in target)
    shares = [counts[one.sizes] / max(len(target), 1) for one in source]
    result: Array = np.clip(-np.log(np.maximum(shares, 1e-9)), 0.2, 4.0)[:, None]
    return result


def _likeness(source: Sequence[Member], target: Sequence[Member]) -> Array:
    """Dice coefficient of the words of the names, 0 to 1."""
    sides = [[words(one.name) for one in side] for side in (source, target)]
    known = {word: i for i, word in enumerate(sorted({word for side in sides for found in side for word in found}))}
    bags = []
    for side in sides:
        bag = np.zeros((len(side), len(known)), np.float32)
        for row, found in zip(bag, side, strict=True):
            row[[known[word] for word in found]] = 1
        bags.append(bag)
    lengths = bags[0].sum(1)[:, None] + bags[1].sum(1)
    result: Array = 2 * (bags[0] @ bags[1].T) / np.maximum(lengths, 1)
    return result


_SAME = {"conv2d": "conv", "conv1d": "conv", "fc": "dense", "linear": "dense", "running": "moving", "var": "variance"}


def words(name: str) -> frozenset[str]:
    """The words of a name, in no framework's dialect; numbers are words of their own.

    >>> sorted(words("encoder.layer.0.LayerNorm.weight")) == sorted(words("encoder/layer_0/layer_norm/gamma"))
    True
    """
    parts = plain(name).split(".")
    spaced = [word for part in parts for word in re.findall(r"\d+|#\d+|conv[12]d|[^\d#]+", part)]
    return frozenset(_SAME.get(word, word) for word in spaced)


def _owners(source: Sequence[Member], target: Sequence[Member]) -> Array:
    """A module with weights is one with weights of the same sizes; of what has none on either side nothing is said."""
    a, b = [one.owned for one in source], [one.owned for one in target]
    some = np.array([bool(one) for one in a], bool)[:, None] | np.array([bool(one) for one in b], bool)
    known = any(a) and any(b)
    return np.where(some & known, np.where(_equal(a, b), OWNERS, -OWNERS), 0.0)


def owned_weights(taps: Sequence[str], weights: Mapping[str, Summary]) -> dict[str, list[Summary]]:
    """The weights that each tap's module has itself, by the names' common beginning."""
    found: dict[str, list[Summary]] = {}
    known = set(taps)
    for name, summary in weights.items():
        tap = owner(name, known)
        if tap is not None:
            found.setdefault(tap, []).append(summary)
    return found


def owner(weight: str, taps: set[str]) -> str | None:
    """The tap whose module has this weight: its name without the last part, or without the first too (the model's own).

    >>> owner("net/conv/kernel", {"conv", "dense"})
    'conv'
    """
    for mark in "/.":
        path = weight.rpartition(mark)[0]
        for candidate in (path, path.partition(mark)[2]):
            if candidate and candidate in taps:
                return candidate
    return None
