"""One tensor on one side and one per layer on the other: stacked, or shared by all layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from porting.convert.proposal.direction import Direction, taken
from porting.convert.proposal.fingerprint import Fingerprint, total
from porting.convert.proposal.labels import cell_text
from porting.convert.proposal.patterns import Pattern, field_name
from porting.convert.proposal.search import Proposed, Search

Fits = Callable[[Fingerprint, tuple[Fingerprint, ...]], bool]


def by_layers(search: Search) -> None:
    """Both kinds, in both directions."""
    for direction in (Direction(search, whole_is_a=True), Direction(search, whole_is_a=False)):
        for whole, part in _pairs(direction, lambda one, many: one == total(many)):
            direction.settle([whole], [part], list(_stacked(direction, whole, part)))
        for whole, part in _pairs(direction, lambda one, many: all(one == other for other in many)):
            direction.settle([whole], [part], list(_shared(direction, whole, part)))


def _pairs(direction: Direction, fits: Fits) -> list[tuple[Pattern, Pattern]]:
    """Single tensors and layered patterns that fit each other and nothing else."""
    known = direction.search.known
    single = [(one, prints[0]) for one in direction.wholes if not one.counts and (prints := known(one))]
    layered = [(one, prints) for one in direction.parts if len(one.counts) == 1 and (prints := known(one))]
    return _only([(whole, part) for whole, one in single for part, many in layered if fits(one, many)])


def _only(found: Sequence[tuple[Pattern, Pattern]]) -> list[tuple[Pattern, Pattern]]:
    ones, twos = [id(a) for a, _ in found], [id(b) for _, b in found]
    return [(a, b) for a, b in found if ones.count(id(a)) == twos.count(id(b)) == 1]


def _stacked(direction: Direction, whole: Pattern, part: Pattern) -> Iterator[Proposed]:
    """A layer axis on one side, a field on the other."""
    layers = len(part.entries)
    for axis, size in enumerate(whole.shape):
        if size != layers:
            continue
        cut = [taken(whole.entries[0], whole.shape, axis, i) for i in range(layers)]
        for order in direction.agreeing(list(zip(cut, part.entries, strict=True))):
            one, two = direction.tokens(cut[0].shape, part, order)
            stacked = (*one[:axis], field_name(0), *one[axis:])
            yield direction.row(cell_text(whole.template, stacked), cell_text(part.template, two), (1, layers))


def _shared(direction: Direction, whole: Pattern, part: Pattern) -> Iterator[Proposed]:
    """One for all layers on one side, a copy per layer on the other."""
    for order in direction.agreeing([(whole.entries[0], entry) for entry in part.entries]):
        one, two = direction.tokens(whole.shape, part, order)
        counts = (1, len(part.entries))
        yield direction.row(cell_text(whole.template, one), cell_text(part.template, two), counts)
