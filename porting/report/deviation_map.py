"""The map of deviations: layers from left to right, what is in a layer from top to bottom, the worst as colour."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from math import log10

from porting.acceptance.acceptance import Acceptance
from porting.errors import readable
from porting.parity.state import Finding, Level
from porting.report.figure import Figure, blank
from porting.report.words import Words

_LAYER = re.compile(r"(?<=[._/])(\d{1,4})(?=[._/]|$)")

_MAPS = (
    (Level.FORWARD, "forced", "forced"),
    (Level.FORWARD, "free", "free"),
    (Level.BACKWARD, "", "gradients"),
    (Level.STEP, "", "one_step"),
)

MOST_ROWS = 120
"""Rows of a map; the worst are shown where there are more."""


def maps_of(found: Acceptance, words: Words) -> Iterator[Figure]:
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
        "text": [["" if f is None else _hover(f, words) for f in line] for line in table],
        "hoverinfo": "text",
        "zmin": -3, "zmax": 3, "xgap": 1, "ygap": 1,
        "colorscale": [[0, "#e8f1f5"], [0.45, "#5aa9c4"], [0.5, "#0b6e99"], [0.5001, "#f0b49e"], [1, "#8c1c13"]],
        "colorbar": {
            "title": {"text": words("times_limit"), "side": "right"}, "thickness": 12,
            "lenmode": "pixels", "len": 150,
            "tickvals": [-3, -2, -1, 0, 1, 2, 3], "ticktext": ["0.001", "0.01", "0.1", "1", "10", "100", "1000"],
        },
    }  # fmt: skip
    plain = {"fixedrange": True, "showgrid": False, "zeroline": False}
    names = {"tickvals": list(range(len(rows))), "ticktext": [escape(_end(readable(row))) for row in rows]}
    layout = blank(max(220, 120 + 18 * len(rows))) | {
        "xaxis": {"type": "category", **plain},
        "yaxis": {"autorange": "reversed", "automargin": True, "tickfont": {"size": 10}, **names, **plain},
        "plot_bgcolor": "#eef0f2",
    }
    return Figure(f"map-{key}", words(key), [data], layout)


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


def _hover(finding: Finding, words: Words) -> str:
    state = words(finding.state)
    value, limit = (f"{number:.3g}" for number in (finding.value or 0.0, finding.limit or 0.0))
    return f"{escape(readable(finding.what))}<br>{state}: {escape(words.reason(finding.measure))} {value} / {limit}"
