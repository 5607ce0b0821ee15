"""MLPerf's structured log: an event a line, JSON behind `:::MLLOG`."""

from __future__ import annotations

import json

import numpy as np

from porting.acceptance.trajectory import Metric
from porting.logs.columns import Found, Rows, Token
from porting.logs.dialect import Dialect, Event, Part, Points, countable, line
from porting.logs.dialects.json_lines import Number
from porting.logs.names import metric, series

LINE = line(r":::MLLOG +(\{[^\n]{2,16000}\})%(END)s")
NAMES = {"train_loss": "loss", "throughput": "examples_per_second", "opt_base_learning_rate": "lr"}
PLACES = ("step_num", "step", "samples_count", "epoch_num")
WORDS = {
    "submission_benchmark": "network",
    "submission_platform": "device",
    "global_batch_size": "batch_size",
    "seed": "seed",
}


def _values(text: bytes) -> dict[str, Token] | None:
    try:
        found = json.loads(text, parse_float=Number, parse_int=Number, parse_constant=Number)
    except (ValueError, RecursionError):
        return None
    key, value, about = found.get("key"), found.get("value"), found.get("metadata")
    if not isinstance(key, str):
        return None
    if isinstance(value, dict) and "throughput" in value:
        key, value = "throughput", value["throughput"]
    values: dict[str, Token] = {"key": key[:100]}
    if isinstance(value, Number):
        values["value"] = value
    if isinstance(value, str):
        values["text"] = str(value)[:200]
    place = (
        next((about[p] for p in PLACES if isinstance(about.get(p), Number)), None) if isinstance(about, dict) else None
    )
    if place is not None:
        values["place"] = place
    if isinstance(time := found.get("time_ms"), Number):
        values["time"] = time
    return values


def _settle(found: Found) -> Part:
    rows = found["line"]
    keys, values, places = rows.words["key"], rows.dense("value"), rows.dense("place")
    known = countable(places)
    by_key: dict[str, list[int]] = {}
    for row, key in keys.items():
        by_key.setdefault(key, []).append(row)
    made: dict[str, Points] = {}
    finals: dict[str, str] = {}
    for key, at in by_key.items():
        name = series(NAMES.get(key, key))
        chosen = [row for row in at if known[row] and not np.isnan(values[row])]
        if (
            name not in ("loss", "examples_per_second", "lr", "grad_norm")
            and metric(key) is None
            and key != "eval_loss"
        ):
            continue
        if chosen:
            made[name] = Points(places[chosen].astype(np.int64), values[chosen], rows.resolution("value"))
            if (told := metric(key)) is not None:
                finals[told] = name
    environment = {to: rows.words["text"][at[-1]] for key, to in WORDS.items() for at in [by_key.get(key, [])] if at}
    return Part(made, _duration(rows, by_key), finals, environment=environment)


def _duration(rows: Rows, by_key: dict[str, list[int]]) -> dict[str, Metric]:
    times = rows.dense("time")
    ends = [times[by_key[key][-1]] for key in ("run_start", "run_stop") if key in by_key]
    if len(ends) != 2 or not np.isfinite(ends).all():
        return {}
    return {"training_seconds": Metric(float(ends[1] - ends[0]) / 1e3, None, 1e-3)}


DIALECT = Dialect(
    "mllog",
    "MLPerf MLLOG",
    ':::MLLOG {"namespace": "", "time_ms": 1592938020000, "event_type": "POINT_IN_TIME", "key": "train_loss",'
    ' "value": 2.5, "metadata": {"file": "run.py", "lineno": 1, "step_num": 100}}',
    (Event("line", b":::MLLOG", LINE, _values, frozenset({"key", "text"})),),
    _settle,
)
