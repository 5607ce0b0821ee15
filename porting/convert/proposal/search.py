"""The state of a search for rows: what is matched, what is open, and what is left on either side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from porting.convert.proposal.axes import Order
from porting.convert.proposal.fingerprint import Fingerprint
from porting.convert.proposal.labels import Labels, axis_tokens, cell_text
from porting.convert.proposal.patterns import Pattern

Evidence = Literal["values", "names"]


@dataclass(frozen=True, slots=True)
class Proposed:
    """A row. a, b: cells in the notation. evidence: equal values, or only names and shapes. tensors: of a and of b."""

    a: str
    b: str
    evidence: Evidence
    tensors: tuple[int, int]

    def text(self, names: tuple[str, str] = ("a", "b")) -> str:
        """As a table has it; names: of the two dialects."""
        return f'row({names[0]}="{self.a}", {names[1]}="{self.b}"),'


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Rows between which nothing decides. options: the likeliest by name. others: further candidates in b."""

    reason: str
    options: tuple[Proposed, ...]
    others: tuple[str, ...] = ()


@dataclass
class Search:
    """Patterns of both sides that no row accounts for yet, and the rows so far."""

    a: list[Pattern]
    b: list[Pattern]
    prints: Mapping[int, tuple[Fingerprint | None, ...]]
    labels: Labels
    rows: list[Proposed] = field(default_factory=list)
    ambiguous: list[Ambiguous] = field(default_factory=list)

    def known(self, one: Pattern) -> tuple[Fingerprint, ...] | None:
        """Fingerprints of all its tensors; None if one has none."""
        found = self.prints[id(one)]
        return tuple(p for p in found if p is not None) if None not in found else None

    def proposed(self, a: Pattern, b: Pattern, order: Order, evidence: Evidence) -> Proposed:
        """The row for two patterns in this order of axes."""
        one, two = axis_tokens(a.shape, b.shape, order, self.labels.of(a.template, b.template))
        counts = (len(a.entries), len(b.entries))
        return Proposed(cell_text(a.template, one), cell_text(b.template, two), evidence, counts)

    def settle(self, a: Sequence[Pattern], b: Sequence[Pattern], found: Sequence[Proposed], reason: str) -> None:
        """One row is taken, several are ambiguous for that reason; the patterns are done with either way."""
        if len(found) == 1:
            self.rows.append(found[0])
        else:
            self.ambiguous.append(Ambiguous(reason, tuple(found)))
        self.done(a, b)

    def done(self, a: Sequence[Pattern], b: Sequence[Pattern]) -> None:
        """Take patterns off the lists."""
        gone = {id(one) for one in (*a, *b)}
        self.a = [one for one in self.a if id(one) not in gone]
        self.b = [one for one in self.b if id(one) not in gone]
