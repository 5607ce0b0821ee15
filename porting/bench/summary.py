"""What `port bench run` shows when it is done."""

from __future__ import annotations

from collections import Counter
from typing import Any

from porting.bench.figures import Measured
from porting.bench.matrix import Made
from porting.convert.columns import jsonable


def made_lines(made: Made) -> list[str]:
    """Where the table is, and what became of the cells."""
    counts = Counter(one.state.replace("_", " ") for one in made.cells)
    said = ", ".join(f"{count} {state}" for state, count in counts.items())
    return [f"{made.folder}/matrix.html, matrix.md, matrix.csv: {said}; {made.kept} were there already"]


def made_json(made: Made) -> dict[str, Any]:
    """All figures of all cells, and the reasons of those that there are not."""
    found: dict[str, Any] = jsonable({"cells": list(map(cell_json, made.cells)), "kept": made.kept})
    return found


def cell_json(one: Measured) -> dict[str, Any]:
    """A cell without its series."""
    return {
        "backend": one.backend,
        "asked": one.cell.backend,
        "model": one.cell.model,
        "batch_size": one.cell.batch_size,
        "state": one.state,
        "reason": one.result["reason"],
        "emulated": one.emulated,
        "figures": dict(one.values),
        "not_measured": dict(one.reasons),
        "evaluation": one.result.get("evaluation"),
        "steady_from_step": None if one.steady is None else one.steady.first + 1,
    }
