"""A training step as every framework makes it: scale, differentiate, check, update, adjust."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import SupportsFloat, TypeVar

from porting.backends.protocol import Array, Counters, StepResult
from porting.errors import UsageError
from porting.model.recipe import Recipe
from porting.model.update import Rates, Scale, rates

Grads = TypeVar("Grads")
Tensor = TypeVar("Tensor")


def moments_of(
    names: Iterable[str], m: Sequence[Tensor], v: Sequence[Tensor], read: Callable[[Tensor], Array]
) -> dict[str, dict[str, Array]]:
    """An optimizer's moments by role and parameter name. read: a tensor on the host."""
    names = tuple(names)
    roles = {"m": m, "v": v}
    return {role: {n: read(one) for n, one in zip(names, each, strict=True)} for role, each in roles.items()}


@dataclass(slots=True)
class Training:
    """How far a session has trained.

    steps: made, skipped ones too; the masks of dropout follow it. updates: made; the schedule follows it.
    """

    recipe: Recipe | None
    steps: int = 0
    updates: int = 0
    scale: Scale = field(init=False)

    def __post_init__(self) -> None:
        """Start at the recipe's scale."""
        self.scale = Scale(1.0) if self.recipe is None else Scale.start(self.recipe.loss_scale)

    def wanted(self) -> Recipe:
        """The recipe. Raises: UsageError if the session was opened without one."""
        if self.recipe is None:
            raise UsageError("a step needs a recipe: open the session with one")
        return self.recipe

    @property
    def counters(self) -> Counters:
        """As they stand."""
        return Counters(self.steps, self.updates, self.scale.value, self.scale.good)

    def resume(self, counters: Counters) -> None:
        """Set them. Raises: UsageError without a recipe."""
        self.wanted()
        self.steps, self.updates = counters.steps, counters.updates
        self.scale = Scale(counters.loss_scale, counters.good)

    def step(
        self,
        differentiate: Callable[[float], tuple[SupportsFloat, Grads]],
        finite: Callable[[Grads], bool],
        update: Callable[[Grads, Rates, float], Callable[[], Sequence[float]]],
    ) -> StepResult:
        """One step.

        differentiate: the loss, and the gradients of the loss times a scale. finite: whether all of those are.
        update: changes the weights by gradients, at rates, each gradient first times the number (1 / scale); gives what
        reads the norm of all gradients and those of each.
        Loss and norms become Python's numbers last, so that a device that works on its own is waited for once.
        """
        recipe, scale = self.wanted(), self.scale
        now = rates(recipe, self.updates)
        loss, grads = differentiate(scale.value)
        self.steps += 1
        overflow = recipe.loss_scale.kind != "none" and not finite(grads)
        self.scale = scale.after(recipe.loss_scale, overflow=overflow)
        if overflow:
            return StepResult(float(loss), now.lr, float("inf"), scale.value, overflow=True)
        norms = update(grads, now, 1 / scale.value)
        self.updates += 1
        value = float(loss)
        norm, *each = norms()
        return StepResult(value, now.lr, norm, scale.value, norms=tuple(each))
