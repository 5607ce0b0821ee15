"""The end of a process's output, and the lines of it that a report must show."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from typing import IO

from porting.errors import readable

LINES = 40
"""Lines that are kept: a traceback through a framework, or the stacks of a few threads."""

WIDTH = 1000
"""Bytes of a line that are kept."""

NOTES = 100
"""Different notes that are kept."""

NOTE = re.compile(rb"CAUTION: The operator '[^']*' is not currently supported on the NPU backend[^\n]*")
"""What torch_npu prints where it computes on the CPU instead."""


class Tail:
    """The last lines of an output of any length, in bounded memory."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=LINES)
        self._notes: dict[bytes, None] = {}
        self._rest = b""

    def collect(self, pipe: IO[bytes]) -> None:
        """Read an unbuffered pipe until the other side has closed, and close it."""
        with pipe:
            while piece := pipe.read(1 << 16):
                self.add(piece)

    def add(self, piece: bytes) -> None:
        """Take more of the output."""
        *whole, rest = (self._rest + piece).split(b"\n")
        self._keep(whole)
        self._rest = rest if len(rest) <= WIDTH else rest[: WIDTH // 2] + rest[-WIDTH // 2 :]

    def _keep(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            found = NOTE.search(line) if b"CAUTION" in line else None
            if found and len(self._notes) < NOTES:
                self._notes[found.group()[:WIDTH]] = None
            if line.strip():
                self._lines.append(line[:WIDTH])

    def lines(self) -> tuple[str, ...]:
        """The last lines, without empty ones, safe to print."""
        return tuple(_text(line) for line in (*self._lines, self._rest) if line.strip())[-LINES:]

    def notes(self) -> tuple[str, ...]:
        """Each note once, in the order of their first appearance."""
        return tuple(_text(line) for line in self._notes)


def _text(line: bytes) -> str:
    return readable(line.decode("utf-8", "replace").rstrip("\r"))
