"""Dropout as an input: off, drawn by the framework, or masks drawn once on the CPU and given to every side."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Mode = Literal["off", "own", "shared"]


@dataclass(frozen=True, slots=True)
class Dropout:
    """How dropout is done in a run.

    off: no dropout, as in evaluation. own: by the framework's generator, seeded with `seed`. shared:
    by masks that `mask` draws, the same in every framework for the same seed, step and site.
    """

    mode: Mode = "off"
    seed: int = 0

    def mask(self, site: str, step: int, shape: tuple[int, ...], rate: float) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The multiplier of a site: 0 with probability `rate`, else 1 / (1 - rate), float32, of that shape.

        site: a name that every port uses for the same place (`layer.3.attention.probs`).
        Drawn by Philox, keyed by seed, step and site: no order of calls, and no framework, changes it.
        """
        if rate <= 0:
            return np.ones(shape, np.float32)
        key = hashlib.sha256(f"{self.seed}\0{step}\0{site}".encode()).digest()
        random = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
        keep = random.random(shape, np.float32) >= np.float32(rate)
        return keep.astype(np.float32) / np.float32(1 - rate)

    def seed_of(self, step: int, rank: int = 0) -> int:
        """The seed of a framework's own generator for one step, so that a run that goes on draws what it would have."""
        key = hashlib.sha256(f"{self.seed}\0{step}\0{rank}\0own".encode()).digest()
        return int.from_bytes(key[:7], "little")


OFF = Dropout()
"""No dropout."""
