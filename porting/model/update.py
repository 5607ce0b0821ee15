"""What the frameworks' optimizers share: the numbers of one update, and how each parameter is treated.

Every framework computes, in float32 and in this order,

    g = g * min(norm / (|g| + clip epsilon), 1)          over all, or each for itself; scaled by layer for XLNet
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    u = m / (sqrt(v) + epsilon)                          times `factor` where moments are corrected
    w = w - lr * (u + decay * w)                         decoupled
    w = w * (1 - lr * decay) - lr * u                    adamw

where the numbers that change from step to step are those of `Rates`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from porting.model.names import names_in
from porting.model.schedule import learning_rate

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from porting.model.recipe import LossScale, Recipe
    from porting.model.spec import Framework, ModelSpec


@dataclass(frozen=True, slots=True)
class Rates:
    """The numbers of one update, in float64.

    With t the update's number from 1, a corrected moment m / (1 - beta1^t) over sqrt(v / (1 - beta2^t)) + epsilon
    is `factor` * m / (sqrt(v) + `epsilon`), where factor = sqrt(1 - beta2^t) / (1 - beta1^t) and epsilon is
    multiplied by sqrt(1 - beta2^t), or not where it belongs to the raw moment (Kingma and Ba 2015, end of section 2).
    """

    lr: float
    factor: float
    epsilon: float


def rates(recipe: Recipe, step: int) -> Rates:
    """The numbers of update `step`, counted from 0."""
    lr = learning_rate(recipe.schedule, step)
    if not recipe.bias_correction:
        return Rates(lr, 1.0, recipe.epsilon)
    root = sqrt(1 - recipe.beta2 ** (step + 1))
    factor = root / (1 - recipe.beta1 ** (step + 1))
    return Rates(lr, factor, recipe.epsilon * (root if recipe.epsilon_with == "corrected" else 1.0))


def complements(recipe: Recipe) -> tuple[float, float]:
    """1 - beta1 and 1 - beta2, rounded as the recipe says."""
    if recipe.complement == "float64":
        return 1 - recipe.beta1, 1 - recipe.beta2
    one = np.float32(1)
    return float(one - np.float32(recipe.beta1)), float(one - np.float32(recipe.beta2))


@dataclass(frozen=True, slots=True)
class Treatment:
    """How a parameter is updated. decay: its weight decay. scale: of its layer, on gradient or rate."""

    decay: float
    scale: float = 1.0


def treatments(
    recipe: Recipe, spec: ModelSpec, framework: Framework, names: Collection[str]
) -> Mapping[str, Treatment]:
    """How each parameter is treated, by its name in the framework's dialect.

    Raises: UsageError if the recipe names a dialect that the family does not have.
    """
    if not recipe.excludes and not recipe.includes and recipe.layer_decay == 1:
        return dict.fromkeys(names, Treatment(recipe.weight_decay))
    named = names_in(spec.family, spec.dialects[framework], recipe.names_of, names)
    layers = 1 + max((one.layer for one in named.values() if one.layer is not None), default=0)
    made: dict[str, Treatment] = {}
    for name, one in named.items():
        kept = any(part in one.name for part in recipe.excludes) and not any(p in one.name for p in recipe.includes)
        scale = 1.0 if one.layer is None else recipe.layer_decay ** (layers - 1 - one.layer)
        made[name] = Treatment(0.0 if kept else recipe.weight_decay, scale)
    return made


@dataclass(frozen=True, slots=True)
class Scale:
    """A loss scale as it stands. good: steps without overflow since it last changed."""

    value: float
    good: int = 0

    @classmethod
    def start(cls, loss_scale: LossScale) -> Scale:
        """Before the first step."""
        return cls(1.0 if loss_scale.kind == "none" else loss_scale.scale)

    def after(self, loss_scale: LossScale, *, overflow: bool) -> Scale:
        """After a step: mindspore.nn.DynamicLossScaleUpdateCell, whose scale does not fall below 1."""
        if loss_scale.kind != "dynamic":
            return self
        if overflow:
            return Scale(max(self.value / loss_scale.factor, 1.0))
        if self.good + 1 >= loss_scale.window:
            return Scale(self.value * loss_scale.factor)
        return replace(self, good=self.good + 1)
