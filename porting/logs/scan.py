"""Looks for the lines of all dialects in blocks of bytes, with compiled patterns over whole blocks.

No code runs per line for lines of numbers: a pattern's matches in a block become columns. A pattern is tried only
where its needle is. For the needles that a file has not had yet, one pass over a block tells which pairs of bytes
occur in it: a needle whose pairs do not all occur cannot be there. A block whose lines are all read is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from porting.acceptance.trajectory import Numbers
from porting.logs.columns import Rows, Token
from porting.logs.dialect import Dialect, Event
from porting.logs.needles import Needles


class Scan:
    """What was found in one stream of text. found: by dialect, then kind of line."""

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self.found: dict[str, dict[str, Rows]] = {}
        self._waiting = [(dialect.name, event) for dialect in dialects for event in dialect.events]
        self._needles = Needles([event.needle for _, event in self._waiting])
        self._active: list[tuple[str, Event]] = []

    def feed(self, block: bytes) -> None:
        """Take in whole lines."""
        lines = block.count(b"\n")
        for name, event in self._active:
            if event.needle in block:
                read = self._read(name, event, block)
                lines -= read if event.alone else 0
        if lines <= 0 or not self._waiting:
            return
        fresh = [self._waiting[number] for number in self._needles.possible(block)]
        fresh = [(name, event) for name, event in fresh if event.needle in block and self._read(name, event, block)]
        if fresh:
            self._active += fresh
            self._waiting = [one for one in self._waiting if one not in fresh]
            self._needles = Needles([event.needle for _, event in self._waiting])

    def last(self, text: bytes) -> str:
        """Take in a last line that nothing ends, unless it is torn. Returns what to say about it.

        It is torn if it has a needle that there was before and is no such line, if its step goes backwards or a number
        has fewer decimals than all of that name before.
        """
        other = Scan(())
        near = [(name, event) for name, event in (*self._active, *self._waiting) if event.needle in text]
        taken, torn = False, any(one in self._active for one in near)
        for name, event in near:
            if not other._read(name, event, text + b"\n"):
                continue
            fresh = other.found[name][event.name]
            before = self.found.get(name, {}).get(event.name)
            if before is not None and _torn(before, fresh):
                torn = True
                continue
            self.found.setdefault(name, {}).setdefault(event.name, Rows()).extend(fresh)
            taken = True
        if taken:
            return "nothing ends the last line"
        return "the last line is torn and was left out" if torn else ""

    def _read(self, name: str, event: Event, block: bytes) -> int:
        """Lines of an event in a block."""
        matches = event.pattern.findall(block)
        if not matches:
            return 0
        rows = self.found.get(name, {}).get(event.name) or Rows()
        before = rows.count
        (_columns if event.fields is None else _fields)(rows, event, matches)
        if rows.count:
            self.found.setdefault(name, {})[event.name] = rows
        return rows.count - before


def _columns(rows: Rows, event: Event, matches: list[Any]) -> None:
    names = event.pattern.groupindex
    columns: Iterable[Sequence[bytes]] = [matches] if event.pattern.groups == 1 else zip(*matches, strict=True)
    place = np.arange(rows.count, rows.count + len(matches))
    rows.count += len(matches)
    for name, tokens in zip(names, columns, strict=True):
        where = place
        if b"" in tokens:
            there = [i for i, token in enumerate(tokens) if token]
            where, tokens = place[there], [tokens[i] for i in there]  # noqa: PLW2901 - what is left
        if tokens:
            _put(rows, event, name, where, tokens)


def _put(rows: Rows, event: Event, name: str, where: Numbers, tokens: Sequence[Token]) -> None:
    if name in event.words:
        texts = rows.words.setdefault(name, {})
        texts.update(zip(where.tolist(), map(_text, tokens), strict=True))
    elif (column := rows.column(name)) is not None:
        rows.unread += column.add(where, tokens)


def _fields(rows: Rows, event: Event, matches: list[Any]) -> None:
    places: dict[str, list[int]] = {}
    tokens: dict[str, list[Token]] = {}
    for match in matches:
        values = event.fields(match) if event.fields else None
        if values is None:
            continue
        for name, token in values.items():
            places.setdefault(name, []).append(rows.count)
            tokens.setdefault(name, []).append(token)
        rows.count += 1
    for name, found in tokens.items():
        _put(rows, event, name, np.array(places[name]), found)


def _text(token: Token) -> str:
    return token.decode("utf-8", "replace").strip() if isinstance(token, bytes) else token.strip()


def _torn(before: Rows, fresh: Rows) -> bool:
    for name, column in fresh.columns.items():
        known = before.columns.get(name)
        if known is None or not known.values.size or not column.values.size:
            continue
        backwards = name in ("step", "epoch") and column.values[-1] < known.values[-1]
        if backwards or column.digits.most < known.digits.fewest:
            return True
    return False
