"""Statistics of a tensor's values, streamed: one piece in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from porting.checkpoint.dtypes import DType
from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.pieces import PIECE, storage_pieces
from porting.checkpoint.storage import Array


@dataclass(frozen=True, slots=True)
class Stats:
    """What the values of one or more tensors come to; a complex value counts as two.

    count: values, of which nan and inf are not finite and zeros are zero (of either sign).
    low, high, mean: over the finite values, None if there is none. spread: sum of squared distances from the mean.
    """

    count: int
    nan: int
    inf: int
    zeros: int
    low: float | None
    high: float | None
    mean: float | None
    spread: float

    @property
    def finite(self) -> int:
        """How many values are finite."""
        return self.count - self.nan - self.inf

    @property
    def std(self) -> float | None:
        """Standard deviation of the finite values: of all of them, not of a sample."""
        return sqrt(self.spread / self.finite) if self.finite else None

    def to_json(self) -> dict[str, int | float | None]:
        """By the names of the table's columns."""
        return {
            "count": self.count,
            "min": self.low,
            "max": self.high,
            "mean": self.mean,
            "std": self.std,
            "nan": self.nan,
            "inf": self.inf,
            "zeros": self.zeros,
        }


def typed_pieces(entry: TensorEntry) -> Iterator[Array]:
    """The elements in row-major order in the dtype's numpy carrier, flat, about a quarter of a million at a time.

    So many are 2 MiB in float64, whatever the dtype. Strings have no pieces.
    """
    carrier, width = entry.dtype.numpy(), entry.dtype.itemsize
    for piece in storage_pieces(entry.storage, entry.shape, width, PIECE * width // 8):
        yield np.frombuffer(piece, carrier)


def exact(values: Array, dtype: DType) -> Array:
    """The values in a real type that holds each of them exactly; complex ones as their two parts.

    That is float64, and for 64-bit integers numpy's long double, which has 64 bits of mantissa or more on every
    platform that the kit supports.
    """
    if dtype.kind == "complex":
        values = values.view(values.real.dtype)
    wide = np.longdouble if dtype.kind in ("int", "uint") and dtype.bits == 64 else np.float64
    with np.errstate(invalid="ignore"):  # signalling NaN become quiet ones
        return values.astype(wide)


def tensor_stats(entry: TensorEntry) -> Stats | None:
    """Read the tensor once. None for strings, which have no values to count."""
    if entry.dtype.kind == "string":
        return None
    return merged(_piece(exact(piece, entry.dtype)) for piece in typed_pieces(entry))


def _piece(values: Array) -> Stats:
    nan = int(np.count_nonzero(np.isnan(values)))
    fine = np.isfinite(values)
    inf = int(values.size - np.count_nonzero(fine) - nan)
    finite = values if not nan + inf else values[fine]
    zeros = int(finite.size - np.count_nonzero(finite))
    if not finite.size:
        return Stats(values.size, nan, inf, zeros, None, None, None, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(finite.mean())
        spread = float(np.square(finite - mean).sum())
    return Stats(values.size, nan, inf, zeros, _number(finite.min()), _number(finite.max()), mean, spread)


def _number(value: np.floating[Any]) -> float:
    """As Python's float, or as an int where only that is exact."""
    return int(value) if isinstance(value, np.longdouble) and not isinstance(value, np.float64) else float(value)


def merged(parts: Iterable[Stats]) -> Stats:
    """Statistics of several runs of values as those of all.

    Mean and spread are combined as in Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for
    Computing Sample Variances (1979), eq. 2.1.
    """
    total = Stats(0, 0, 0, 0, None, None, None, 0.0)
    for part in parts:
        total = _both(total, part)
    return total


def _both(a: Stats, b: Stats) -> Stats:
    counts = (a.count + b.count, a.nan + b.nan, a.inf + b.inf, a.zeros + b.zeros)
    if a.mean is None or a.low is None or a.high is None:
        return Stats(*counts, b.low, b.high, b.mean, b.spread)
    if b.mean is None or b.low is None or b.high is None:
        return Stats(*counts, a.low, a.high, a.mean, a.spread)
    share = b.finite / (a.finite + b.finite)
    gap = b.mean - a.mean
    spread = a.spread + b.spread + gap * gap * a.finite * share
    return Stats(*counts, min(a.low, b.low), max(a.high, b.high), a.mean + gap * share, spread)
