"""Lines of text in columns, and values as JSON has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any
from unicodedata import east_asian_width


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = (), indent: str = "") -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell and two spaces apart.

    right: columns that are aligned at their end, as numbers are.

    >>> aligned([("a", "1"), ("bc", "10")], right=[1])
    ['a    1', 'bc  10']
    """
    widths = [max(width(cell) for cell in column) for column in zip(*rows, strict=True)]

    def padded(i: int, cell: str) -> str:
        room = " " * (widths[i] - width(cell))
        return room + cell if i in right else cell + room

    return [indent + "  ".join(padded(i, cell) for i, cell in enumerate(row)).rstrip() for row in rows]


def width(text: str) -> int:
    """Columns of a terminal that a text takes: two for a Chinese character.

    >>> width("L0 \N{CJK UNIFIED IDEOGRAPH-6743}")
    5
    """
    return len(text) if text.isascii() else sum(1 + (east_asian_width(one) in "WF") for one in text)


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
