"""The best alignment of two sequences that keeps their order, and how clear each of its pairs is.

Needleman and Wunsch, A general method applicable to the search for similarities (J. Mol. Biol. 48, 1970), without a
cost for gaps: what has no partner costs nothing, a pair adds its evidence, which may be negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

EQUAL = 0.5
"""Evidence, in natural logarithms of odds, by which alternatives have to differ: odds of 5 to 3."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """A pair of the best alignment: places in both sequences.

    confidence: 0 to 1, against each other partner of either, and against none: the softmax of the best alignments
    that contain each. rivals: partners (side 0: in the second sequence; 1: in the first) with which the alignment
    would be as good, within EQUAL.
    """

    source: int
    target: int
    confidence: float
    rivals: tuple[tuple[int, int], ...] = ()


def align(evidence: Array, same: tuple[Sequence[object], Sequence[object]] | None = None) -> list[Aligned]:
    """Align two sequences by the evidence for each pair (source, target), -inf where a pair cannot be.

    same: a key per member of either sequence; members of one key are the same tensor, and so are no rivals.
    """
    rows, columns = evidence.shape
    if not rows or not columns:
        return []
    before, after = _best(evidence), _best(evidence[::-1, ::-1])[::-1, ::-1]
    through = before[:-1, :-1] + evidence + after[1:, 1:]
    alone_rows = (before[:-1] + after[1:]).max(axis=1)
    alone_columns = (before[:, :-1] + after[:, 1:]).max(axis=0)
    keys = tuple(map(list, same or (range(rows), range(columns))))
    found = []
    for i, j in _traced(before, evidence):
        row, across = _against(through[i], j, alone_rows[i], keys[1])
        column, down = _against(through[:, j], i, alone_columns[j], keys[0])
        # One of several equal members may as well be left out and another one paired: that is no doubt about this one.
        row = row if not _again(through[:, j], i, keys[0]) else _against(through[i], j, -np.inf, keys[1])[0]
        column = column if not _again(through[i], j, keys[1]) else _against(through[:, j], i, -np.inf, keys[0])[0]
        rivals = (*((0, other) for other in across), *((1, other) for other in down))
        found.append(Aligned(i, j, min(row, column), rivals))
    return found


def _best(evidence: Array) -> Array:
    """best[i, j]: of the first i and the first j members, (rows + 1, columns + 1)."""
    rows, columns = evidence.shape
    best = np.zeros((rows + 1, columns + 1))
    for i in range(rows):
        paired = best[i, :-1] + evidence[i]
        best[i + 1, 1:] = np.maximum.accumulate(np.maximum(best[i, 1:], paired))
    return best


def _traced(best: Array, evidence: Array) -> list[tuple[int, int]]:
    """The pairs of a best alignment, in order."""
    i, j = evidence.shape
    pairs = []
    while i and j:
        if best[i, j] == best[i - 1, j]:
            i -= 1
        elif best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]


def _again(through: Array, chosen: int, keys: Sequence[object]) -> bool:
    """Whether an equal member could stand in its place."""
    return any(key == keys[chosen] and i != chosen and np.isfinite(through[i]) for i, key in enumerate(keys))


def _against(through: Array, chosen: int, alone: float, keys: Sequence[object]) -> tuple[float, list[int]]:
    """The share of the chosen partner among all, and the others that are as good."""
    others = [i for i in np.flatnonzero(np.isfinite(through)) if keys[i] != keys[chosen]]
    behind = through[others] - through[chosen]
    share = 1 / (1 + float(np.exp(np.minimum(behind, 0)).sum()) + float(np.exp(min(alone - through[chosen], 0.0))))
    return share, [int(i) for i, gap in zip(others, behind, strict=True) if gap > -EQUAL]
