"""torch-xla's training loops, with `[xla:0](100)` or `| Training Device=xla:0/0` before the loss."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from porting.acceptance.trajectory import Metric, Numbers
from porting.logs.columns import Found, Rows
from porting.logs.dialect import Dialect, Event, Part, Points, countable, curves, line, once, repeats
from porting.logs.dialects.mindspore import counted
from porting.logs.rates import between

RATES = (
    r"(?: Rate=(?P<rate>%(NUMBER)s))?(?: GlobalRate=(?P<global>%(NUMBER)s))?(?: Time=(?P<time>[\w :]{8,24}))?%(END)s"
)
OLD = line(
    r"\[xla:\d+\](?:\((?P<step>%(WHOLE)s)\) (?:Loss=(?P<loss>%(NUMBER)s)|Acc=(?P<acc>%(NUMBER)s))" + RATES + ")"
    r"|Finished training epoch (?P<finished>%(WHOLE)s)"
)
NEW = line(
    r"\| Training Device=xla:[\d/]{1,16} Epoch=(?P<epoch>%(WHOLE)s) Step=(?P<step>%(WHOLE)s)"
    r" Loss=(?P<loss>%(NUMBER)s)" + RATES
)
ACCURACY = line(r"(?:\[xla:\d+\] |test end [\d:]{1,12}, )Accuracy=(?P<accuracy>%(NUMBER)s)%%?%(END)s")

MEANS = "step times come from the clock of two lines, which has whole seconds"


def _epochs(rows: Rows) -> Numbers:
    """Steps of the run where each epoch counts anew: an epoch ends with `Finished training epoch`."""
    steps, ended = rows.dense("step"), np.isfinite(rows.dense("finished"))
    trained = np.isfinite(rows.dense("loss"))
    epoch = 1 + np.cumsum(ended).astype(np.float64)
    known = trained & np.isfinite(steps)
    out = np.full(steps.size, np.nan)
    if known.any():
        out[known] = counted(epoch[known], steps[known])
    return out


def _times(rows: Rows) -> Numbers:
    """Seconds on the clock: float64 [count], NaN where a line has none."""
    times = np.full(rows.count, np.nan)
    for row, text in rows.words.get("time", {}).items():
        form = "%H:%M:%S" if len(text) == 8 else "%a %b %d %H:%M:%S %Y"
        try:
            moment = datetime.strptime(text, form)  # noqa: DTZ007 - only differences are used
        except ValueError:
            continue
        times[row] = (moment - datetime(1970, 1, 1)).total_seconds()  # noqa: DTZ001 - likewise
    return times


def _seconds(rows: Rows, steps: Numbers, use: Numbers) -> Points | None:
    at = np.flatnonzero(use & countable(steps))
    if at.size < 2:
        return None
    step, time = steps[at], _times(rows)[at]
    span = between(step)
    passed = np.concatenate(([np.nan], np.diff(time)))
    good = (span > 0) & (np.concatenate(([0.0], np.diff(step))) == span) & (passed >= 0)
    if not good.any():
        return None
    return Points(step[good].astype(np.int64), passed[good] / span[good], 1 / float(span[good].min()))


def _settle(found: Found) -> Part:
    made: dict[str, Points] = {}
    notes: tuple[str, ...] = ()
    for kind in ("old", "new"):
        if kind not in found:
            continue
        rows = found[kind]
        steps = _epochs(rows) if kind == "old" else counted(rows.dense("epoch"), rows.dense("step"))
        trained = np.isfinite(steps)
        fresh = once(np.where(trained, steps, rows.dense("step")), rows.dense("loss"), rows.dense("acc"))
        made |= curves(rows, steps, {"loss": ("loss", 1.0), "rate": ("examples_per_second", 1.0)}, keep=fresh)
        if (seconds := _seconds(rows, steps, fresh)) is not None:
            made["seconds"] = seconds
        tested = np.where(np.isfinite(rows.dense("acc")), rows.dense("step"), np.nan)
        made |= curves(rows, tested, {"acc": ("running_accuracy", 1.0)}, keep=fresh)
        notes += repeats(fresh)
    metrics: dict[str, Metric] = {}
    if "accuracy" in found:
        value = float(found["accuracy"].columns["accuracy"].values[-1])
        metrics["accuracy"] = Metric(value / 100, None, found["accuracy"].resolution("accuracy") / 100)
    return Part(made, metrics, limits=(MEANS,) if "seconds" in made else (), notes=notes)


DIALECT = Dialect(
    "xla",
    "torch-xla",
    "[xla:0](100) Loss=1.16723 Rate=0.07 GlobalRate=0.05 Time=Thu Sep 24 07:41:56 2020",
    (
        Event("old", b"[xla:", OLD, words=frozenset({"time"})),
        Event("new", b"| Training Device=xla:", NEW, words=frozenset({"time"})),
        Event("accuracy", b"Accuracy=", ACCURACY),
    ),
    _settle,
)
