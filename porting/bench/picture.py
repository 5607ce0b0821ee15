"""A cell over time in one small picture: SVG, drawn without a library, so that a table can have one in every row."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from porting.acceptance.trajectory import Numbers
from porting.bench.figures import READINGS, Measured
from porting.report.thin import kept

WIDTH, STRIP, LEFT = 340, 20, 162
"""Pixels: of all, the height of a strip, and the room for its label."""

POINTS = 150
"""Buckets of a line; of each the least and the greatest are drawn."""

COLOURS = ("#0b6e99", "#d1603d", "#1b7f4b", "#7a4fa3", "#5b6770")

Line = tuple[str, str, Numbers, Numbers]
"""Label, unit, seconds, values."""


def lines_of(found: Measured) -> list[Line]:
    """What there is to draw over time: loss, step time, and what the device told; the loss only of one emulated."""
    named = {
        "average_power": ("power", "W"),
        "average_utilization": ("utilisation", "%"),
        "average_memory": ("memory", "MiB"),
    }
    ends = found.ends
    lines: list[Line] = [
        ("loss", "", ends, np.asarray(found.result["loss"], np.float64)),
        ("step time", "ms", ends, 1000 * found.seconds),
    ]
    if found.emulated:
        return lines[:1]
    mine = [one for one in found.result["readings"] if one[1] == found.result["reads"] and 0 <= one[0] <= ends[-1]]
    for name, (label, unit) in named.items():
        told = [(one[0], one[READINGS[name]]) for one in mine if one[READINGS[name]] is not None]
        if len(told) > 1:
            times, values = np.array(told, np.float64).T
            lines.append((label, unit, times, values))
    return lines


def picture(found: Measured) -> str:
    """The picture of a cell that is done. What was compiled and warmed up is shaded."""
    lines = lines_of(found)
    end = float(found.ends[-1])
    height = STRIP * len(lines) + 14
    title = escape(f"{found.cell.model}, batch {found.cell.batch_size}, {found.backend}, {end:.3g} s")
    size = f'width="{WIDTH}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {size}'
    parts = [f'{head} font-family="sans-serif" font-size="10" role="img"><title>{title}</title>']
    parts.append(f'<rect {size} fill="#fff"/>')
    first = found.steady.first if found.steady else 0
    if first:
        wide = (WIDTH - LEFT - 4) * float(found.seconds[:first].sum()) / end
        parts.append(f'<rect x="{LEFT}" y="0" width="{wide:.1f}" height="{height - 14}" fill="#eef1f3"/>')
    for number, line in enumerate(lines):
        parts += _strip(line, COLOURS[number], number * STRIP, end)
    parts.append(f'<text x="{LEFT}" y="{height - 4}" fill="#5b6770">0</text>')
    parts.append(f'<text x="{WIDTH - 4}" y="{height - 4}" text-anchor="end" fill="#5b6770">{end:.3g} s</text></svg>')
    return "".join(parts) + "\n"


def _strip(line: Line, colour: str, top: int, end: float) -> Sequence[str]:
    """One line with its label and its range."""
    label, unit, times, values = line
    finite = np.isfinite(values)
    if not finite.any():
        return (f'<text x="4" y="{top + 14}" fill="{colour}">{label}: nothing finite</text>',)
    points = kept(np.where(finite, values, np.nan), POINTS)
    points = points[finite[points]]
    low, high = float(values[finite].min()), float(values[finite].max())
    x = LEFT + (WIDTH - LEFT - 4) * times[points] / end
    y = (
        top
        + STRIP
        - 5
        - (STRIP - 10) * ((values[points] - low) / (high - low) if high > low else np.full(len(points), 0.5))
    )
    drawn = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    span = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    return (
        f'<text x="0" y="{top + 13}" fill="{colour}" font-weight="600">{label}</text>',
        f'<text x="{LEFT - 6}" y="{top + 13}" text-anchor="end" fill="#5b6770">{span} {unit}</text>',
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.2" points="{drawn}"/>',
        f'<line x1="{LEFT}" x2="{WIDTH - 4}" y1="{top + STRIP}" y2="{top + STRIP}" stroke="#dde2e6"/>',
    )
