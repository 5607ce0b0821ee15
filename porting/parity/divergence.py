"""Kullback-Leibler divergence of the distributions that two sets of logits stand for."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def divergences(source: Array, target: Array) -> Array:
    """KL(softmax(source) || softmax(target)) of each row, in nats.

    source, target: (rows, classes) float64. Returns (rows,) float64 without the rows in which anything is not finite.
    """
    good = np.isfinite(source).all(1) & np.isfinite(target).all(1)
    p, q = _log_softmax(source[good]), _log_softmax(target[good])
    found: Array = np.maximum((np.exp(p) * (p - q)).sum(1), 0.0)  # rounding may take a zero below zero
    return found


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(1, keepdims=True) if logits.size else logits
    result: Array = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result
