"""A distillation's session as its training states see it: without the teacher, which does not change."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Batch, Counters, Session, StepResult


@dataclass(frozen=True, slots=True)
class Taught:
    """A session whose weights are those that are trained: states and the best hold the student only.

    See porting.backends.protocol.Session. whole: the session with its teacher, which this one trains.
    """

    whole: Session

    @property
    def parameters(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of what is trained."""
        shapes = self.whole.parameters
        return {name: shapes[name] for name in self.whole.trainable}

    @property
    def trainable(self) -> tuple[str, ...]:
        """All that it shows."""
        return self.whole.trainable

    def load(self, tensors: Mapping[str, Array]) -> None:
        """Set what is trained; the teacher stays. Raises: MismatchError."""
        trained = frozenset(self.trainable)
        kept = {name: tensor for name, tensor in self.whole.weights().items() if name not in trained}
        self.whole.load({**kept, **tensors})

    def weights(self) -> dict[str, Array]:
        """What is trained, as it is now."""
        found = self.whole.weights()
        return {name: found[name] for name in self.trainable}

    def forward(
        self, batch: Batch, taps: Collection[str] = (), given: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Of the whole net."""
        return self.whole.forward(batch, taps, given)

    def gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """Of the whole net, whose teacher has none."""
        return self.whole.gradients(batch)

    def step(self, batch: Batch) -> StepResult:
        """One step of the student."""
        return self.whole.step(batch)

    def slots(self) -> dict[str, dict[str, Array]]:
        """Of what is trained."""
        return self.whole.slots()

    def counters(self) -> Counters:
        """How far it has trained."""
        return self.whole.counters()

    def resume(self, counters: Counters, slots: Mapping[str, Mapping[str, Array]]) -> None:
        """Go on where another stood. Raises: MismatchError."""
        self.whole.resume(counters, slots)
