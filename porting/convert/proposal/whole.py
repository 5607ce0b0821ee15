"""Patterns that match one to one: by their values, or where values do not help, by name and shape."""

from __future__ import annotations

from porting.convert.proposal.axes import Order, agrees, orders
from porting.convert.proposal.kinship import clear, closest, kinship
from porting.convert.proposal.patterns import Pattern
from porting.convert.proposal.search import Ambiguous, Search


def by_value(search: Search) -> None:
    """Patterns whose tensors hold the same elements, layer by layer, in whatever order of axes."""
    buckets: dict[object, tuple[list[Pattern], list[Pattern]]] = {}
    for side, patterns in enumerate((search.a, search.b)):
        for one in patterns:
            known = search.known(one)
            if known is not None:
                buckets.setdefault((one.counts, known), ([], []))[side].append(one)
    for ones, twos in buckets.values():
        if len(ones) == len(twos) == 1:
            found = [search.proposed(ones[0], twos[0], order, "values") for order in agreeing(ones[0], twos[0])]
            if found:
                search.settle(ones, twos, found, "the values agree in more than one order of axes")
        elif ones and twos:
            _equal_values(search, ones, twos)


def agreeing(a: Pattern, b: Pattern) -> list[Order]:
    """The orders of axes in which all tensors agree bit for bit."""
    left = list(orders(a.shape, b.shape))
    for one, two in zip(a.entries, b.entries, strict=True):
        left = [order for order in left if agrees(one, two, order)]
    return left


def _equal_values(search: Search, ones: list[Pattern], twos: list[Pattern]) -> None:
    """Several patterns of the same values (zero biases, tied copies): the likeliest by name, marked."""
    fits = {(id(a), id(b)): found for a in ones for b in twos if (found := agreeing(a, b))}

    def score(a: Pattern, b: Pattern) -> float | None:
        return kinship(a.template, b.template) if (id(a), id(b)) in fits else None

    pairs = closest(ones, twos, score)
    likeliest = {id(a): b for a, b in pairs}
    for a in ones:
        candidates = [b for b in twos if (id(a), id(b)) in fits]
        if not candidates:
            continue
        best = likeliest.get(id(a), candidates[0])
        options = tuple(search.proposed(a, best, order, "values") for order in fits[id(a), id(best)])
        others = tuple(b.template for b in candidates if b is not best)
        search.ambiguous.append(Ambiguous("equal values" if others else "equal values in a", options, others))
    done = {side for pair in fits for side in pair}
    search.done([one for one in ones if id(one) in done], [two for two in twos if id(two) in done])


def by_name(search: Search) -> None:
    """What values do not match: pairs of one shape whose names are alike beyond doubt, the rest as ambiguous."""
    possible = {
        (id(a), id(b)): list(orders(a.shape, b.shape)) for a in search.a for b in search.b if a.counts == b.counts
    }
    possible = {pair: found for pair, found in possible.items() if found}

    def score(a: Pattern, b: Pattern) -> float | None:
        return kinship(a.template, b.template) if (id(a), id(b)) in possible else None

    pairs = closest(search.a, search.b, score)
    for a, b in pairs:
        options = [search.proposed(a, b, order, "names") for order in possible[id(a), id(b)]]
        rivals = [one.template for one in search.b if one is not b and (id(a), id(one)) in possible]
        rivals_a = [one.template for one in search.a if one is not a and (id(one), id(b)) in possible]
        best = kinship(a.template, b.template)
        sure = clear(best, (kinship(a.template, one) for one in rivals))
        sure = sure and clear(best, (kinship(one, b.template) for one in rivals_a))
        if not sure:
            likely = sorted(rivals, key=lambda one: -kinship(a.template, one))
            search.ambiguous.append(
                Ambiguous("equal shapes, names alike, values differ", tuple(options), tuple(likely))
            )
        elif len(options) > 1:
            search.ambiguous.append(Ambiguous("square: no values decide about the order of axes", tuple(options)))
        else:
            search.rows.append(options[0])
    search.done([a for a, _ in pairs], [b for _, b in pairs])
