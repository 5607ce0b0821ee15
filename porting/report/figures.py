"""Curves, step times and the map of deviations as figures of Plotly: its JSON, made without its Python library.

Every text that comes from the data is escaped here, because Plotly reads a little HTML in texts and hovers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite, log10
from typing import Any

import numpy as np

from porting.acceptance.acceptance import Acceptance, Curve, Pace
from porting.acceptance.trajectory import Series
from porting.errors import readable
from porting.parity.state import Finding, Level
from porting.report.thin import BUCKETS, kept
from porting.report.words import Words

SOURCE, TARGET, BAND, INK = "#0b6e99", "#d1603d", "rgba(11,110,153,0.18)", "#3d4852"

MOST_CURVES = 12
"""Figures of series; a log may hold hundreds of names."""

MOST_BAD = 100
"""Marks of values that are not finite."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """A line of a figure. series: all of it; drawn: as Plotly has it, thinned."""

    series: Series
    drawn: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """One figure. full: number of a trace in `data` -> all of its points, where it is thinned."""

    name: str
    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    full: Mapping[int, Series]

    @property
    def thinned(self) -> bool:
        """Whether not every point is drawn."""
        return bool(self.full)


def figures_of(found: Acceptance, words: Words) -> list[Figure]:
    """All figures of a report, in its order."""
    drawn = [curve for curve in found.curves if curve.source is not None or curve.target is not None]
    figures = [_curve(number, curve, words) for number, curve in enumerate(drawn[:MOST_CURVES])]
    speed = found.speed
    paces = [speed.source, speed.target] if speed else []
    if any(pace is not None and pace.values is not None and len(pace.values) > 1 for pace in paces):
        figures.append(_steps(paces, words))
    return [*figures, *_maps(found, words)]


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
        rows.append(("y2", [_below(apart, words("difference"), "y2")]))
    if curve.z is not None and len(curve.z.steps):
        rows.append((f"y{len(rows) + 1}", [_below(curve.z, words("z"), f"y{len(rows) + 1}")]))
    traces = [trace for _, row in rows for trace in row]
    title = series_name(curve.name, words)
    layout = _layout(430 + 130 * (len(rows) - 1)) | {
        "xaxis": _axis(words("step"), anchor=rows[-1][0], exponentformat="none", separatethousands=True),
        "hovermode": "x unified",
        "shapes": [_mark(step) for step in _bad(curve)[:MOST_BAD]],
    }
    labels = [title, words("difference"), words("z")] if apart is not None else [title, words("z")]
    for (axis, _), low, high, label in zip(rows, *_domains(len(rows)), labels, strict=False):
        layout[axis.replace("y", "yaxis")] = _axis(label, domain=[low, high])
    full = {place: trace.series for place, trace in enumerate(traces) if len(trace.series.steps) > 2 * BUCKETS}
    return Figure(f"curve-{number}", title, [trace.drawn for trace in traces], layout, full)


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
    low.drawn.update(showlegend=False, hoverinfo="skip")
    high.drawn.update(fill="tonexty", fillcolor=BAND, hoverinfo="skip")
    return [low, high]


def _line(series: Series, name: str, colour: str, axis: str) -> Trace:
    points = kept(series.values)
    steps, values = series.steps[points], series.values[points]
    few = len(series.steps) <= 50
    drawn = {
        "type": "scatter",
        "mode": "lines+markers" if few else "lines",
        "name": name,
        "x": steps.tolist(),
        "y": [value if isfinite(value) else None for value in values.tolist()],
        "yaxis": axis,
        "line": {"color": colour, "width": 1.6},
    }
    return Trace(series, drawn)


def _below(series: Series, name: str, axis: str) -> Trace:
    """A line of a lower row, which its axis names."""
    trace = _line(series, name, INK, axis)
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
    layout = _layout(300) | {
        "xaxis": _axis(words("ms_step")) | {"type": "log"},
        "yaxis": _axis(words("share")) | {"tickformat": ".0%", "rangemode": "tozero"},
    }
    return Figure("steps", words("speed"), data, layout, {})


_LAYER = re.compile(r"(?<=[._/])(\d{1,4})(?=[._/]|$)")

_MAPS = (
    (Level.FORWARD, "forced", "forced"),
    (Level.FORWARD, "free", "free"),
    (Level.BACKWARD, "", "gradients"),
    (Level.STEP, "", "one_step"),
)

MOST_ROWS = 120
"""Rows of a map; the worst are shown where there are more."""


def _maps(found: Acceptance, words: Words) -> Iterable[Figure]:
    """A map for each kind of measured finding: layers from left to right, what is in a layer from top to bottom."""
    for level, mode, key in _MAPS:
        known = [f for f in found.level(level).findings if f.mode == mode and excess(f) is not None]
        if known:
            yield _map(key, known, words)


def excess(finding: Finding) -> float | None:
    """The measured value over its limit; None where nothing was measured."""
    if finding.value is None or not finding.limit:
        return None
    return finding.value / finding.limit


def _map(key: str, findings: Sequence[Finding], words: Words) -> Figure:
    worst: dict[tuple[str, int], Finding] = {}
    for finding in findings:
        place = _placed(finding.what)
        if place not in worst or (excess(finding) or 0) > (excess(worst[place]) or 0):
            worst[place] = finding
    rows = list(dict.fromkeys(row for row, _ in worst))
    if len(rows) > MOST_ROWS:
        top = {row: max(excess(f) or 0 for (r, _), f in worst.items() if r == row) for row in rows}
        chosen = set(sorted(rows, key=top.__getitem__, reverse=True)[:MOST_ROWS])
        rows = [row for row in rows if row in chosen]
    columns = sorted({layer for _, layer in worst})
    table = [[worst.get((row, column)) for column in columns] for row in rows]
    data = {
        "type": "heatmap",
        "x": [words("no_layer") if column < 0 else str(column) for column in columns],
        "y": list(range(len(rows))),
        "z": [[None if f is None else _shade(excess(f)) for f in line] for line in table],
        "text": [["" if f is None else _hover(f) for f in line] for line in table],
        "hoverinfo": "text",
        "zmin": -3, "zmax": 3, "xgap": 1, "ygap": 1,
        "colorscale": [[0, "#e8f1f5"], [0.45, "#5aa9c4"], [0.5, "#0b6e99"], [0.5001, "#f0b49e"], [1, "#8c1c13"]],
        "colorbar": {
            "title": {"text": words("times_limit"), "side": "right"}, "thickness": 12,
            "lenmode": "pixels", "len": 150,
            "tickvals": [-3, -2, -1, 0, 1, 2, 3], "ticktext": ["0.001", "0.01", "0.1", "1", "10", "100", "1000"],
        },
    }  # fmt: skip
    layout = _layout(max(220, 120 + 18 * len(rows))) | {
        "xaxis": {"type": "category", "fixedrange": True},
        "yaxis": {"autorange": "reversed", "automargin": True, "fixedrange": True, "tickfont": {"size": 10}}
        | {"tickvals": list(range(len(rows))), "ticktext": [escape(_end(readable(row))) for row in rows]},
        "plot_bgcolor": "#eef0f2",
    }
    return Figure(f"map-{key}", words(key), [data], layout, {})


def _placed(name: str) -> tuple[str, int]:
    """What a tap is within its layer, and which layer that is; -1 outside of any.

    >>> _placed("encoder.layer.3.output"), _placed("pooler")
    (('encoder.layer.·.output', 3), ('pooler', -1))
    """
    found = _LAYER.search(name)
    return (name, -1) if found is None else (name[: found.start()] + "·" + name[found.end() :], int(found[1]))


def _end(name: str, most: int = 32) -> str:
    """The end of a name, which tells more than its beginning."""
    return name if len(name) <= most else f"…{name[1 - most :]}"


def _shade(share: float | None) -> float | None:
    if share is None or share != share:  # noqa: PLR0124 - only NaN is unlike itself
        return None
    return max(-3.0, min(3.0, log10(share))) if share > 0 else -3.0


def _hover(finding: Finding) -> str:
    value, limit = (f"{number:.3g}" for number in (finding.value or 0.0, finding.limit or 0.0))
    return f"{escape(readable(finding.what))}<br>{finding.state}: {escape(finding.measure)} {value} / {limit}"


def _layout(height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 64, "r": 16, "t": 36, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "#ffffff",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#1c242b"},
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "traceorder": "normal"},
        "dragmode": "zoom",
    }


def _axis(title: str, **values: Any) -> dict[str, Any]:
    style = {"gridcolor": "#e3e7ea", "zerolinecolor": "#c3cad0", "automargin": True, "exponentformat": "power"}
    return {"title": {"text": escape(title)}, **style, **values}
