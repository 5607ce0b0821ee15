"""What one part of a diagnosis compares: a set of tensors of both sides, and what is open there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from porting.parity.bench import Chosen
from porting.parity.diagnosis import Mode, Place
from porting.parity.mistakes.mistake import Mistake
from porting.parity.noise import LIMIT, Noise
from porting.parity.state import Level
from porting.parity.variation import Tensors, Variation


@dataclass(frozen=True, slots=True)
class Stage:
    """One set of tensors of both sides: forced taps, gradients, what steps made.

    run: the reference's under variations. order: in which they are computed. levels: of the mistakes that show here.
    wavers: the first tap in which two equal runs of the target differ.
    """

    level: Level
    mode: Mode
    run: Callable[[Chosen], Tensors]
    noise: Noise
    target: Tensors
    order: tuple[str, ...]
    levels: tuple[Level, ...]
    wavers: str = ""

    def floors(self, name: str, held: Tensors) -> float:
        """How far the target is from what the reference holds."""
        return self.noise.floors(name, held.get(name), self.target.get(name))

    def deviating(self, held: Tensors) -> dict[str, float]:
        """Every place beyond the limit, in order, with its floors."""
        found = {name: self.floors(name, held) for name in self.order}
        return {name: floors for name, floors in found.items() if floors > LIMIT}

    def place(self, what: str, floors: float) -> Place:
        """A place that deviates."""
        reason = "" if what in self.target else f"the target has no {what}"
        return Place(self.level, what, self.mode, floors, LIMIT, reason)


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be explained: where the target is apart from what the reference holds.

    kept: the variations that made what it holds. deviating: places and floors; the first is the one to explain.
    """

    stage: Stage
    held: Tensors
    kept: Chosen
    deviating: dict[str, float]

    @property
    def what(self) -> str:
        """The first place."""
        return next(iter(self.deviating))

    @property
    def before(self) -> float:
        """Its floors."""
        return self.deviating[self.what]


@dataclass(frozen=True, slots=True)
class Trial:
    """One variation tried. after: floors at the place; explained: places that it brings within the limit; spoiled:
    those that it takes out of it; elsewhere: those of them that are of layers in which it explains nothing.
    """

    mistake: Mistake
    variation: Variation
    result: Tensors
    after: float
    explained: frozenset[str]
    spoiled: frozenset[str]
    elsewhere: frozenset[str]

    @property
    def score(self) -> int:
        """More is better. What it spoils in other layers does not count: the target may have it in some only."""
        return len(self.explained) - len(self.spoiled - self.elsewhere)
