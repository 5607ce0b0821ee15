"""Which permutation of a target's axes lays it out like its source: by values, or by a shape that leaves one only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Axes = tuple[int, ...]

SAMPLE = 4096
"""Elements compared for each permutation."""

AHEAD = 0.5
"""The best permutation is taken if its distance is at most this share of the next one's."""

MANY = 720
"""Permutations tried at most: all of six axes of one size."""


@dataclass(frozen=True, slots=True)
class Choice:
    """axes: numpy's argument, `target.transpose(axes)` lies like the source; () where it does already.

    None where nothing decides between `options`. by: `shape` (only one fits), `values`.
    """

    axes: Axes | None
    by: str
    options: tuple[Axes, ...]


def fitting(source: Axes, target: Axes) -> list[Axes]:
    """Every permutation that gives the target the source's shape.

    >>> fitting((2, 3, 8, 8), (2, 8, 8, 3))
    [(0, 3, 1, 2), (0, 3, 2, 1)]
    """
    return [axes for axes, _ in zip(_filled(source, target, ()), range(MANY), strict=False)]


def _filled(source: Axes, target: Axes, chosen: Axes) -> Iterator[Axes]:
    if len(chosen) == len(source):
        yield chosen
        return
    for axis, size in enumerate(target):
        if axis not in chosen and size == source[len(chosen)]:
            yield from _filled(source, target, (*chosen, axis))


def plain(axes: Axes) -> Axes:
    """() for the identity."""
    return () if axes == tuple(range(len(axes))) else axes


def choose(source: Axes, target: Axes, values: tuple[Array, Array] | None) -> Choice:
    """The permutation between two shapes of equal sizes. values: both tensors, where they are stored."""
    options = _distinct(source, fitting(source, target))
    if len(options) == 1:
        return Choice(plain(options[0]), "shape", tuple(options))
    if values is not None:
        apart = distances(*values, options)
        order = np.argsort(apart, kind="stable")
        best, second = apart[order[0]], apart[order[1]]
        if best < AHEAD * second:
            return Choice(plain(options[int(order[0])]), "values", tuple(options))
    return Choice(None, "", tuple(options))


def _distinct(shape: Axes, options: list[Axes]) -> list[Axes]:
    """Without those that differ only in where axes of size 1 go, which moves no element."""
    seen: dict[Axes, Axes] = {}
    for axes in options:
        seen.setdefault(tuple(axis for axis, size in zip(axes, shape, strict=True) if size > 1), axes)
    return list(seen.values())


def distances(source: Array, target: Array, options: list[Axes]) -> Array:
    """Relative distance of a sample of the source to the same elements of the target, for each permutation."""
    count = int(np.prod(source.shape))
    places = np.random.default_rng(0).integers(0, count, SAMPLE) if count > SAMPLE else np.arange(count)
    at = np.unravel_index(places, source.shape)
    wanted = np.asarray(source[at]).astype(np.float64)
    scale = float(np.sqrt((wanted**2).sum())) or 1.0
    found = []
    for axes in options:
        index: list[Any] = [None] * len(axes)
        for axis, place in zip(axes, at, strict=True):
            index[axis] = place
        off = np.asarray(target[tuple(index)]).astype(np.float64) - wanted
        found.append(float(np.sqrt(np.nansum(off**2))) / scale)
    return np.array(found)
