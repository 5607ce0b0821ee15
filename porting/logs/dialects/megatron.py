"""Megatron and MindSpeed: a line of an iteration, its fields between bars."""

from __future__ import annotations

import re

import numpy as np

from porting.logs.columns import Found, Token
from porting.logs.dialect import Dialect, Event, Part, curves, line, once, repeats, total, whole
from porting.logs.names import series

LINE = line(r"iteration +(\d{1,15}/ *\d{1,15} \|[^\n]{1,4000})$")
PAIR = re.compile(r"([\w ()./-]{1,64}): +([-+.\w]{1,40})")
TIME = "elapsed time per iteration (ms)"
SKIPPED = "number of skipped iterations"


def _pairs(text: bytes) -> dict[str, Token]:
    step, _, body = text.decode("utf-8", "replace").partition("/")
    found: dict[str, Token] = {"step": step}
    for part in body.split("|")[1:]:
        if pair := PAIR.fullmatch(part.strip()):
            found[pair[1]] = pair[2]
    return found


def _settle(found: Found) -> Part:
    rows = found["line"]
    steps = rows.dense("step")
    fresh = once(steps, *(rows.dense(name) for name in ("lm loss", "loss", "grad norm") if name in rows.columns))
    wanted = {name: (series(name), 1.0) for name in rows.columns if name not in ("step", "global batch size")}
    wanted[TIME] = ("seconds", 1e3)
    made = curves(rows, steps, wanted, keep=fresh)
    sizes = rows.dense("global batch size")
    known = sizes[np.isfinite(sizes)]
    counts = {"overflows": total(made[SKIPPED].values)} if SKIPPED in made else {}
    environment = {"batch_size": whole(float(known[-1]))} if known.size else {}
    return Part(made, counts=counts, environment=environment, notes=repeats(fresh))


DIALECT = Dialect(
    "megatron",
    "Megatron, MindSpeed",
    "iteration        2/    2000 | consumed samples:           32 | elapsed time per iteration (ms): 1331.74 |"
    " learning rate: 1.250E-08 | global batch size:    16 | lm loss: 2.443476E+00 | loss scale: 1.0 |"
    " grad norm: 41.986 | number of skipped iterations:   0 |",
    (Event("line", b"elapsed time per iteration (ms)", LINE, _pairs),),
    _settle,
)
