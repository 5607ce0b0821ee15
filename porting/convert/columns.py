"""Lines of text in columns, and values as JSON has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = (), indent: str = "") -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell and two spaces apart.

    right: columns that are aligned at their end, as numbers are.

    >>> aligned([("a", "1"), ("bc", "10")], right=[1])
    ['a    1', 'bc  10']
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        indent
        + "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def shown(value: float | None) -> str:
    """A number of a table; a dash where there is none.

    >>> shown(0.0001234567)
    '0.0001235'
    """
    return "-" if value is None else f"{value:.4g}"


def jsonable(value: Any) -> Any:
    """The value with what JSON has no number for as text, and tuples as lists.

    >>> jsonable({"max": float("inf"), "at": (1, 2)})
    {'max': 'inf', 'at': [1, 2]}
    """
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: jsonable(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(part) for part in value]
    return value
