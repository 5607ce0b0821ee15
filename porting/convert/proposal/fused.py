"""Query, key and value in one tensor on one side, apart on the other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from porting.convert.proposal.axes import Order
from porting.convert.proposal.direction import Direction, taken
from porting.convert.proposal.fingerprint import total
from porting.convert.proposal.labels import Tokens, cell_text
from porting.convert.proposal.patterns import Pattern
from porting.convert.proposal.search import Proposed, Search

MOST_KIN = 8
"""Parts among which those of a fused tensor are looked for."""


@dataclass(frozen=True)
class Kin:
    """Patterns of one shape whose names differ in one word. around: what stands before and after it."""

    members: tuple[Pattern, ...]
    words: tuple[str, ...]
    around: tuple[str, str]

    def template(self, words: Sequence[str]) -> str:
        """One name for all of them, the word as a field of these values."""
        return f"{self.around[0]}{{part[{' '.join(words)}]}}{self.around[1]}"


@dataclass(frozen=True)
class _Way:
    """How an axis of the whole may hold the parts.

    dims: the whole's sizes with that axis taken apart. at: where among them the parts are counted.
    text: of the axis in the cell; `{}` is the label of what is left of it.
    """

    dims: tuple[int, ...]
    axis: int
    at: int
    text: str

    @property
    def rest(self) -> tuple[int, ...]:
        """The sizes of one part."""
        return self.dims[: self.at] + self.dims[self.at + 1 :]

    def tokens(self, part: Tokens) -> Tokens:
        """The whole's axes from those of one part."""
        if "{}" not in self.text:
            return (*part[: self.axis], self.text, *part[self.axis :])
        return (*part[: self.axis], self.text.format(part[self.axis].strip("()")), *part[self.axis + 1 :])


def by_fusion(search: Search) -> None:
    """Fused tensors in both directions."""
    for direction in (Direction(search, whole_is_a=True), Direction(search, whole_is_a=False)):
        for whole in direction.wholes:
            fits = [kin for family in _kinships(direction.parts) for kin in _choices(search, whole, family)]
            if len(fits) == 1:
                direction.settle([whole], fits[0].members, list(_fusions(direction, whole, fits[0])))


def _kinships(patterns: Sequence[Pattern]) -> list[Kin]:
    found: dict[tuple[str, str], dict[object, list[tuple[str, Pattern]]]] = {}
    for one in patterns:
        words = re.split(r"([./_])", one.template)
        for i in range(0, len(words), 2):
            if words[i] and "{" not in words[i]:
                around = ("".join(words[:i]), "".join(words[i + 1 :]))
                alike = (one.counts, one.shape, one.dtype)
                found.setdefault(around, {}).setdefault(alike, []).append((words[i], one))
    return [
        Kin(tuple(one for _, one in members), tuple(word for word, _ in members), around)
        for around, kinds in found.items()
        for members in kinds.values()
        if 2 <= len(members) <= MOST_KIN
    ]


def _choices(search: Search, whole: Pattern, kin: Kin) -> Iterator[Kin]:
    """As many of them as fill the whole, if they hold its elements in every layer."""
    want, first = search.known(whole), kin.members[0]
    if want is None or (whole.counts, whole.dtype) != (first.counts, first.dtype):
        return
    many, rest = divmod(whole.entries[0].elements, first.entries[0].elements or 1)
    if rest or not 2 <= many <= len(kin.members):
        return
    for chosen in combinations(range(len(kin.members)), many):
        members = tuple(kin.members[i] for i in chosen)
        prints = [known for one in members if (known := search.known(one)) is not None]
        if len(prints) == many and [total(layer) for layer in zip(*prints, strict=True)] == list(want):
            yield Kin(members, tuple(kin.words[i] for i in chosen), kin.around)


def _fusions(direction: Direction, whole: Pattern, kin: Kin) -> Iterator[Proposed]:
    """Every way in which the values agree, with the order of the parts that they show."""
    part = kin.members[0].shape
    counts = (len(whole.entries), len(kin.members) * len(whole.entries))
    for way in _ways(whole.shape, len(kin.members)):
        for order in direction.orders(way.rest, part):
            words = _assigned(direction, whole, kin, way, order)
            if words is not None:
                one, two = direction.tokens(way.rest, kin.members[0], order)
                yield direction.row(
                    cell_text(whole.template, way.tokens(one)), cell_text(kin.template(words), two), counts
                )


def _ways(shape: tuple[int, ...], many: int) -> Iterator[_Way]:
    for axis, size in enumerate(shape):
        before, after = shape[:axis], shape[axis + 1 :]
        if size == many:
            yield _Way(shape, axis, axis, "part")
        elif size % many == 0:
            yield _Way((*before, many, size // many, *after), axis, axis, "(part {})")
            yield _Way((*before, size // many, many, *after), axis, axis + 1, "({} part)")


def _assigned(direction: Direction, whole: Pattern, kin: Kin, way: _Way, order: Order) -> list[str] | None:
    """The word of each part in the order in which the whole has them; None unless values tell exactly one for each."""
    words: list[str] = []
    for i in range(len(kin.members)):
        cut = [taken(entry, way.dims, way.at, i) for entry in whole.entries]
        fits = [
            word
            for word, member in zip(kin.words, kin.members, strict=True)
            if all(direction.agree(one, two, order) for one, two in zip(cut, member.entries, strict=True))
        ]
        if len(fits) != 1:
            return None
        words += fits
    return words if len(set(words)) == len(words) else None
