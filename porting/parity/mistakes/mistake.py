"""What a known mistake is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from porting.parity.state import Level
from porting.parity.variation import Case, Variation


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake that ports are known to make.

    name: as reports give it. what: one sentence. level: the first at which it shows. forms: the ways to make it in one
    model, derived from its config, weights, batch and taps; none where it cannot be made there. alike: mistakes of one
    class are told apart only by where they show. rounding: whether it is one of precision, whose results differ in
    rounding whenever sums are ordered otherwise, so that it cannot fall within a floor of exact arithmetic. chance:
    whether two runs of it differ.
    """

    name: str
    what: str
    level: Level
    forms: Callable[[Case], Iterable[Variation]]
    alike: str = ""
    rounding: bool = False
    chance: bool = False
