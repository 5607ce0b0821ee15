"""Quantiles of Student's t distribution, which numpy has not."""

from __future__ import annotations

from math import atan, cos, pi, sin, sqrt


def t_quantile(share: float, freedom: float) -> float:
    """The value below which this share lies, by bisection.

    share: 0.5 to less than 1. freedom: degrees, taken down to the whole number below, which widens an interval.

    >>> round(t_quantile(0.95, 10), 4), round(t_quantile(0.95, 5), 4), round(t_quantile(0.975, 1), 3)
    (1.8125, 2.015, 12.706)
    """
    low, high = 0.0, 1e4
    while high - low > 1e-9 * (1 + low):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, max(1, int(freedom))) < share else (low, middle)
    return (low + high) / 2


def _below(value: float, freedom: int) -> float:
    """The share below a value from 0 on: Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = atan(value / sqrt(freedom))
    term = cos(angle) if freedom % 2 else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + freedom % 2, freedom - 1, 2):
        term *= cos(angle) ** 2 * (k - 1) / k
        total += term
    inside = 2 / pi * (angle + sin(angle) * total) if freedom % 2 else sin(angle) * total
    return 0.5 + inside / 2
