"""From what dialects have found to trajectories: names joined, runs told apart, limits said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from porting.acceptance.trajectory import Metric, Series, Trajectory
from porting.logs.columns import Rows
from porting.logs.dialect import Dialect, Part, Points
from porting.logs.runs import Runs, split

NO_BATCHES = "no hash of the data: nothing shows that both sides saw the same batches"
NO_WEIGHTS = "no hash of the initial weights: nothing shows that both sides began from the same"
NO_DROPOUT = "no record of dropout"
NO_NORM = "no gradient norm: a wrong scale of the gradients cannot be seen"


@dataclass(frozen=True, slots=True)
class Draft:
    """A run that has no file yet. name: what tells it from others of the file, empty for the only one."""

    name: str
    series: Mapping[str, Series] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    batches: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def settled(dialects: Sequence[Dialect], found: Mapping[str, Mapping[str, Rows]]) -> dict[str, Part]:
    """What each dialect makes of its lines. Raises: NothingTrained for a dry run."""
    return {dialect.name: dialect.settle(found[dialect.name]) for dialect in dialects if dialect.name in found}


def drafts(parts: Mapping[str, Part]) -> tuple[Draft, ...]:
    """The runs one after the other, oldest first; none if nothing was found."""
    points, notes = _joined(parts)
    if not points and not any(part.metrics or part.counts for part in parts.values()):
        return ()
    cut = {name: split(one) for name, one in points.items()}
    count = len(cut["loss"].series) if "loss" in cut else max((len(runs.series) for runs in cut.values()), default=1)
    notes += [note for runs in cut.values() for note in runs.notes]
    if count > 1:
        notes.append(f"steps begin anew {count - 1} times: {count} runs")
    unclear = [name for name, runs in cut.items() if len(runs.series) != count]
    if unclear:
        notes.append(f"left out, because it is not clear of which run they are: {', '.join(unclear)}")
    return tuple(_draft(parts, cut, notes, number, count) for number in range(count))


def _joined(parts: Mapping[str, Part]) -> tuple[dict[str, Points], list[str]]:
    """Series of all dialects; where two have one name, that with more values."""
    points: dict[str, Points] = {}
    notes = [note for part in parts.values() for note in part.notes]
    for dialect, part in parts.items():
        for name, one in ((name, one) for name, one in part.series.items() if one.values.size):
            if name in points:
                fewer = min(one.values.size, points[name].values.size)
                notes.append(f"{name} is there twice ({dialect} too): {fewer} values left out")
            if name not in points or one.values.size > points[name].values.size:
                points[name] = one
    return points, notes


def _draft(parts: Mapping[str, Part], cut: Mapping[str, Runs], notes: list[str], number: int, count: int) -> Draft:
    last = number == count - 1
    series: dict[str, Series] = {}
    for name, runs in cut.items():
        if len(runs.series) == count:
            series[name] = runs.series[number]
    metrics: dict[str, Metric] = {}
    for part in parts.values():
        metrics |= part.metrics if last else {}
        for metric, name in part.finals.items():
            if name in series and series[name].values.size:
                metrics[metric] = Metric(float(series[name].values[-1]), None, series[name].resolution)
    environment = {key: value for part in parts.values() for key, value in part.environment.items()}
    counts: dict[str, int] = {}
    for part in parts.values():
        for event, times in part.counts.items():
            counts[event] = counts.get(event, 0) + times
    batches = {step: text for part in parts.values() for step, text in part.batches.items()}
    limits = list(dict.fromkeys(limit for part in parts.values() for limit in part.limits))
    known = tuple(batches[step] for step in sorted(batches)) if last else ()
    name = str(number + 1) if count > 1 else ""
    return Draft(name, series, metrics, counts, environment, known, tuple(limits), tuple(dict.fromkeys(notes)))


def finished(draft: Draft, trajectory: Trajectory) -> Trajectory:
    """A draft in its trajectory's place, with what evidence of its kind cannot show."""
    limits = list(draft.limits)
    if "loss" in draft.series:
        limits += [f"the loss is printed to {draft.series['loss'].resolution:g}"]
        limits += [] if "grad_norm" in draft.series else [NO_NORM]
        limits += [] if draft.batches else [NO_BATCHES]
        limits += [NO_WEIGHTS, NO_DROPOUT]
    return Trajectory(
        trajectory.name, trajectory.kind, trajectory.inputs, draft.series, draft.metrics, draft.counts,
        draft.environment, draft.batches, limits=tuple(limits), notes=(*trajectory.notes, *draft.notes),
    )  # fmt: skip
