"""What the kit raises for a user's mistake: one line that names the place, the wanted and the got.

Every error a user can cause is a `PortError`. The command line prints its text and exits with 2;
anything else that escapes is a bug of the kit and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike


class PortError(Exception):
    """Base of all errors that a user can cause and mend."""


class UsageError(PortError):
    """Arguments that contradict each other or ask for what does not exist."""


class FormatError(PortError):
    """A file that is not what it claims to be.

    The text reads `FILE: PLACE: wanted …, got …`; `place` is an offset, a record or a tensor name.
    """

    def __init__(self, path: str | PathLike[str], place: str, problem: str) -> None:
        self.path = str(path)
        self.place = place
        self.problem = problem
        super().__init__(": ".join(part for part in (self.path, place, problem) if part))


class TableError(PortError):
    """A rule table that is wrong in itself: found when it is built, before any checkpoint is read."""


class MismatchError(PortError):
    """A checkpoint and a table that do not fit; carries every mismatch, not only the first."""

    def __init__(self, title: str, problems: Sequence[str]) -> None:
        self.title = title
        self.problems = tuple(problems)
        super().__init__("\n".join([title, *(f"  {line}" for line in self.problems)]))
