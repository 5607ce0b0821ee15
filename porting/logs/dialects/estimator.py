"""TensorFlow 1's Estimator and its hooks. Every event is often printed twice, by two handlers: it counts once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from porting.acceptance.trajectory import Metric, Numbers
from porting.logs.columns import Found, Rows, Token
from porting.logs.dialect import Dialect, Event, Part, Points, countable, curves, last, line, once, repeats
from porting.logs.names import metric, series
from porting.logs.rates import between

LOSS = line(
    r"loss = (?<![\w/]loss = )(?P<loss>%(NUMBER)s), step = (?P<step>%(WHOLE)s)"
    r"(?: \((?P<seconds>[\d.]{1,40}) sec\))?%(END)s"
)
HOOK = line(
    r"(?<!, )(?<!: )(global_step = %(WHOLE)s(?:, [\w/]{1,64} = %(NUMBER)s){1,40}(?: \([\d.]{1,40} sec\))?)%(END)s"
)
TENSORS = line(r"((?:[\w/]{1,64} = %(NUMBER)s, ){2,40}(?:global_)?step = %(WHOLE)s(?: \([\d.]{1,40} sec\))?)%(END)s")
EVALUATED = line(r"Saving dict for global step (%(WHOLE)s: [^\n]{1,4000})$")
FINAL = line(r"Loss for final step: (?P<loss>\d[\d.]{0,39}\d(?:e[-+]?\d+)?|\d|nan|inf)\.?%(END)s")
STEPS = line(r"global_step/sec: (?P<value>%(NUMBER)s)%(END)s")
EXAMPLES = line(r"examples/sec: (?P<value>%(NUMBER)s)%(END)s")

TWINS = 0.9
"""Share of neighbours, two by two, that are equal where each rate is printed twice: a torn line may part a few."""

UNNUMBERED = "the rates per second carry no step: they are numbered in their order"


def hook_fields(text: bytes) -> dict[str, Token]:
    """Names and numbers of a hook's line: `global_step = 300, total_loss = 7.1 (81.600 sec)`."""
    body, _, rest = text.partition(b" (")
    found: dict[str, Token] = {}
    for pair in body.decode().split(", "):
        name, _, value = pair.partition(" = ")
        found["step" if name == "global_step" else name] = value
    if rest:
        found["seconds"] = rest.removesuffix(b" sec)")
    return found


def _evaluated_fields(text: bytes) -> dict[str, Token]:
    step, _, body = text.decode("utf-8", "replace").partition(": ")
    pairs = (pair.partition(" = ") for pair in body.split(", "))
    return {"step": step, **{name: value.rstrip() for name, _, value in pairs if name != "global_step"}}


def stepped(rows: Rows, wanted: Mapping[str, tuple[str, float]], key: str) -> tuple[dict[str, Points], Numbers]:
    """Series of lines with a step, and which lines count. key: the column by which repeats are known."""
    steps = rows.dense("step")
    fresh = once(steps, rows.dense(key))
    found = curves(rows, steps, wanted, keep=fresh)
    seconds = rows.dense("seconds")
    if np.isfinite(seconds).any():
        kept = np.flatnonzero(fresh & countable(steps))
        span = between(steps[kept])
        known = np.isfinite(seconds[kept]) & (span > 0)
        if known.any():
            per = seconds[kept][known] / span[known]
            resolution = rows.resolution("seconds") / float(span[known].max())
            found["seconds"] = Points(steps[kept][known].astype(np.int64), per, resolution)
    return found, fresh


def _settle(found: Found) -> Part:
    curves_: dict[str, Points] = {}
    notes: tuple[str, ...] = ()
    limits: list[str] = []
    for kind in ("hook", "losses", "rates", "loss"):
        if kind not in found:
            continue
        rows = found[kind]
        wanted = {name: (series(name), 1.0) for name in rows.columns if name not in ("step", "seconds")}
        key = next((name for name in ("loss", "total_loss") if name in rows.columns), next(iter(wanted), "step"))
        points, fresh = stepped(rows, wanted, key)
        curves_ |= points
        notes += repeats(fresh)
    for kind, name in (("steps", "seconds"), ("examples", "examples_per_second")):
        if kind in found and name not in curves_:
            curves_[name], numbered = _rate(found[kind], curves_.get("loss"), inverse=name == "seconds")
            limits += [UNNUMBERED] * numbered
    metrics, finals = _evaluations(found, curves_)
    if "final" in found and (final := last(found["final"], "loss")) is not None:
        metrics["final_loss"] = final
    return Part(curves_, metrics, finals, limits=tuple(dict.fromkeys(limits)), notes=notes)


def _rate(rows: Rows, loss: Points | None, *, inverse: bool) -> tuple[Points, bool]:
    """Rates, at the steps of the loss lines if there is one for each interval; whether they had to be numbered."""
    rates, resolution = rows.columns["value"].values, rows.resolution("value")
    first, second = rates[::2][: rates.size // 2], rates[1::2]
    if second.size and (first == second).mean() >= TWINS:
        rates = rates[::2]
    values = rates
    if inverse:
        with np.errstate(divide="ignore"):
            values = 1 / rates
        resolution *= float(np.square(values[np.isfinite(values)]).max(initial=0.0))
    steps = np.arange(rates.size)
    if loss is not None and loss.steps.size - rates.size in (0, 1):
        return Points(loss.steps[loss.steps.size - rates.size :], values, resolution), False
    return Points(steps, values, resolution), True


def _evaluations(found: Found, into: dict[str, Points]) -> tuple[dict[str, Metric], dict[str, str]]:
    finals: dict[str, str] = {}
    if "evaluated" not in found:
        return {}, finals
    rows = found["evaluated"]
    names = [name for name in rows.columns if name != "step"]
    wanted = {name: (name if name.startswith("eval_") else f"eval_{name}", 1.0) for name in names}
    steps = rows.dense("step")
    fresh = once(steps, *(rows.dense(name) for name in names))
    into |= curves(rows, steps, wanted, keep=fresh)
    for series_name in (one for one, _ in wanted.values() if one in into):
        if (known := metric(series_name)) is not None:
            finals[known] = series_name
    return {}, finals


DIALECT = Dialect(
    "estimator",
    "TensorFlow 1 Estimator",
    "INFO:tensorflow:loss = 0.8321978, step = 900029 (22.301 sec)",
    (
        Event("loss", b"loss = ", LOSS, alone=True),
        Event("hook", b"global_step = ", HOOK, hook_fields, alone=True),
        Event("losses", b"_loss = ", TENSORS, hook_fields),
        Event("rates", b"_rate = ", TENSORS, hook_fields),
        Event("steps", b"global_step/sec: ", STEPS, alone=True),
        Event("examples", b"examples/sec: ", EXAMPLES, alone=True),
        Event("final", b"Loss for final step: ", FINAL),
        Event("evaluated", b"Saving dict for global step ", EVALUATED, _evaluated_fields),
    ),
    _settle,
)
