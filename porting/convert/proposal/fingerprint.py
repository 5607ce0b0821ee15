"""A hash of a tensor's elements that does not depend on their order: equal for a tensor and its transpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.pieces import PIECE, storage_pieces
from porting.checkpoint.storage import Array

_CARRIERS = {1: np.uint8, 2: np.uint16, 4: np.uint32}
_SEEDS = (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Number of elements, dtype, and two sums of mixed bit patterns modulo 2^64.

    Sums add up: the fingerprint of a stack is the sum of those of its parts.
    """

    count: int
    dtype: str
    sums: tuple[int, int]

    def __add__(self, other: Fingerprint) -> Fingerprint:
        first, second = ((a + b) % 2**64 for a, b in zip(self.sums, other.sums, strict=True))
        return Fingerprint(self.count + other.count, self.dtype, (first, second))


def total(parts: Sequence[Fingerprint]) -> Fingerprint:
    """The fingerprint of all parts together, of which there is at least one."""
    whole = parts[0]
    for part in parts[1:]:
        whole += part
    return whole


def fingerprint(entry: TensorEntry) -> Fingerprint | None:
    """Read the tensor once, in pieces. None for strings and for tensors without elements."""
    if entry.dtype.kind == "string" or not entry.elements:
        return None
    width = entry.dtype.itemsize
    sums = [0, 0]
    for piece in storage_pieces(entry.storage, entry.shape, width, max(8, PIECE * width // 8)):
        bits = np.frombuffer(piece, _CARRIERS.get(width, np.uint64)).astype(np.uint64)
        for i, seed in enumerate(_SEEDS):
            sums[i] = (sums[i] + int(mixed(bits, seed).sum(dtype=np.uint64))) % 2**64
    return Fingerprint(entry.elements, entry.dtype.name, (sums[0], sums[1]))


def mixed(bits: Array, seed: int) -> Array:
    """SplitMix64's finaliser (Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, 2014)."""
    mixed = bits + np.uint64(seed)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
