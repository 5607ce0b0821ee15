"""The table of a matrix as one HTML file that opens without a network.

A picture is in every row, and below the table are each cell's samples over time, to zoom in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from porting.bench.figures import FIGURES, Measured
from porting.bench.picture import COLOURS, lines_of, picture
from porting.bench.table import HEADS, facts_of, numbered, row_of
from porting.report.figure import Figure, axis, blank
from porting.report.html import figures_json, page_named, plotly, policy, template
from porting.report.thin import kept

POINTS = 400
"""Buckets of a line, two points each: thirty cells of five lines are drawn within a second or two."""

ROW = 92
"""Pixels of one line's axis."""


def as_html(plan: Mapping[str, Any], cells: Sequence[Measured]) -> str:
    """The page. Raises: UsageError if Jinja2 or Plotly is not installed."""
    scripts = [plotly(), template("report.js")]
    figures = [figure_of(number, one) for number, one in enumerate(cells) if one.steady is not None]
    page: str = page_named("bench.html.j2").render(
        title=f"{plan['task']}: models by batch sizes",
        policy=policy(scripts),
        css=template("report.css"),
        scripts=scripts,
        facts=facts_of(plan, cells),
        heads=[HEADS[name] for name in FIGURES],
        what=[f"{HEADS[name]}: {text}" for name, text in FIGURES.items()],
        backends=list(_backends(cells)),
        figures=figures_json(figures),
    )
    return page


def _backends(cells: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    numbers = {one.cell: number for number, one in enumerate(cells)}
    for backend in dict.fromkeys(one.cell.backend for one in cells):
        mine = [one for one in cells if one.cell.backend == backend]
        notes, reasons = numbered(mine)
        rows = [
            {
                "model": one.cell.model,
                "batch": one.cell.batch_size,
                "texts": row_of(one, reasons),
                "picture": picture(one) if one.steady is not None else "",
                "state": one.state.replace("_", " "),
                "tail": one.result.get("tail", []),
                "figure": f"cell-{numbers[one.cell]}",
            }
            for one in mine
        ]
        yield {"name": mine[0].backend, "asked": backend, "emulated": mine[0].emulated, "rows": rows, "notes": notes}


def figure_of(number: int, one: Measured) -> Figure:
    """A cell's lines, one above the other, over the seconds since its first step."""
    lines = lines_of(one)
    count = len(lines)
    layout = blank(70 + ROW * count) | {
        "xaxis": axis("s", anchor=f"y{count}" if count > 1 else "y"),
        "hovermode": "x",
        "showlegend": False,
        "shapes": _warm(one),
        "annotations": [],
    }
    data = []
    for place, (label, unit, times, values) in enumerate(lines):
        name = "y" if place == 0 else f"y{place + 1}"
        points = kept(np.where(np.isfinite(values), values, np.nan), POINTS)
        low, high = 1 - (place + 0.72) / count, 1 - place / count - 0.1 / count
        layout[name.replace("y", "yaxis")] = axis("", domain=[low, high], nticks=4)
        layout["annotations"].append(_label(f"{label}, {unit}" if unit else label, high, COLOURS[place]))
        data.append({
            "type": "scatter", "mode": "lines", "name": label, "yaxis": name,
            "x": [round(float(value), 4) for value in times[points]],
            "y": [float(f"{value:.6g}") if np.isfinite(value) else None for value in values[points]],
            "line": {"color": COLOURS[place], "width": 1.4},
        })  # fmt: skip
    return Figure(f"cell-{number}", f"{one.cell.model}, batch {one.cell.batch_size}", data, layout)


def _label(text: str, y: float, colour: str) -> dict[str, Any]:
    """A line's name above it."""
    place = {"x": 0, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    return {"text": text, "showarrow": False, "font": {"color": colour, "size": 12}, **place}


def _warm(one: Measured) -> list[dict[str, Any]]:
    """What was compiled and warmed up, shaded."""
    if one.steady is None or not one.steady.first:
        return []
    end = float(one.seconds[: one.steady.first].sum())
    shade = {"fillcolor": "rgba(91,103,112,0.14)", "line": {"width": 0}, "layer": "below"}
    return [{"type": "rect", "x0": 0, "x1": end, "yref": "paper", "y0": 0, "y1": 1, **shade}]
