"""What a dialect of logs is: kinds of lines, and what they say together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from porting.acceptance.trajectory import Metric, Numbers
from porting.logs.columns import Found, Rows, Token

NUMBER = r"[-+.\deEnaifNAIFty]{1,40}"
"""What may be a number, NaN and infinities included; what is none after all is left out on conversion."""

WHOLE = r"\d{1,15}"
"""A step: exact in float64."""

END = r"[ \t]*$"


def line(pattern: str) -> re.Pattern[bytes]:
    """A pattern over bytes in which `$` is the end of a line; NUMBER, WHOLE and END stand as %(NUMBER)s and so on."""
    return re.compile((pattern % {"NUMBER": NUMBER, "WHOLE": WHOLE, "END": END}).encode(), re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Event:
    """A kind of line.

    needle: bytes that each such line has and few others have. pattern: matches at most once a line. Its named groups
    are columns of numbers; with fields, its only group is a text, which fields takes apart. words: names that are
    text. alone: nothing of another kind stands in such a line.
    """

    name: str
    needle: bytes
    pattern: re.Pattern[bytes]
    fields: Callable[[bytes], Mapping[str, Token] | None] | None = None
    words: frozenset[str] = frozenset()
    alone: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """A series as it stands in the file: steps int64 [n] in any order and repeated; values float64 [n]."""

    steps: Numbers
    values: Numbers
    resolution: float = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """What one dialect has found in a file, under the names that trajectories use.

    finals: metrics that are the last value of a series, by name, and that series. batches: a hash by step.
    """

    series: Mapping[str, Points] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    finals: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    batches: Mapping[int, str] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class NothingTrained(Exception):  # noqa: N818 - what it says is what is the matter
    """A log of a run that has not trained: its text says why."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Lines of one kind of software. example: a line as it prints them. settle: raises NothingTrained for a dry run."""

    name: str
    title: str
    example: str
    events: tuple[Event, ...]
    settle: Callable[[Found], Part]


NEAR = 64
"""Lines within which the same numbers of the same step are one event that two handlers or several ranks print."""


def once(steps: Numbers, *others: Numbers) -> Numbers:
    """Which lines to count: bool [n], False where a line within NEAR before has the same numbers.

    >>> once(np.array([0.0, 0.0, 100.0]), np.array([2.5, 2.5, 2.5]))
    array([ True, False,  True])
    """
    fresh = np.ones(steps.size, bool)
    if steps.size < 2 or (steps[1:] > steps[:-1]).all():
        return fresh
    for lag in range(1, min(NEAR, steps.size - 1) + 1):
        same = steps[lag:] == steps[:-lag]
        for values in others:
            if not same.any():
                break
            a, b = values[lag:], values[:-lag]
            same &= (a == b) | (np.isnan(a) & np.isnan(b))
        fresh[lag:] &= ~same
    return fresh


def repeats(fresh: Numbers) -> tuple[str, ...]:
    """The note about lines that `once` leaves out."""
    count = int(fresh.size - fresh.sum())
    return (f"{count} lines repeated an event, counted once",) if count else ()


def countable(steps: Numbers) -> Numbers:
    """Which steps are numbers that float64 counts by ones: bool [n]."""
    return np.isfinite(steps) & (np.abs(steps) < 2**53)


def curves(
    rows: Rows, steps: Numbers, wanted: Mapping[str, tuple[str, float]], *, keep: Numbers | None = None
) -> dict[str, Points]:
    """Series from columns.

    steps: float64 [count], NaN where a line has none and is left out. wanted: by column the series' name and how many
    of the printed unit make its own. keep: bool [count].
    """
    use = countable(steps)
    if keep is not None:
        use &= keep
    found: dict[str, Points] = {}
    for name, (series, unit) in wanted.items():
        column = rows.columns.get(name)
        if column is None:
            continue
        at = column.rows
        chosen = use[at]
        if chosen.any() and (series not in found or found[series].steps.size < chosen.sum()):
            resolution = column.digits.resolution / unit
            found[series] = Points(steps[at[chosen]].astype(np.int64), column.values[chosen] / unit, resolution)
    return found


def last(rows: Rows, name: str) -> Metric | None:
    """The last value of a column as a metric."""
    column = rows.columns.get(name)
    if column is None or not column.values.size:
        return None
    return Metric(float(column.values[-1]), None, column.digits.resolution)


def total(values: Numbers) -> int:
    """How many events a column of counts or of 0 and 1 tells of.

    >>> total(np.array([1.0, 0.0, 2.0, np.nan]))
    3
    """
    return int(np.clip(values[np.isfinite(values)], 0, 2**31).sum())


def word(rows: Rows, name: str) -> str:
    """The last text of a name; empty if there is none."""
    texts = rows.words.get(name)
    return texts[max(texts)] if texts else ""


def whole(value: float) -> str:
    """A number as a word: without a fraction if it has none.

    >>> whole(16.0)
    '16'
    """
    return str(int(value)) if value.is_integer() else f"{value:g}"
