"""Which tensor of one capture is which of another, where names and layouts are each framework's own.

`propose_mapping` aligns the taps of two captures in the order of execution, by shape, values, names and by the weights
of their modules, and the weights likewise. What nothing decides is ambiguous, and stays open until the user decides it
in the file (`porting.parity.mapping_file`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from porting.errors import UsageError

Part = Literal["taps", "weights"]
Side = Literal["source", "target"]

PARTS: tuple[Part, ...] = ("taps", "weights")
SIDES: tuple[Side, Side] = ("source", "target")


@dataclass(frozen=True, slots=True)
class Pairing:
    """A tensor of the source and the one of the target that it is to be compared with.

    axes: `target.transpose(axes)` lies like the source; () where it does as it is. split: the shape that the target is
    given before that, where it has several axes folded into one in another order than the source; the source is then
    compared with its axes split likewise. () where nothing is split.
    confidence: 0 to 1, against all other partners of either and against none. reason: what speaks for it.
    """

    source: str
    target: str
    axes: tuple[int, ...] = ()
    confidence: float = 1.0
    reason: str = ""
    split: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Tensors between which nothing decides. Not compared until somebody pairs them."""

    source: str
    targets: tuple[str, ...]
    reason: str

    def names(self, side: Side) -> tuple[str, ...]:
        """Those of one side."""
        return (self.source,) if side == "source" else self.targets


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A tensor without a partner that needs none, for a reason: a list of modules gives what its last one gives."""

    side: Side
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Matched:
    """The taps, or the weights, of two captures. unmatched: names without a partner, by side; never a pass."""

    pairs: tuple[Pairing, ...] = ()
    ambiguous: tuple[Ambiguous, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    unmatched: Mapping[Side, tuple[str, ...]] = field(default_factory=dict)

    def decided(self, side: Side) -> list[str]:
        """Every name of a side, as often as something is decided about it."""
        pairs = [pair.source if side == "source" else pair.target for pair in self.pairs]
        left_out = [one.name for one in self.left_out if one.side == side]
        return [*pairs, *left_out, *self.unmatched.get(side, ())]

    def names(self, side: Side) -> tuple[str, ...]:
        """Every name of a side, once."""
        doubtful = (name for one in self.ambiguous for name in one.names(side))
        return tuple(dict.fromkeys((*self.decided(side), *doubtful)))


@dataclass(frozen=True, slots=True)
class Correspondence:
    """A mapping between two captures. source, target: what they are of (`Net in torch:cpu`), for people."""

    source: str
    target: str
    taps: Matched
    weights: Matched

    def part(self, part: Part) -> Matched:
        """The taps or the weights."""
        return self.taps if part == "taps" else self.weights

    @property
    def settled(self) -> bool:
        """Whether nothing is ambiguous and nothing without a partner."""
        return not any(one.ambiguous or any(one.unmatched.values()) for one in (self.taps, self.weights))


def leave_out(mapping: Correspondence, part: Part, side: Side, names: Iterable[str], reason: str) -> Correspondence:
    """Decide that these need no partner, for a reason. Pairs and ambiguities that they stand in are given up.

    Raises: UsageError for a name that the mapping does not have, or without a reason.
    """
    matched, gone = mapping.part(part), tuple(names)
    missing = [name for name in gone if name not in matched.names(side)]
    if missing or not reason.strip():
        raise UsageError(f"{part}: the {side} has no {', '.join(missing)}" if missing else "leave_out wants a reason")
    rest = Matched(
        tuple(pair for pair in matched.pairs if getattr(pair, side) not in gone),
        tuple(one for one in matched.ambiguous if not set(one.names(side)) & set(gone)),
        (*matched.left_out, *(LeftOut(side, name, reason) for name in gone)),
    )
    whole = completed(rest, {each: matched.names(each) for each in SIDES})
    return replace(mapping, taps=whole) if part == "taps" else replace(mapping, weights=whole)


def completed(matched: Matched, known: Mapping[Side, Iterable[str]]) -> Matched:
    """With every known name that nothing is said of among the unmatched."""
    unmatched: dict[Side, tuple[str, ...]] = {}
    for side in SIDES:
        told = set(matched.names(side))
        unmatched[side] = (*matched.unmatched.get(side, ()), *(name for name in known[side] if name not in told))
    return replace(matched, unmatched=unmatched)
