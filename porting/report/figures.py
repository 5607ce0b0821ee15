"""Curves, step times and the map of deviations as figures of Plotly: its JSON, made without its Python library.

Every text that comes from the data is escaped here, because Plotly reads a little HTML in texts and hovers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np

from porting.acceptance.acceptance import Acceptance, Curve, Pace
from porting.acceptance.trajectory import Series
from porting.errors import readable
from porting.report.deviation_map import maps_of
from porting.report.figure import Figure, Trace, axis, blank
from porting.report.thin import BUCKETS, kept
from porting.report.words import Words

SOURCE, TARGET, BAND, INK = "#0b6e99", "#d1603d", "rgba(11,110,153,0.18)", "#3d4852"

FIRST = ("loss", "grad_norm")
"""Curves that are open; the others open with a click."""

MOST_CURVES = 12
"""Figures of series; a log may hold hundreds of names."""

MOST_BAD = 100
"""Marks of values that are not finite."""


def figures_of(found: Acceptance, words: Words) -> list[Figure]:
    """All figures of a report, in its order."""
    figures = [_curve(number, curve, words) for number, curve in enumerate(drawn(found))]
    speed = found.speed
    paces = [speed.source, speed.target] if speed else []
    if any(pace is not None and pace.values is not None and len(pace.values) > 1 for pace in paces):
        figures.append(_steps(paces, words))
    return [*figures, *maps_of(found, words)]


def drawn(found: Acceptance) -> list[Curve]:
    """The curves that have a figure: those that stand first, first."""
    curves = [curve for curve in found.curves if curve.source is not None or curve.target is not None]
    return sorted(curves, key=lambda curve: curve.name not in FIRST)[:MOST_CURVES]


def series_name(name: str, words: Words) -> str:
    """A series as people call it; one that the catalogue does not know by its own name."""
    known = {"loss": "series_loss", "grad_norm": "series_grad_norm"}
    return words(known[name]) if name in known else readable(name)


def difference(curve: Curve) -> Series | None:
    """Target minus source at the steps that both have; None where there are none."""
    if curve.shared is None:
        return None
    steps, ours, theirs = curve.shared
    with np.errstate(invalid="ignore", over="ignore"):
        return Series(steps, theirs - ours)


def _curve(number: int, curve: Curve, words: Words) -> Figure:
    rows = [("y", [*_band(curve, words), *_sides(curve, words)])]
    apart = difference(curve)
    if apart is not None:
        rows.append(("y2", [*_noise(curve), replace(_below(apart, words("difference"), "y2"), difference=True)]))
    if curve.z is not None and len(curve.z.steps):
        rows.append((f"y{len(rows) + 1}", [_below(curve.z, words("z"), f"y{len(rows) + 1}")]))
    traces = [trace for _, row in rows for trace in row]
    title = series_name(curve.name, words)
    layout = blank(430 + 130 * (len(rows) - 1)) | {
        "xaxis": axis(words("step"), anchor=rows[-1][0], exponentformat="none", separatethousands=True),
        "hovermode": "x unified",
        "shapes": [_mark(step) for step in _bad(curve)[:MOST_BAD]],
    }
    labels = [title, words("difference"), words("z")] if apart is not None else [title, words("z")]
    for (place, _), low, high, label in zip(rows, *_domains(len(rows)), labels, strict=False):
        layout[place.replace("y", "yaxis")] = axis(label, domain=[low, high])
    layout["yaxis"] |= _around(curve)
    data = [trace.drawn for trace in traces]
    return Figure(f"curve-{number}", title, data, layout, *_full(curve, traces))


def _around(curve: Curve) -> dict[str, Any]:
    """A range about a value that never changes: Plotly's own is from -1 to 1 about it, whatever it is."""
    values = np.concatenate([side.values for side in (curve.source, curve.target) if side is not None])
    if not values.size or not values[0] or not np.isfinite(values[0]) or (values != values[0]).any():
        return {}
    ends = sorted((float(values[0]) * 0.9, float(values[0]) * 1.1))
    return {"range": ends} if np.isfinite(ends).all() else {}


def _full(curve: Curve, traces: Sequence[Trace]) -> tuple[dict[int, Series], tuple[int, int, int] | None]:
    """What zooming in draws in full: both sides and their difference, as far as they are thinned.

    Where it can be, the target is left to be the source plus the difference: the difference of two numbers that were
    stored as float32 would not be theirs.
    """
    wanted = {id(series) for series in (curve.source, curve.target) if series is not None}
    full = {
        place: trace.series
        for place, trace in enumerate(traces)
        if len(trace.series.steps) > 2 * BUCKETS and (id(trace.series) in wanted or trace.difference)
    }
    if len(full) < 3:
        return full, None
    source, target, apart = full
    alike = np.array_equal(full[source].steps, full[target].steps) and bool(np.isfinite(full[apart].values).all())
    return ({source: full[source], apart: full[apart]}, (target, source, apart)) if alike else (full, None)


