"""Rows in which one tensor stands against several: which side is whole, and how the two are compared and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from porting.checkpoint.entry import TensorEntry
from porting.convert.proposal.axes import Order, agrees, arranged, orders
from porting.convert.proposal.labels import Tokens, axis_tokens
from porting.convert.proposal.patterns import Pattern
from porting.convert.proposal.search import Proposed, Search


@dataclass(frozen=True)
class Direction:
    """A search seen from the side that holds one tensor where the other holds several."""

    search: Search
    whole_is_a: bool

    @property
    def wholes(self) -> list[Pattern]:
        """Open patterns of the side that may hold one for several."""
        return self.search.a if self.whole_is_a else self.search.b

    @property
    def parts(self) -> list[Pattern]:
        """Open patterns of the other side."""
        return self.search.b if self.whole_is_a else self.search.a

    def orders(self, whole: Sequence[int], part: Sequence[int]) -> list[Order]:
        """Orders of axes that the shapes allow."""
        return list(orders(whole, part) if self.whole_is_a else orders(part, whole))

    def agree(self, whole: TensorEntry, part: TensorEntry, order: Order) -> bool:
        """Are they equal in this order?"""
        return agrees(whole, part, order) if self.whole_is_a else agrees(part, whole, order)

    def agreeing(self, pairs: Sequence[tuple[TensorEntry, TensorEntry]]) -> list[Order]:
        """Orders in which every whole equals its part; all wholes have one shape, and all parts."""
        left = self.orders(pairs[0][0].shape, pairs[0][1].shape)
        for whole, part in pairs:
            left = [order for order in left if self.agree(whole, part, order)]
        return left

    def tokens(self, whole: Sequence[int], part: Pattern, order: Order) -> tuple[Tokens, Tokens]:
        """Axes of the whole's cell (those of one part) and of the part's."""
        labels = self.search.labels.of(part.template)
        if self.whole_is_a:
            return axis_tokens(whole, part.shape, order, labels)
        two, one = axis_tokens(part.shape, whole, order, labels)
        return one, two

    def row(self, whole: str, part: str, counts: tuple[int, int]) -> Proposed:
        """The row of two cells; counts: tensors of the whole's side and of the part's."""
        if self.whole_is_a:
            return Proposed(whole, part, "values", counts)
        return Proposed(part, whole, "values", counts[::-1])

    def settle(self, wholes: Sequence[Pattern], parts: Sequence[Pattern], found: Sequence[Proposed]) -> None:
        """Take what was found, if anything was."""
        if found:
            a, b = (wholes, parts) if self.whole_is_a else (parts, wholes)
            self.search.settle(a, b, found, "the values agree in more than one way")


def taken(entry: TensorEntry, dims: Sequence[int], axis: int, at: int) -> TensorEntry:
    """The tensor, its axes cut to these sizes, at one place of an axis."""
    index = [at if i == axis else None for i in range(len(dims))]
    return arranged(entry, dims, range(len(dims) - 1), index)
