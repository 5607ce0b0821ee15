"""What the kit raises for a user's mistake: one line that names the place, the wanted and the got.

Every error a user can cause is a `PortError`. The command line prints its text and exits with 2;
anything else that escapes is a bug of the kit and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

LINE = 2000
"""Characters of a line at most: a name that a damaged file holds may have millions."""


def readable(text: str) -> str:
    r"""A line that nothing in a file or in a file's name can break, overwrite or flood.

    >>> print(readable("a\nb \x1b[2J Σ"))
    a\nb \x1b[2J Σ
    """
    if len(text) > LINE:
        text = f"{text[: LINE * 3 // 4]} … {len(text) - LINE} characters left out … {text[-LINE // 4 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def first_line_of(error: BaseException) -> str:
    r"""What an error says first; its class, where it says nothing.

    >>> first_line_of(ValueError("\nwrong\nby far")), first_line_of(MemoryError())
    ('wrong', 'MemoryError')
    """
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class PortError(Exception):
    """Base of all errors that a user can cause and mend. Its text is one line, or a title and a line per mismatch."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(readable(line) for line in lines))


class UsageError(PortError):
    """Arguments that contradict each other or ask for what does not exist."""


INTERRUPTED = 130
"""Exit code after Ctrl-C, by the convention of shells: 128 and the number of the signal."""


class Interrupted(PortError):  # noqa: N818 - what it says
    """Ctrl-C, told by what knows what it has left behind."""


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
        super().__init__(title, *(f"  {line}" for line in self.problems))