def _domains(rows: int) -> tuple[list[float], list[float]]:
    """Ends of the axes from the top row down: the first takes most of the room."""
    return {1: ([0.0], [1.0]), 2: ([0.34, 0.0], [1.0, 0.26])}.get(rows, ([0.48, 0.25, 0.0], [1.0, 0.40, 0.17]))


def _sides(curve: Curve, words: Words) -> list[Trace]:
    sides = (("source", curve.source, SOURCE), ("target", curve.target, TARGET))
    return [_line(series, words(side), colour, "y") for side, series, colour in sides if series is not None]


def _band(curve: Curve, words: Words) -> list[Trace]:
    """Two lines with the room between them filled."""
    if curve.low is None or curve.high is None:
        return []
    low, high = _line(curve.low, "", BAND, "y"), _line(curve.high, words("band"), BAND, "y")
    low.drawn.update(showlegend=False, hoverinfo="skip", mode="lines")
    high.drawn.update(fill="tonexty", fillcolor=BAND, hoverinfo="skip", mode="lines")
    return [low, high]


def _noise(curve: Curve) -> list[Trace]:
    """The band as it lies about the source's own run, for the row of differences: there it can be seen."""
    if curve.source is None or curve.low is None or curve.high is None:
        return []
    around = []
    for edge in (curve.low, curve.high):
        steps, ours, theirs = np.intersect1d(curve.source.steps, edge.steps, return_indices=True)
        around.append(Series(steps, edge.values[theirs] - curve.source.values[ours]))
    low, high = (_below(edge, "", "y2") for edge in around)
    for trace in (low, high):
        trace.drawn.update(hoverinfo="skip", mode="lines", line={"color": BAND, "width": 1})
    high.drawn.update(fill="tonexty", fillcolor=BAND)
    return [low, high]


def _line(series: Series, name: str, colour: str, place: str) -> Trace:
    points = kept(series.values)
    steps, values = series.steps[points], series.values[points]
    few = len(series.steps) <= 50
    drawn = {
        "type": "scatter",
        "mode": "lines+markers" if few else "lines",
        "name": name,
        "x": steps.tolist(),
        "y": [float(f"{value:.8g}") if isfinite(value) else None for value in values.tolist()],
        "yaxis": place,
        "line": {"color": colour, "width": 1.6},
    }
    return Trace(series, drawn)


def _below(series: Series, name: str, place: str) -> Trace:
    """A line of a lower row, which its axis names."""
    trace = _line(series, name, INK, place)
    trace.drawn["showlegend"] = False
    return trace


def _bad(curve: Curve) -> list[int]:
    """Steps at which a side is not finite."""
    sides = [side for side in (curve.source, curve.target) if side is not None]
    found = [side.steps[~np.isfinite(side.values)] for side in sides]
    return np.unique(np.concatenate(found)).astype(int).tolist() if found else []


def _mark(step: int) -> dict[str, Any]:
    line = {"color": "rgba(180,20,40,0.35)", "width": 1}
    return {"type": "line", "x0": step, "x1": step, "yref": "paper", "y0": 0, "y1": 1, "line": line}


def _steps(paces: Sequence[Pace | None], words: Words) -> Figure:
    """Distributions of step times over a logarithmic axis: ratios in the hundreds fit, and so does the jitter."""
    known = [
        (words(side), colour, 1000 * pace.values[np.isfinite(pace.values) & (pace.values > 0)])
        for side, colour, pace in zip(("source", "target"), (SOURCE, TARGET), paces, strict=True)
        if pace is not None and pace.values is not None
    ]
    known = [(name, colour, values) for name, colour, values in known if len(values)]
    ends = [(values.min(), values.max()) for _, _, values in known] or [(1.0, 1.0)]
    low, high = min(a for a, _ in ends), max(b for _, b in ends)
    bins = np.geomspace(low * 0.98, high * 1.02, 81)
    data = []
    for name, colour, values in known:
        shares = np.histogram(values, bins)[0] / len(values)
        data.append({
            "type": "scatter", "mode": "lines", "name": name, "fill": "tozeroy",
            "x": bins.tolist(), "y": [*shares.tolist(), 0.0], "line": {"color": colour, "width": 1.4, "shape": "hv"},
        })  # fmt: skip
    layout = blank(300) | {
        "xaxis": axis(words("ms_step")) | {"type": "log"},
        "yaxis": axis(words("share")) | {"tickformat": ".0%", "rangemode": "tozero"},
    }
    return Figure("steps", words("speed"), data, layout)
