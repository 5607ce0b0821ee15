"""A figure of Plotly: its JSON, made without its Python library.

Every text that comes from the data is escaped where it is put in: Plotly reads a little HTML in texts and hovers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from porting.acceptance.trajectory import Series


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """A line of a figure. series: all of it; drawn: as Plotly has it, thinned; difference: whether it is that."""

    series: Series
    drawn: dict[str, Any]
    difference: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """One figure.

    full: number of a trace in `data` -> all of its points, for zooming in, where it is thinned. summed: a trace whose
    points are the sum of two of those, which then need not be stored.
    """

    name: str
    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    full: Mapping[int, Series] = field(default_factory=dict)
    summed: tuple[int, int, int] | None = None

    @property
    def thinned(self) -> bool:
        """Whether not every point is drawn."""
        return bool(self.full)


def blank(height: int) -> dict[str, Any]:
    """A layout without axes. height: pixels."""
    return {
        "height": height,
        "margin": {"l": 64, "r": 16, "t": 36, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "#ffffff",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#1c242b"},
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "traceorder": "normal"},
        "dragmode": "zoom",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#8a949c", "activecolor": "#1c242b"},
    }


def axis(title: str, **values: Any) -> dict[str, Any]:
    """An axis of a layout."""
    style = {"gridcolor": "#e3e7ea", "zerolinecolor": "#c3cad0", "automargin": True, "exponentformat": "power"}
    return {"title": {"text": escape(title)}, **style, **values}
