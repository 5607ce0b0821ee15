"""MindSpore's monitors: loss by epoch and step, time by epoch, the tensors that older ones print, the best accuracy."""

from __future__ import annotations

import numpy as np

from porting.acceptance.trajectory import Numbers
from porting.logs.columns import Found, Rows
from porting.logs.dialect import Dialect, Event, Part, Points, countable, curves, line, once, repeats, total

STEP = r"epoch: *(?P<epoch>%(WHOLE)s),? step: *(?P<step>%(WHOLE)s), *"
VALUE = r"(?:value= ?)?\[? ?"
LOSS = line(STEP + r"loss is:? *\[?(?P<loss>%(NUMBER)s)\]?")
OUTPUTS = line(
    STEP + r"outp(?:u|ut)s are:? *(?:"
    rf"\(Tensor\(shape=\[[\d, ]*\], dtype=\w+, {VALUE}(?P<loss>%(NUMBER)s)[\] ]*\)"
    rf"(?:, Tensor\(shape=\[[\d, ]*\], dtype=Bool, {VALUE}(?P<overflow>True|False)[\] ]*\))?"
    rf"(?:, Tensor\(shape=\[[\d, ]*\], dtype=\w+, {VALUE}(?P<scale>%(NUMBER)s)[\] ]*\))?\)"
    r"|\[?(?P<plain>%(NUMBER)s)\]?%(END)s)"
)
TIME = line(r"epoch time: *(?P<epoch>%(NUMBER)s)(?: ?ms)?, *per step time: *(?P<step>%(NUMBER)s)(?: ?ms)?")
BEST = line(r"[Bb]est acc(?:uracy)? is:? *(?P<best>%(NUMBER)s)")

MEANS = "step times are means over an epoch, its compilation included"


def counted(epoch: Numbers, step: Numbers, per_epoch: int = 0) -> Numbers:
    """Steps of the run, from epochs, from 1, and steps, which may begin anew in each epoch.

    per_epoch: steps of an epoch if something else tells them; otherwise the last one that is printed is its last.

    >>> counted(np.array([1.0, 1.0, 2.0]), np.array([5.0, 10.0, 5.0]))
    array([ 5., 10., 15.])
    """
    first = epoch == np.nanmin(epoch) if epoch.size else np.empty(0, bool)
    if first.all() or np.nanmin(step[~first]) > np.nanmax(step[first]):
        return step
    size = float(np.nanmax(step)) + float(np.nanmin(step) == 0)
    return (epoch - 1) * max(size, per_epoch) + step


def _settle(found: Found) -> Part:
    series: dict[str, Points] = {}
    counts: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    times = found.get("time")
    per_epoch = _per_epoch(times)
    for kind, rows in found.items():
        if kind not in ("loss", "outputs"):
            continue
        steps = counted(rows.dense("epoch"), rows.dense("step"), per_epoch)
        loss, scale = rows.dense("loss"), rows.dense("scale")
        single = once(steps, np.where(np.isnan(loss), rows.dense("plain"), loss), scale)
        fresh = single & countable(steps)
        made = curves(rows, steps, {"loss": ("loss", 1.0), "scale": ("loss_scale", 1.0)}, keep=fresh)
        made |= _plain(rows, steps, fresh, made.get("loss"))
        if (overflow := _overflow(rows, steps, fresh)) is not None:
            made["overflow"] = overflow
            counts["overflows"] = total(overflow.values)
        notes += repeats(single)
        series = {**made, **series} if kind == "outputs" else {**series, **made}
    if times is not None:
        series["seconds"] = _seconds(times, per_epoch)
        limits = (MEANS,)
    finals = {}
    if "best" in found:
        series["best_accuracy"] = _best(found["best"])
        finals["accuracy"] = "best_accuracy"
    return Part(series, finals=finals, counts=counts, limits=limits, notes=notes)


def _plain(rows: Rows, steps: Numbers, fresh: Numbers, loss: Points | None) -> dict[str, Points]:
    """The loss without tensors around it, beside that with them: in the file's order."""
    made = curves(rows, steps, {"plain": ("loss", 1.0)}, keep=fresh)
    if loss is None or not made:
        return made
    values = np.where(np.isnan(rows.dense("loss")), rows.dense("plain"), rows.dense("loss"))
    resolution = max(loss.resolution, made["loss"].resolution)
    return {"loss": Points(steps[fresh].astype(np.int64), values[fresh], resolution)}


def _overflow(rows: Rows, steps: Numbers, fresh: Numbers) -> Points | None:
    texts = rows.words.get("overflow")
    if not texts:
        return None
    at = np.array([row for row in texts if fresh[row]], np.int64)
    return Points(steps[at].astype(np.int64), np.array([float(texts[row] == "True") for row in at.tolist()]), 1.0)


def _per_epoch(times: Rows | None) -> int:
    if times is None:
        return 0
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = times.dense("epoch") / times.dense("step")
    known = steps[np.isfinite(steps)]
    return round(float(np.median(known))) if known.size else 0


def _seconds(times: Rows, per_epoch: int) -> Points:
    ends = max(per_epoch, 1) * np.arange(1, times.count + 1)
    return Points(ends, times.dense("step") / 1e3, times.resolution("step") / 1e3)


def _best(rows: Rows) -> Points:
    """The best accuracies, numbered from 1: a best that falls is that of another run."""
    best = rows.dense("best")
    starts = np.flatnonzero(np.concatenate(([True], best[1:] < best[:-1])))
    numbers = np.arange(rows.count) - np.repeat(starts, np.diff([*starts, rows.count])) + 1
    return Points(numbers, best, rows.resolution("best"))


DIALECT = Dialect(
    "mindspore",
    "MindSpore monitors",
    "epoch: 1 step: 1875, loss is 1.1544309",
    (
        Event("loss", b"loss is", LOSS),
        Event("outputs", b"s are", OUTPUTS, words=frozenset({"overflow"})),
        Event("time", b"per step time: ", TIME),
        Event("best", b"est acc", BEST),
    ),
    _settle,
)
