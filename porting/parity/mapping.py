"""Which tensor of one capture is which of another, where names and layouts are each framework's own.

`propose_mapping` aligns the taps of two captures in the order of execution, by shape, values, names and by the weights of their
modules, and the weights likewise. What nothing decides is ambiguous, and stays open until the user decides
it in the file (`porting.parity.mapping_file`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Part = Literal["taps", "weights"]
Side = Literal["source", "target"]

PARTS: tuple[Part, ...] = ("taps", "weights")


@dataclass(frozen=True, slots=True)
class Pairing:
    """A tensor of the source and the one of the target that it is to be compared with.

    axes: `target.transpose(axes)` lies like the source; () where it does as it is.
    confidence: 0 to 1, against all other partners of either and against none. reason: what speaks for it.
    """

    source: str
    target: str
    axes: tuple[int, ...] = ()
    confidence: float = 1.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Tensors between which nothing decides. Not compared until somebody pairs them."""

    source: str
    targets: tuple[str, ...]
    reason: str


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
