"""The state of a search for pairs: both sides, and what is decided so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from porting.parity.capture import Section, Summary
from porting.parity.mapping import Ambiguous, Part
from porting.parity.matching.alignment import Aligned
from porting.parity.matching.evidence import Member, distance
from porting.parity.reader import Capture

SECTION: Mapping[Part, Section] = {"taps": "forward", "weights": "weights"}


def summaries(capture: Capture, part: Part) -> dict[str, Summary]:
    """The summaries of a part by name, in order."""
    section = SECTION[part]
    return {name: one for (where, name), one in capture.summaries.items() if where == section}


@dataclass(slots=True)
class Search:
    """Both sides of one part, and what is decided so far. Places are indices into `members`."""

    part: Part
    captures: tuple[Capture, Capture]
    members: tuple[list[Member], list[Member]]
    pairs: dict[int, tuple[Aligned, str]]
    ambiguous: list[Ambiguous]

    def open(self, side: int) -> list[int]:
        """What has no partner yet."""
        paired = {found.target if side else i for i, (found, _) in self.pairs.items()}
        return [i for i in range(len(self.members[side])) if i not in paired]

    def named(self, side: int, place: int) -> str:
        """The name of a member."""
        return self.members[side][place].name

    def values(self, source: int, target: int) -> tuple[Any, Any] | None:
        """Both tensors, where both are stored."""
        section = SECTION[self.part]
        a, b = (
            capture.tensor(section, self.named(side, place))
            for side, (capture, place) in enumerate(zip(self.captures, (source, target), strict=True))
        )
        return None if a is None or b is None else (a, b)

    def apart(self, source: int, target: int, *, scale: bool = False) -> float:
        """Distance of the values of two members."""
        a, b = self.members[0][source].summary, self.members[1][target].summary
        return float(distance([a], [b], scale=scale)[0, 0])


def last_part(weight: str) -> str:
    """What a weight is called within its module."""
    return weight[max(weight.rfind("."), weight.rfind("/")) + 1 :]
