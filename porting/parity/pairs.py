"""What of two captures is compared with what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from porting.parity.capture import Section, Summary
from porting.parity.reader import Capture
from porting.parity.state import Level

LEVELS: Mapping[Section, Level] = {
    "weights": Level.WEIGHTS,
    "forward": Level.FORWARD,
    "forced": Level.FORWARD,
    "gradients": Level.BACKWARD,
    "step.weights": Level.STEP,
    "step.m": Level.STEP,
    "step.v": Level.STEP,
}

MODES: Mapping[Section, str] = {"forward": "free", "forced": "forced"}


@dataclass(frozen=True, slots=True)
class Pair:
    """One tensor on both sides; None where a side has none.

    section: of the target; the source of a forced tap is its free-running one, by whose inputs it was made.
    """

    section: Section
    name: str
    source: Summary | None
    target: Summary | None

    @property
    def level(self) -> Level:
        """The level it belongs to."""
        return LEVELS[self.section]

    @property
    def mode(self) -> str:
        """`free` or `forced` for taps, empty for all others."""
        return MODES.get(self.section, "")


def pairs_of(source: Capture, target: Capture) -> list[Pair]:
    """All that either side has, in the order of computation: that of the source, then what only the target has.

    A tap's free-running value stands before its forced one. Forced taps are those of the target; the source's own
    were made from some other capture's inputs.
    """
    found = list(_section(source, target, "weights"))
    forced = target.section("forced")
    taps = source.section("forward")
    for pair in _section(source, target, "forward"):
        found.append(pair)
        if pair.name in forced:
            found.append(Pair("forced", pair.name, taps.get(pair.name), forced.pop(pair.name)))
    found += [Pair("forced", name, taps.get(name), summary) for name, summary in forced.items()]
    for section in ("gradients", "step.weights", "step.m", "step.v"):
        found += _section(source, target, section)
    return found


def _section(source: Capture, target: Capture, section: Section) -> Iterator[Pair]:
    ours, theirs = source.section(section), target.section(section)
    for name in dict.fromkeys((*ours, *theirs)):
        yield Pair(section, name, ours.get(name), theirs.get(name))
