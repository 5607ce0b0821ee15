"""Hugging Face's Trainer: the dictionaries that it prints, numbers bare (version 4) or quoted (version 5)."""

from __future__ import annotations

import re

import numpy as np

from porting.acceptance.trajectory import Metric, Numbers
from porting.logs.columns import Found, Rows, Token
from porting.logs.dialect import Dialect, Event, Part, curves, last, line, once, repeats
from porting.logs.names import metric, series

LINE = line(r"\{('[^{}\n]{2,4000})\}")
PAIR = re.compile(r"'([\w./@ -]{1,64})': (?:'([^']{0,64})'|([^,'\s]{1,64}))")
KNOWN = ("loss", "train_loss", "train_runtime", "eval_loss", "eval_runtime")

MOST = 24
"""Columns by which two lines are held to be the same."""

UNNUMBERED = "the Trainer's lines carry no step: they are numbered in their order from 1"
SUMMARY = {"train_runtime": "training_seconds", "train_loss": "train_loss", "eval_runtime": "evaluation_seconds"}
ALONE = frozenset({"train_runtime", "train_loss", "train_samples_per_second", "train_steps_per_second", "total_flos"})


def _pairs(text: bytes) -> dict[str, Token] | None:
    found: dict[str, Token] = {name: a or b for name, a, b in PAIR.findall(text.decode("utf-8", "replace"))}
    return found if any(name in found for name in KNOWN) else None


def numbered(loss: Numbers, epoch: Numbers) -> Numbers:
    """Steps for lines without: of those with a loss 1, 2, …, of the others that of the loss before.

    loss: bool, whether a line has one. epoch: a run begins where it falls back to where the run before began or
    further; where it falls back to less, training was taken up again, and the numbers continue from there.

    >>> numbered(np.array([True, True, False, True]), np.array([0.5, 1.0, 1.0, 0.5]))
    array([1., 2., 2., 1.])
    """
    steps = np.cumsum(loss).astype(np.float64)
    at = np.flatnonzero(loss & np.isfinite(epoch))
    lower = np.minimum.accumulate(epoch[at]) if at.size else epoch[at]
    for place in np.flatnonzero(epoch[at][1:] < epoch[at][:-1])[:1000] + 1:
        here = at[place]
        if epoch[here] <= lower[place - 1]:
            new = 1.0
        else:
            earlier = at[:place][epoch[at[:place]] < epoch[here]]
            new = float(steps[earlier[-1]]) + 1
        steps[here:] += new - steps[here]
    return steps


def settle_rows(rows: Rows) -> Part:
    """What the Trainer's entries say, printed or kept in trainer_state.json."""
    fresh = once(rows.dense("epoch"), *(rows.dense(name) for name in [*rows.columns][:MOST]))
    loss = np.zeros(rows.count, bool)
    if "loss" in rows.columns:
        loss[rows.columns["loss"].rows] = True
    loss &= fresh
    stepped = "step" in rows.columns
    steps = rows.dense("step") if stepped else numbered(loss, rows.dense("epoch"))
    names = [name for name in rows.columns if name not in ALONE and name not in ("step", "epoch", "eval_runtime")]
    made = curves(rows, steps, {name: (series(name), 1.0) for name in names}, keep=fresh)
    finals = {known: name for name in made if name.startswith("eval_") and (known := metric(name)) is not None}
    metrics: dict[str, Metric] = {}
    for name, to in SUMMARY.items():
        if (value := last(rows, name)) is not None:
            metrics[to] = value
    limits = () if stepped else (UNNUMBERED,)
    if "examples_per_second" not in made and (rate := last(rows, "train_samples_per_second")) is not None:
        metrics["examples_per_second"] = rate
    return Part(made, metrics, finals, limits=limits, notes=repeats(fresh))


def _settle(found: Found) -> Part:
    return settle_rows(found["line"])


DIALECT = Dialect(
    "trainer",
    "Hugging Face Trainer",
    "{'loss': 1.4596, 'grad_norm': nan, 'learning_rate': 4.55e-06, 'epoch': 0.66}",
    (Event("line", b"{'", LINE, _pairs),),
    _settle,
)
