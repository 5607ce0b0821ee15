"""Numbers that a user gives to judge by."""

from __future__ import annotations

from math import isfinite

from porting.errors import UsageError


def check_limit(option: str, value: float | None) -> None:
    """Raises: UsageError for one that was given and is no number above 0."""
    if value is not None and not (isfinite(value) and value > 0):
        raise UsageError(f"{option} {value}: wanted a number above 0")
