"""MindFormers' line of a step. A dry run prints a loss of 0.000 throughout and shows nothing."""

from __future__ import annotations

import re

import numpy as np

from porting.logs.columns import Found, Token
from porting.logs.dialect import Dialect, Event, NothingTrained, Part, curves, line, once, repeats, total
from porting.logs.names import series

LINE = line(r"\{ ?(Epoch:\[ *\d+/ *\d+\], step:\[ *\d+/ *\d+\], [^{}\n]{1,2000})\}")
PAIR = re.compile(r"([\w ]{1,64}): *\[?([-+.\w]{1,40})")
PLACE = re.compile(r"Epoch:\[ *(\d{1,9})/ *\d+\], step:\[ *(\d{1,9})/ *(\d{1,9})\], ")
WORDS = {"True": "1", "False": "0"}
DRY = "is a dry run: its loss is 0.000 throughout"


def _pairs(text: bytes) -> dict[str, Token] | None:
    body = text.decode("utf-8", "replace")
    place = PLACE.match(body)
    if place is None:
        return None
    epoch, step, per_epoch = map(int, place.groups())
    found: dict[str, Token] = {"step": str((epoch - 1) * per_epoch + step)}
    for pair in body[place.end() :].split(", "):
        if known := PAIR.match(pair):
            name, value = known[1].strip(), known[2]
            found[name] = WORDS.get(value, value.removesuffix("ms").removesuffix("T"))
    return found


def _settle(found: Found) -> Part:
    rows = found["line"]
    steps, loss = rows.dense("step"), rows.dense("loss")
    if not loss[np.isfinite(loss)].any() and "loss" in rows.columns and np.isfinite(loss).all():
        raise NothingTrained(DRY)
    fresh = once(steps, loss)
    wanted = {name: (series(name), 1.0) for name in rows.columns if name != "step"}
    wanted["per_step_time"] = ("seconds", 1e3)
    made = curves(rows, steps, wanted, keep=fresh)
    counts = {"overflows": total(made["overflow"].values)} if "overflow" in made else {}
    return Part(made, counts=counts, notes=repeats(fresh))


DIALECT = Dialect(
    "mindformers",
    "MindFormers",
    "{ Epoch:[  1/  2], step:[    2/   19], loss: 10.633, per_step_time: 1752ms, lr: 1e-05, overflow cond: False,"
    " loss_scale: 1.0, global_norm: [10.57], train_throughput_per_npu: 170.738T}",
    (Event("line", b"per_step_time", LINE, _pairs),),
    _settle,
)
