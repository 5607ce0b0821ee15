"""Gives the memory of a large output back while it is written."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Protocol

from porting.checkpoint.format import Extent, Layout

FIFTH = 5
"""One fifth of the memory may hold what is not on the disk yet, as Linux is set up (vm.dirty_ratio): who writes a file
larger than that waits for the disk, and other files leave the memory for it."""

PART = 16 << 20
"""Bytes that are written before they are given back."""

AGAIN = 8
"""Times that a part is given back once more, as the disk takes some tenths of a second."""

PATIENCE = 0.5, 0.25
"""Seconds, and of all time since the start how much, that giving back may take. A disk that is slower is better left to
the system, which writes behind us as long as there is memory."""


def wanted(layout: Layout) -> bool:
    """Whether an output is so large that its memory is given back."""
    return layout.nbytes > memory() // FIFTH


def order(layout: Layout) -> list[str]:
    """The order in which to fill a layout: the disk writes a large output in one direction.

    Of another the largest tensors come first, so that several who fill it end at about the same time.
    """
    return layout.in_order() if wanted(layout) else sorted(layout.extents, key=layout.size, reverse=True)


class Held(Protocol):
    """Files of which the system holds in memory what was written to them."""

    def release(self, file: int, offset: int, nbytes: int) -> None: ...


class Release:
    """Tells how much to write before it is told so, and gives that back.

    When bytes are given back for the first time the system begins to write them to the disk; later those that are there
    leave the memory. So a few parts' memory serves for all of the file. In a virtual machine whose host takes back
    what is free, a conversion of 6 GB took half the time: memory that has to come from there is written at a fourth
    of the speed.
    """

    def __init__(self, files: Held, layout: Layout) -> None:
        self._files = files
        self._layout = layout
        self._wanted = wanted(layout)
        self._parts: deque[list[Extent]] = deque(maxlen=1 + AGAIN)
        self._start = time.monotonic()
        self._spent = 0.0

    def parts(self, names: Iterable[str]) -> Iterator[Iterator[str]]:
        """The names in parts, each to be used up before the next is asked for; one if nothing is to be given back."""
        rest = iter(names)
        for name in rest:
            yield self._part(name, rest)

    def _part(self, name: str, rest: Iterator[str]) -> Iterator[str]:
        yield name
        room = PART - self._layout.size(name)
        while not self._wanted or room > 0:
            following = next(rest, None)
            if following is None:
                return
            yield following
            room -= self._layout.size(following)

    def done(self, names: Iterable[str]) -> None:
        """These are written, and nobody needs them in memory any longer."""
        if not self._wanted:
            return
        began = time.monotonic()
        self._parts.append([run for name in names for run in self._layout.extents[name]])
        for run in chain(*reversed(self._parts)):
            self._files.release(*run)
        now = time.monotonic()
        self._spent += now - began
        seconds, share = PATIENCE
        self._wanted = self._spent <= seconds + share * (now - self._start)


def memory() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
