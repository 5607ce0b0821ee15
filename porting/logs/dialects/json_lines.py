"""JSON Lines with a step in each: the kit's own steps.jsonl, and what others write in that form."""

from __future__ import annotations

import json

from porting.logs.columns import Found, Token
from porting.logs.dialect import Dialect, Event, Part, countable, curves, line, once, repeats, total
from porting.logs.names import series

LINE = line(r"^[^{\n]{0,200}(\{\"[^\n]{4,16000}\})%(END)s")
STEPS = ("step", "global_step", "iteration", "iter")


class Number(str):
    """A number as it stands in JSON text."""

    __slots__ = ()


SPECIAL = {"nan", "inf", "-inf", "NaN", "Infinity", "-Infinity"}


def _values(text: bytes) -> dict[str, Token] | None:
    try:
        found = json.loads(text, parse_float=Number, parse_int=Number, parse_constant=Number)
    except (ValueError, RecursionError):
        return None
    if "key" in found and "value" in found:  # MLPerf's
        return None
    step = next((name for name in STEPS if isinstance(found.get(name), Number)), None)
    if step is None:
        return None
    values: dict[str, Token] = {"step": found.pop(step)}
    for name, value in found.items():
        if isinstance(value, bool):
            values[name] = "1" if value else "0"
        elif isinstance(value, Number) or (isinstance(value, str) and (value in SPECIAL or name == "batch")):
            values[name] = value
    return values


def _settle(found: Found) -> Part:
    rows = found["line"]
    steps = rows.dense("step")
    fresh = once(steps, *(rows.dense(name) for name in ("loss", "grad_norm") if name in rows.columns))
    made = curves(rows, steps, {name: (series(name), 1.0) for name in rows.columns if name != "step"}, keep=fresh)
    counts = {"overflows": total(made["overflow"].values)} if "overflow" in made else {}
    texts, known = rows.words.get("batch", {}), countable(steps)
    batches = {int(steps[row]): text for row, text in texts.items() if fresh[row] and known[row]}
    return Part(made, counts=counts, batches=batches, notes=repeats(fresh))


DIALECT = Dialect(
    "json",
    "JSON Lines (steps.jsonl)",
    '{"step":0,"loss":2.5,"lr":1e-05,"grad_norm":1.25,"seconds":0.5,"batch":"xxh3_128:0a"}',
    (Event("line", b'{"', LINE, _values, frozenset({"batch"})),),
    _settle,
)
