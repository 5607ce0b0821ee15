"""A quantile of many numbers from one pass and a table of fixed size."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_SHIFT = 17
_BINS = 1 << 14
"""A float32's sign (always 0), its 8 bits of exponent and the first 6 of its mantissa: 64 bins to a power of two."""


class LogHistogram:
    """Counts of numbers that are not negative, in bins of equal width in the exponent and 6 bits of mantissa."""

    def __init__(self) -> None:
        self.counts = np.zeros(_BINS, np.int64)

    def add(self, values: Array, weight: int = 1) -> None:
        """Count values, 0 or more, each so many times.

        What float32 cannot hold goes into the last bin, below 1.8e-40 into the first.
        """
        with np.errstate(over="ignore", under="ignore"):
            bits = values.astype(np.float32).view(np.uint32)
        self.counts += weight * np.bincount(bits >> np.uint32(_SHIFT), minlength=_BINS)

    def quantile(self, share: float) -> float:
        """The upper end of the bin in which that share of the counted ends: at most 1.6 % above the quantile."""
        total = int(self.counts.sum())
        if not total:
            return 0.0
        bin_ = int(np.searchsorted(np.cumsum(self.counts), share * total))
        return float(np.uint32((bin_ + 1) << _SHIFT).view(np.float32)) if bin_ else 0.0
