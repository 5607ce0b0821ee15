"""Two sides' answers held together: whether they are to the same examples, and the intervals of their differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from porting.acceptance.answers import Answers
from porting.acceptance.names import ANSWERS, EXAMPLES
from porting.acceptance.resampling import bounds, drawn_measures, tango
from porting.parity.state import Finding, Level, State

LEVEL = 0.9
"""Of an interval that stands for two one-sided tests of 5 %."""

Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Matched:
    """differences: by metric, bounds of target minus source, None where there are none. paired: whether they are of the
    same examples. findings: what has to hold of the answers themselves.
    """

    differences: Mapping[str, Bounds | None]
    paired: bool
    findings: tuple[Finding, ...]


def matched(source: Answers, target: Answers) -> Matched:
    """Pair by ids where both sides have them, else by the sequence of labels; what is not the same is unpaired."""
    places, finding = _places(source, target)
    findings = (finding, *_finite(source, target))
    ours, theirs = source.judged(), target.judged()
    names = [name for name in ours if name in theirs]
    if places is None:
        return Matched(dict(_unpaired(names, source, target)), paired=False, findings=findings)
    aligned = {name: theirs[name][places] for name in names}
    drawn = drawn_measures([name for name in names if name != "accuracy"], source.labels, [ours, aligned])
    found: dict[str, Bounds | None] = {}
    for name in names:
        if name == "accuracy":
            right, other = ours[name] == source.labels, aligned[name] == source.labels
            found[name] = tango(int((other & ~right).sum()), int((right & ~other).sum()), right.size, level=LEVEL)
        else:
            found[name] = bounds(drawn[name][1] - drawn[name][0], LEVEL) if drawn else None
    return Matched(found, paired=True, findings=findings)


def alone(side: str) -> Matched:
    """What there is where one side alone has predictions, and the other numbers that a log printed."""
    told = f"only the {side} gave predictions: compared as two samples, unpaired"
    return Matched({}, paired=False, findings=(_examples(State.CONDITIONAL, told),))


def _unpaired(names: list[str], source: Answers, target: Answers) -> Iterator[tuple[str, Bounds | None]]:
    """Bounds of differences as of two samples; accuracy's are Newcombe's, from the counts, and not made here."""
    resampled = [name for name in names if name != "accuracy"]
    sides = [
        drawn_measures(resampled, one.labels, [one.judged()], seed=seed) for seed, one in enumerate((source, target))
    ]
    for name in resampled:
        first, second = sides
        if first is None or second is None:
            yield name, None
            continue
        count = min(first[name][0].size, second[name][0].size)
        yield name, bounds(second[name][0][:count] - first[name][0][:count], LEVEL)


def _places(source: Answers, target: Answers) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]] | None, Finding]:
    """For each of the source's examples its place among the target's; None where they are not the same."""
    if source.kind != target.kind:
        return None, _examples(
            State.UNMATCHED, f"{source.kind} were predicted by the source, {target.kind} by the target"
        )
    if source.ids is not None and target.ids is not None:
        return _by_ids(source, target)
    if np.array_equal(source.labels, target.labels):
        return np.arange(source.labels.size), _examples(
            State.PASS, f"no ids on both sides; the labels of {source.labels.size} examples are the same, in order"
        )
    counts = f"{source.labels.size} examples (source), {target.labels.size} (target)"
    return None, _examples(
        State.CONDITIONAL,
        f"{counts}, no ids on both sides, and other labels in order: compared as two samples, unpaired",
    )


def _by_ids(source: Answers, target: Answers) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]] | None, Finding]:
    assert source.ids is not None  # noqa: S101 - asked before
    assert target.ids is not None  # noqa: S101 - likewise
    common, ours, theirs = np.intersect1d(source.ids, target.ids, return_indices=True)
    other = source.labels[ours] != target.labels[theirs]
    if other.any():
        first = common[other][0]
        told = f"{int(other.sum())} of {common.size} common examples have another label on the target, first {first}"
        return None, _examples(State.FAIL, told)
    if common.size < source.ids.size or common.size < target.ids.size:
        counts = f"{common.size} ids in common of {source.ids.size} (source) and {target.ids.size} (target)"
        return None, _examples(State.CONDITIONAL, f"{counts}: compared as two samples, unpaired")
    places = np.empty(common.size, np.int64)
    places[ours] = theirs
    return places, _examples(State.PASS, f"the same {common.size} ids with the same labels")


def _finite(source: Answers, target: Answers) -> Iterator[Finding]:
    if source.broken or target.broken:
        told = f"{source.broken} predictions are no finite numbers (source), {target.broken} (target)"
        yield Finding(Level.TASK, ANSWERS, State.FAIL if target.broken else State.CONDITIONAL, told)


def _examples(state: State, reason: str) -> Finding:
    return Finding(Level.TASK, EXAMPLES, state, reason)
