"""Lays every pair's target out like its source, and doubts the pair where nothing says how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from porting.parity.mapping import Ambiguous, Pairing
from porting.parity.matching.alignment import Aligned
from porting.parity.matching.permutation import Axes, Choice, choose, plain
from porting.parity.matching.search import Search, last_part

Chosen = Mapping[int, tuple[Aligned, str, Choice]]


def with_axes(search: Search) -> list[Pairing]:
    """Every pair with its permutation, where one is clear; the others become ambiguous."""
    chosen = {i: (found, why, _axes(search, found)) for i, (found, why) in sorted(search.pairs.items())}
    usual = _usual(search, chosen)
    pairs = []
    for i, (found, why, choice) in chosen.items():
        kind = _kind(search, found)
        expected = usual.get(kind)
        possible = {plain(option) for option in choice.options}
        axes = expected if choice.axes is None and expected in possible else choice.axes
        source, target = search.named(0, i), search.named(1, found.target)
        odd = search.part == "weights" and choice.by == "values" and expected not in (None, axes)
        if axes is None or odd:
            del search.pairs[i]
            search.ambiguous.append(Ambiguous(source, (target,), _unclear(choice.options, axes, expected)))
            continue
        reason = f"{why}; axes by {choice.by or 'those of the others of its kind'}" if axes else why
        pairs.append(Pairing(source, target, axes, round(found.confidence, 4), reason))
    return pairs


def _axes(search: Search, found: Aligned) -> Choice:
    a, b = (search.members[side][place].summary for side, place in enumerate((found.source, found.target)))
    return choose(a.shape, b.shape, search.values(found.source, found.target) if len(a.shape) > 1 else None)


def _kind(search: Search, found: Aligned) -> tuple[object, ...]:
    """Pairs of one kind are laid out alike: weights by the last parts of their names, taps by their number of axes."""
    rank = len(search.members[0][found.source].summary.shape)
    if search.part == "taps":
        return (rank,)
    return (rank, last_part(search.named(0, found.source)), last_part(search.named(1, found.target)))


def _usual(search: Search, chosen: Chosen) -> dict[tuple[object, ...], Axes]:
    """The permutation that most pairs of a kind have, of those whose shape leaves no choice; else of all."""
    counts: dict[tuple[object, ...], Counter[tuple[bool, Axes]]] = {}
    for found, _, choice in chosen.values():
        if choice.axes is not None:
            counts.setdefault(_kind(search, found), Counter())[choice.by == "shape", choice.axes] += 1
    return {kind: max(votes, key=lambda vote: (vote[0], votes[vote]))[1] for kind, votes in counts.items()}


def _unclear(options: Sequence[Axes], axes: Axes | None, expected: Axes | None) -> str:
    if axes is None:
        return f"axes: nothing decides between {' and '.join(map(str, map(list, options[:4])))}"
    return (
        f"axes: the values want {list(axes)}, all others of its kind {list(expected or ())}: "
        "it may have been left untransposed"
    )
