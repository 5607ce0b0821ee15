"""What was read from a log, as text and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from porting.acceptance.trajectory import Series, Trajectory
from porting.convert.columns import aligned, jsonable

HEAD = ("series", "values", "steps", "first", "last", "lowest", "highest", "resolution", "not finite")

SERIES = 60
"""Series and metrics that are shown; the rest is counted."""


def log_lines(found: Trajectory) -> list[str]:
    """Name, series, metrics, events, environment, limits and notes, plain."""
    lines = [found.name, *(f"  {one.path}: {one.size} bytes, {one.hash}" for one in found.inputs)]
    if found.series:
        rows = [_row(name, series) for name, series in list(found.series.items())[:SERIES]]
        lines += [f"  {line}" for line in aligned([HEAD, *rows], right=range(1, len(HEAD)))]
        lines += _more(len(found.series), "series")
    for name, metric in list(found.metrics.items())[:SERIES]:
        among = f", {metric.count} examples" if metric.count is not None else ""
        lines.append(f"  {name} = {metric.value:.9g} (printed to {metric.resolution:g}{among})")
    lines += _more(len(found.metrics), "metrics")
    lines += [f"  {name}: {count}" for name, count in found.counts.items()]
    lines += [f"  {name}: {text}" for name, text in found.environment.items()]
    lines += [f"  limit: {text}" for text in found.limits]
    lines += [f"  note: {text}" for text in found.notes]
    return lines


def _more(count: int, what: str) -> list[str]:
    return [f"  … {count - SERIES} more {what}"] if count > SERIES else []


def _row(name: str, series: Series) -> tuple[str, ...]:
    steps, values = series.steps, series.values
    finite = values[np.isfinite(values)]
    ends = [f"{value:.9g}" for value in (values[0], values[-1])]
    range_ = [f"{value:.9g}" for value in (finite.min(), finite.max())] if finite.size else ["", ""]
    odd = values.size - finite.size
    return (
        name,
        str(values.size),
        f"{steps[0]}..{steps[-1]}",
        *ends,
        *range_,
        f"{series.resolution:g}",
        str(odd or ""),
    )


def log_json(found: Trajectory) -> dict[str, Any]:
    """Everything as JSON values; numbers that JSON does not know are strings: nan, inf, -inf."""
    return {
        "name": found.name,
        "inputs": [asdict(one) for one in found.inputs],
        "series": {
            name: {"resolution": one.resolution, "steps": one.steps.tolist(), "values": jsonable(one.values.tolist())}
            for name, one in found.series.items()
        },
        "metrics": {name: jsonable(asdict(one)) for name, one in found.metrics.items()},
        "counts": dict(found.counts),
        "environment": dict(found.environment),
        "batches": list(found.batches),
        "limits": list(found.limits),
        "notes": list(found.notes),
    }
