"""Which of many needles a block may have, told by one pass over it.

A needle can only be in a block that has all its bytes and all its pairs of neighbouring bytes. A block is looked at in
pairs from its even places, so it has the pairs from the needle's even places or those from its odd ones, wherever the
needle begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from porting.acceptance.trajectory import Numbers

ANY = 1 << 16
"""A pair that every block has: fills the shorter rows."""


class Needles:
    """Needles of at least two bytes."""

    def __init__(self, needles: Sequence[bytes]) -> None:
        pairs = [[a | b << 8 for a, b in pairwise(needle)] for needle in needles]
        self._even, self._odd = _filled([one[::2] for one in pairs]), _filled([one[1::2] for one in pairs])
        self._bytes = np.minimum(_filled([[*needle] for needle in needles]), 256)

    def possible(self, block: bytes) -> list[int]:
        """Numbers of the needles that a block, not empty, may have: all that it has, and few others."""
        pairs = np.zeros(ANY + 1, bool)
        pairs[np.frombuffer(block, "<u2", len(block) // 2)] = True
        square = pairs[:ANY].reshape(256, 256)
        single = np.ones(257, bool)
        single[:256] = square.any(axis=0) | square.any(axis=1)
        single[block[-1]] = True  # of an odd number of bytes the last is in no pair
        pairs[ANY] = True
        found = (pairs[self._even].all(axis=1) | pairs[self._odd].all(axis=1)) & single[self._bytes].all(axis=1)
        numbers: list[int] = np.flatnonzero(found).tolist()
        return numbers


def _filled(rows: Sequence[Sequence[int]]) -> Numbers:
    width = max(map(len, rows), default=0)
    return np.array([[*row, *[ANY] * (width - len(row))] for row in rows], np.int64).reshape(len(rows), width)
