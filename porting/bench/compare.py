"""Two matrices against each other, cell by cell: two runs, two devices, two commits, two models.

What is compared has to have learned the same: cells of other data, another recipe or other weights are listed, not
compared. (Two models may have other vocabularies: of their examples the origin counts, not the ids.) Ratios are of the
second over the first. Intervals are of 95 %: of step times by a bootstrap over blocks of steps, of what the monitor
sampled by one over blocks of samples, of accuracies by the normal approximation of two independent shares. They are of
the variation within the two runs: a third run may lie outside of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from porting.acceptance.speed import LEAST, ratio_interval
from porting.bench.figures import FIGURES, READINGS, Measured
from porting.bench.interval import mean_ratio, share_difference
from porting.bench.store import read_cells, read_plan
from porting.convert.columns import jsonable
from porting.errors import UsageError

RATIOS = (
    "step_time", "compile_time", "epoch_time", "average_power", "average_utilization", "average_memory",
    "peak_memory", "peak_rss", "eval_loss", "train_loss",
)  # fmt: skip
"""Compared by their ratio, the accuracy by its difference."""

SAME = ("task", "data", "checkpoints", "epochs", "learning_rate", "seed")
"""Of the plan: what has to be the same."""

TOLD = ("compute", "mode", "period")
"""Of the plan: what may differ, and is said."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure of both sides. value: of the second over the first; of an accuracy the second minus the first.

    low, high: the interval; None where there is none, with the reason.
    """

    figure: str
    first: float
    second: float
    value: float
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """A cell that both sides have. ratios: none where they are not compared, whose reason is in `problem`.

    missing: by figure why it is not compared.
    """

    name: str
    ratios: tuple[Ratio, ...] = ()
    missing: Mapping[str, str] | None = None
    problem: str = ""
    slower: bool = False

    @property
    def timed(self) -> bool:
        """Whether step times were compared, as those of emulated devices are not."""
        return any(ratio.figure == "step_time" for ratio in self.ratios)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides. facts: what differs and may. only: cells that one side has, by side. differing: what may not."""

    first: str
    second: str
    pairs: tuple[Pair, ...]
    facts: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()
    only: Mapping[str, tuple[str, ...]] | None = None
    limit: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the speed of every cell was compared, and none is slower than allowed for certain."""
        whole = bool(self.pairs) and not self.differing and not any((self.only or {}).values())
        return whole and all(pair.timed and not pair.slower for pair in self.pairs)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        found: dict[str, Any] = jsonable({**asdict(self), "passed": self.passed})
        return found


def compare(first: str, second: str, *, limit: float | None = None) -> Comparison:
    """Compare two matrices. limit: of the ratio of step times.

    first, second: `FOLDER`, `FOLDER#BACKEND`, `FOLDER#MODEL` or `FOLDER#BACKEND#MODEL`. Cells are paired by backend,
    model and batch size, without the backend where each side has one, without the model where each has one.
    Raises: UsageError for a folder without a matrix, what is not in it, or a limit that is none; FormatError.
    """
    if limit is not None and not limit > 0:
        raise UsageError(f"--max-ratio: wanted more than 0, got {limit:g}")
    one, two = _side(first), _side(second)
    plans = [read_plan(_folder(text)) for text in (first, second)]
    differing = tuple(_different(plans, SAME))
    alone = {
        part
        for part in ("backend", "model")
        if all(len({getattr(c.cell, part) for c in side}) == 1 for side in (one, two))
    }
    ours, theirs = ({_key(cell, alone): cell for cell in side} for side in (one, two))
    only = {
        first: tuple(key for key in ours if key not in theirs),
        second: tuple(key for key in theirs if key not in ours),
    }
    pairs = () if differing else tuple(_pair(key, ours[key], theirs[key], limit) for key in ours if key in theirs)
    facts = (*_different(plans, TOLD), *_environments(one, two))
    return Comparison(first, second, pairs, facts, differing, only, limit)


def _folder(text: str) -> Path:
    """The folder of a name, whole where there is a folder of that name."""
    return Path(text) if Path(text).is_dir() else Path(text.partition("#")[0])


def _side(text: str) -> list[Measured]:
    """The cells of one side."""
    folder = _folder(text)
    read_plan(folder)
    cells = read_cells(folder)
    wanted = [] if str(folder) == str(Path(text)) else text.split("#")[1:]
    found = [one for one in cells if all(word in (one.cell.backend, one.backend, one.cell.model) for word in wanted)]
    if not found:
        names = {name for one in cells for name in (one.cell.backend, one.cell.model)}
        raise UsageError(f"{text}: holds no such cell; there is {', '.join(sorted(names)) or 'none'}")
    return sorted(found, key=lambda one: (one.cell.backend, one.cell.model, one.cell.batch_size))


def _key(one: Measured, alone: set[str]) -> str:
    """What pairs a cell. alone: of backend and model that of which each side has one."""
    model = "" if "model" in alone else f"{one.cell.model} "
    backend = "" if "backend" in alone else f" on {one.cell.backend}"
    return f"{model}batch {one.cell.batch_size}{backend}"


def _different(plans: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Iterator[str]:
    one, two = plans
    for name in names:
        if one.get(name) != two.get(name):
            yield f"{name}: {one.get(name)} against {two.get(name)}"


def _environments(one: Sequence[Measured], two: Sequence[Measured]) -> Iterator[str]:
    """Models, devices, versions and code, where they are others."""
    for title, of in (
        ("model", lambda cell: cell.cell.model),
        ("device", lambda cell: cell.result.get("device", "")),
        ("backend", lambda cell: cell.backend),
        ("code", lambda cell: cell.result.get("code", "")[:19]),
        ("versions", lambda cell: ", ".join(f"{k} {v}" for k, v in cell.result.get("versions", {}).items())),
    ):
        sides = [", ".join(sorted({of(cell) for cell in side} - {""})) for side in (one, two)]
        if sides[0] != sides[1]:
            yield f"{title}: {sides[0] or 'not known'} against {sides[1] or 'not known'}"


def _pair(name: str, one: Measured, two: Measured, limit: float | None) -> Pair:
    """Compare two cells, or say why not."""
    failed = [f"{cell.backend}: {cell.reasons['step_time']}" for cell in (one, two) if cell.steady is None]
    if failed:
        return Pair(name, problem="; ".join(failed))
    if one.cell.model == two.cell.model and one.result["data"] != two.result["data"]:
        return Pair(name, problem="another data: not compared")
    if _recipe(one) != _recipe(two):
        return Pair(name, problem="another recipe: not compared")
    ratios, missing = [], {}
    for figure in FIGURES:
        a, b = one.values[figure], two.values[figure]
        if a is None or b is None:
            missing[figure] = "; ".join(
                dict.fromkeys(cell.reasons[figure] for cell in (one, two) if figure in cell.reasons)
            )
        elif figure == "eval_accuracy":
            ratios.append(_accuracy(one, two, a, b))
        elif figure in RATIOS and a:
            ratios.append(_ratio(figure, one, two, a, b))
    found = next((ratio for ratio in ratios if ratio.figure == "step_time"), None)
    slower = bool(limit is not None and found and (found.value if found.low is None else found.low) > limit)
    return Pair(name, tuple(ratios), missing, slower=slower)


def _recipe(one: Measured) -> dict[str, Any]:
    """A recipe, but for the dialect that it calls parameters by: that is the family's."""
    return {name: value for name, value in one.result["recipe"].items() if name not in ("hash", "names_of")}


def _accuracy(one: Measured, two: Measured, a: float, b: float) -> Ratio:
    counts = (one.result["examples"]["eval"], two.result["examples"]["eval"])
    return Ratio("eval_accuracy", a, b, b - a, *share_difference(a, b, counts))


def _ratio(figure: str, one: Measured, two: Measured, a: float, b: float) -> Ratio:
    """A ratio with its interval, where there is a series to draw one from."""
    if figure == "step_time" and one.steady is not None and two.steady is not None:
        series, what = [one.steady.values, two.steady.values], "steady steps"
    elif figure in READINGS:
        told = ([value for _, value in cell.during(figure) if value is not None] for cell in (one, two))
        series, what = [np.array(values) for values in told], "samples"
    else:
        return Ratio(figure, a, b, b / a, reason="one number a run")
    few = min(values.size for values in series)
    if few < LEAST:
        return Ratio(figure, a, b, b / a, reason=f"{few} {what}")
    bounds = (ratio_interval if figure == "step_time" else mean_ratio)(*series)
    return Ratio(figure, a, b, b / a, *bounds)
