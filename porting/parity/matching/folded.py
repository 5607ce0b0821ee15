"""Axes that are folded into one in another order: (channel row column) here, (row column channel) there.

A flattened image, and the kernel of the layer behind it, hold the same values in an order that no permutation of their
own axes gives. The axes that were folded are those of a tap before them, whose permutation is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from porting.parity.mapping import Ambiguous, Pairing
from porting.parity.matching.evidence import AGREE
from porting.parity.matching.permutation import Axes, distances
from porting.parity.matching.search import Search, summaries
from porting.parity.reader import Capture

OTHER_ORDER = 0.1
"""Relative distance, element by element, of tensors whose values agree as a whole: their order differs."""


@dataclass(frozen=True, slots=True)
class Fold:
    """shape: of the axes as the target folds them, outer first. axes: the order in which the source does."""

    shape: Axes
    axes: Axes


def folds(target: Capture, taps: Iterable[Pairing]) -> list[Fold]:
    """What may have been folded behind the batch axis: the target's taps, in the orders that its pairs need."""
    orders = {tuple(axis - 1 for axis in pair.axes[1:]) for pair in taps if pair.axes[:1] == (0,) and not pair.split}
    shapes = dict.fromkeys(summary.shape[1:] for summary in summaries(target, "taps").values())
    return [Fold(shape, order) for order in sorted(orders) for shape in shapes if len(shape) == len(order) > 1]


def unfolded(search: Search, pairs: Sequence[Pairing], known: Sequence[Fold]) -> Iterator[Pairing]:
    """The pairs, those with folded axes split; where the values agree and their order cannot be explained, none."""
    places = {search.named(0, i): (i, found.target) for i, (found, _) in search.pairs.items()}
    for pair in pairs:
        if not _shuffled(search, places[pair.source], pair):
            yield pair
            continue
        split = next(filter(None, (_split(search, places[pair.source], pair, fold) for fold in known)), None)
        if split is not None:
            yield split
            continue
        del search.pairs[places[pair.source][0]]
        reason = "the same values, in an order that no permutation of axes gives"
        search.ambiguous.append(Ambiguous(pair.source, (pair.target,), reason))


def _shuffled(search: Search, place: tuple[int, int], pair: Pairing) -> bool:
    """Whether the values agree as a whole, and not one by one."""
    summary = search.members[0][place[0]].summary
    values = search.values(*place)
    if values is None or not summary.shape or not summary.l2 or search.apart(*place) > AGREE:
        return False
    axes = pair.axes or tuple(range(len(summary.shape)))
    return bool(distances(*values, [axes])[0] > OTHER_ORDER)


def _split(search: Search, place: tuple[int, int], pair: Pairing, fold: Fold) -> Pairing | None:
    """The pair with an axis of the target split as the fold says, if the values agree then."""
    values = search.values(*place)
    size = prod(fold.shape)
    if values is None or size not in values[1].shape:
        return None
    source, target = values
    split, axes = _axes(target.shape, pair.axes or tuple(range(target.ndim)), target.shape.index(size), fold)
    laid = target.reshape(split).transpose(axes)
    if distances(source.reshape(laid.shape), laid, [tuple(range(laid.ndim))])[0] > OTHER_ORDER:
        return None
    return replace(pair, axes=axes, split=split, reason=f"{pair.reason}; an axis folds {list(fold.shape)}, by values")


def _axes(shape: Axes, axes: Axes, folded: int, fold: Fold) -> tuple[Axes, Axes]:
    """The target's shape with one axis split, and its permutation."""
    split: list[int] = []
    groups: list[Axes] = []
    for axis, size in enumerate(shape):
        inner = fold.shape if axis == folded else (size,)
        order = fold.axes if axis == folded else (0,)
        groups.append(tuple(len(split) + i for i in order))
        split.extend(inner)
    return tuple(split), tuple(place for axis in axes for place in groups[axis])
