"""Sines of relative positions: the one table of constants, computed once for all frameworks."""

from __future__ import annotations

from typing import Any

import numpy as np


def frequencies(width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(width / 2,) float32: 1 / 10000^(2k / width), rounded step by step as modeling.py does in float32."""
    exponent = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    return np.float32(1) / np.float32(10000) ** exponent
