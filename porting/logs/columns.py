"""Numbers as they were printed: their values and the smallest difference that their digits can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, isfinite, log10
from typing import Any

import numpy as np

from porting.acceptance.trajectory import Numbers

Token = bytes | str

DOT, ZERO = b".0"


class Digits:
    """What the printed digits of a column can show.

    fewest, most: decimals, an exponent taken off. figures: significant digits at most. largest: absolute value.
    """

    __slots__ = ("fewest", "figures", "largest", "most")

    def __init__(self) -> None:
        self.fewest, self.most, self.figures, self.largest = 1 << 30, -(1 << 30), 0, 0.0

    def add(self, decimals: int, figures: int, largest: float) -> None:
        """Take in numbers with as many decimals, and the most significant digits and largest value among them."""
        self.fewest, self.most = min(self.fewest, decimals), max(self.most, decimals)
        self.figures, self.largest = max(self.figures, figures), max(self.largest, largest)

    def add_token(self, token: Token, value: float) -> None:
        """Take in one number."""
        if not isfinite(value):
            return
        text = token.decode() if isinstance(token, bytes) else token
        mantissa, _, power = text.strip().lower().partition("e")
        decimals = len(mantissa.partition(".")[2]) - int(power or 0)
        self.add(decimals, len(mantissa.lstrip("+-0.").replace(".", "")), abs(value))

    def extend(self, other: Digits) -> None:
        """Take in what another has seen."""
        if other.most >= other.fewest:
            self.add(other.fewest, other.figures, other.largest)
            self.add(other.most, 0, 0.0)

    @property
    def resolution(self) -> float:
        """The smallest difference that can be seen between any two values.

        As many decimals everywhere: one of the last decimal. Otherwise as many significant digits: the last of them
        in the largest value. 0 if there was no number.
        """
        if self.most < self.fewest:
            return 0.0
        if self.most == self.fewest or not self.largest:
            return _power(-self.most)
        return _power(floor(log10(self.largest)) + 1 - self.figures)


def _power(exponent: int) -> float:
    return float(f"1e{max(min(exponent, 300), -300)}")


EXACT = 15
"""Digits of a decimal number that float64 holds exactly: such a number over a power of ten rounds once, correctly."""

FEW = 32
"""Numbers below which one by one is faster."""


def converted(tokens: Sequence[Token], digits: Digits) -> Numbers:
    """The values of tokens, float64; their digits are taken in.

    Tokens of one layout (so many digits, a point after so many) become integers column by column.

    Raises: ValueError if a token is no number.
    """
    if len(tokens) < FEW:
        return _one_by_one(tokens, digits)
    text = np.array(tokens, dtype="S")
    width = text.dtype.itemsize
    codes = text.view(np.uint8).reshape(-1, width)
    dots = codes == DOT
    length = width - (codes == 0).sum(axis=1)
    layout = np.where(dots.any(axis=1), dots.argmax(axis=1), length) * (width + 1) + length
    values = np.empty(len(tokens))
    for key in np.unique(layout).tolist():
        dot, size = divmod(key, width + 1)
        chosen = np.flatnonzero(layout == key)
        group = codes if chosen.size == len(tokens) else codes[chosen]
        if not _plain(group, dot, size, values, chosen, digits):
            values[chosen] = _one_by_one([tokens[i] for i in chosen.tolist()], digits)
    return values


def _plain(codes: Numbers, dot: int, size: int, into: Numbers, chosen: Numbers, digits: Digits) -> bool:
    """Convert numbers of digits alone, the point at `dot`; False if there is any other."""
    places = [place for place in range(size) if place != dot]
    if not 0 < len(places) <= EXACT:
        return False
    whole = np.zeros(len(codes), np.int64)
    for place in places:
        digit = codes[:, place] - ZERO  # below zero becomes large: uint8
        if digit.max() > 9:
            return False
        whole *= 10
        whole += digit
    decimals = max(size - dot - 1, 0)
    largest = int(whole.max())
    values = whole / 10**decimals
    into[chosen] = values
    digits.add(decimals, len(str(largest)) if largest else 0, largest / 10**decimals)
    return True


def _one_by_one(tokens: Sequence[Token], digits: Digits) -> Numbers:
    values = np.fromiter(map(float, tokens), np.float64, len(tokens))
    for token, value in zip(tokens, values.tolist(), strict=True):
        digits.add_token(token, value)
    return values


class Column:
    """Values of one name. rows: int64, of the lines that have it, ascending; values: float64."""

    __slots__ = ("_rows", "_values", "digits")

    def __init__(self) -> None:
        self._rows: list[Numbers] = []
        self._values: list[Numbers] = []
        self.digits = Digits()

    def add(self, rows: Numbers, tokens: Sequence[Token]) -> int:
        """Take in tokens of those rows. Returns how many are no numbers: they are left out."""
        lost = 0
        try:
            values = converted(tokens, self.digits)
        except ValueError:
            good = [place for place, token in enumerate(tokens) if _is_number(token)]
            lost, rows = len(tokens) - len(good), rows[good]
            values = converted([tokens[place] for place in good], self.digits)
        self._rows.append(rows)
        self._values.append(values)
        return lost

    def extend(self, other: Column, shift: int) -> None:
        """Take in another column, whose rows follow."""
        self._rows += [rows + shift for rows in other._rows]
        self._values += other._values
        self.digits.extend(other.digits)

    @property
    def rows(self) -> Numbers:
        """Which lines have the name."""
        return _joined(self._rows, np.int64)

    @property
    def values(self) -> Numbers:
        """What stands there."""
        return _joined(self._values, np.float64)


def _is_number(token: Token) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True


def _joined(parts: list[Numbers], dtype: Any) -> Numbers:
    if len(parts) != 1:
        parts[:] = [np.concatenate(parts) if parts else np.empty(0, dtype)]
    return parts[0]


MOST = 512
"""Names in one kind of line at most: a file of noise does not make a column of each word."""


class Rows:
    """All lines of one kind. count: of lines. columns: numbers by name. words: text by name, with its rows."""

    __slots__ = ("columns", "count", "unread", "words")

    def __init__(self) -> None:
        self.count = 0
        self.unread = 0
        self.columns: dict[str, Column] = {}
        self.words: dict[str, dict[int, str]] = {}

    def column(self, name: str) -> Column | None:
        """The column to fill; None for one name too many."""
        if name not in self.columns:
            if len(self.columns) >= MOST:
                return None
            self.columns[name] = Column()
        return self.columns[name]

    def dense(self, name: str) -> Numbers:
        """The values of a name in all lines: float64 [count], NaN where a line does not have it."""
        values = np.full(self.count, np.nan)
        if name in self.columns:
            values[self.columns[name].rows] = self.columns[name].values
        return values

    def resolution(self, name: str) -> float:
        """What the digits of a name can show."""
        return self.columns[name].digits.resolution if name in self.columns else 0.0

    def extend(self, other: Rows) -> None:
        """Take in lines that follow."""
        for name, column in other.columns.items():
            if (mine := self.column(name)) is not None:
                mine.extend(column, self.count)
        for name, texts in other.words.items():
            self.words.setdefault(name, {}).update({row + self.count: text for row, text in texts.items()})
        self.count += other.count
        self.unread += other.unread


Found = Mapping[str, Rows]
"""What was found of one dialect: lines by the name of their kind."""
