"""A recipe in MindSpore: clipping, Adam and weight decay over tuples of tensors; runs in PyNative and in mindspore.jit.

The arithmetic is that of porting.model.update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mindspore as ms
from mindspore import ops

from porting.model.recipe import Recipe
from porting.model.update import Treatment, complements

# MindSpore carries no types.
Tensor = Any
Parameter = Any

# Maps over tuples, where a loop would be compiled as calls within calls, of which 1000 are allowed.
_MAP = ops.HyperMap()
_times = ops.MultitypeFuncGraph("times")
_square = ops.MultitypeFuncGraph("square")
_finite = ops.MultitypeFuncGraph("finite")


@dataclass(frozen=True, slots=True)
class Trained:
    """Parameters with their moments, each list in the same order."""

    weights: list[Parameter]
    m: list[Parameter]
    v: list[Parameter]
    treatments: list[Treatment]

    @classmethod
    def start(cls, weights: Sequence[Parameter], treatments: Sequence[Treatment]) -> Trained:
        """With moments of zero, named as mindspore.nn.AdamWeightDecay names them."""
        m, v = ([_moment(role, weight) for weight in weights] for role in ("adam_m", "adam_v"))
        return cls(list(weights), m, v, list(treatments))

    def only(self, chosen: Sequence[int]) -> Trained:
        """Those at these places."""
        weights, m, v = ([each[i] for i in chosen] for each in (self.weights, self.m, self.v))
        return Trained(weights, m, v, [self.treatments[i] for i in chosen])


def _moment(role: str, weight: Parameter) -> Parameter:
    return ms.Parameter(ops.zeros_like(weight), name=f"{role}.{weight.name}", requires_grad=False)


def _tensor_times(factor: Tensor, grad: Tensor) -> Tensor:
    return grad * factor


def _tensor_square(grad: Tensor) -> Tensor:
    return ops.square(grad).sum()


def _tensor_finite(grad: Tensor) -> Tensor:
    return ops.isfinite(grad).all()


_times.register("Tensor", "Tensor")(_tensor_times)
_square.register("Tensor")(_tensor_square)
_finite.register("Tensor")(_tensor_finite)


def finite(*grads: Tensor) -> Tensor:
    """Whether all elements of all gradients are: a bool of no axes."""
    return ops.stack(_MAP(_finite, grads)).all()


def updater(recipe: Recipe, trained: Trained, rows: Sequence[int]) -> Callable[..., Tensor]:
    """The function of one update by unclipped gradients, which gives the norm of all before clipping, and of each.

    Called with (numbers, *gradients, *gradients of gathered rows): tensors one by one, since mindspore.jit compiles
    anew for every value in a tuple; the numbers are those of porting.model.update.Rates and 1 / loss scale.
    rows: places of the parameters whose rows come, in their order; the norm counts the rows instead of the gradient.
    It is a closure over constants, because mindspore.jit compiles no methods of dataclasses.
    """
    weights, m, v = (ms.ParameterTuple(each) for each in (trained.weights, trained.m, trained.v))
    clip, adam, scaled_loss = _clipper(recipe), _adam(recipe), recipe.loss_scale.kind != "none"
    decays = tuple(float(treatment.decay) for treatment in trained.treatments)
    scales = tuple(float(treatment.scale) for treatment in trained.treatments)
    many = len(decays)
    counted = ms.Tensor([float(i not in rows) for i in range(many)] + [1.0] * len(rows), ms.float32)
    own = ms.Tensor([many + list(rows).index(i) if i in rows else i for i in range(many)], ms.int32)

    def update(numbers: Tensor, *tensors: Tensor) -> Tensor:
        slopes = _MAP(ops.partial(_times, numbers[3]), tensors) if scaled_loss else tensors
        squares = _MAP(_square, slopes)
        stacked = ops.stack(squares)
        norm = ops.sqrt((stacked * counted).sum())
        clips = clip(slopes[:many], squares[:many], norm)
        _MAP(ops.partial(adam, numbers[0], numbers[1], numbers[2]), decays, scales, weights, m, v, clips)
        return ops.cat((norm.reshape(1), ops.sqrt(stacked[own])))

    return update


def _clipper(recipe: Recipe) -> Callable[[Any, Any, Tensor], Any]:
    kind, limit, more = recipe.clip.kind, recipe.clip.norm, recipe.clip.epsilon

    def clip_by_own_norm(grad: Tensor, square: Tensor) -> Tensor:
        return grad * ops.minimum(limit / (ops.sqrt(square) + more), 1.0)

    each = ops.MultitypeFuncGraph("clip_by_own_norm")
    each.register("Tensor", "Tensor")(clip_by_own_norm)

    def clip(grads: Any, squares: Any, norm: Tensor) -> Any:
        if kind == "per_tensor":
            return _MAP(each, grads, squares)
        if kind == "global_norm":
            # norm - norm is NaN for an infinite norm: tf.clip_by_global_norm spoils all gradients then
            return _MAP(ops.partial(_times, ops.minimum(limit / (norm + more), 1.0) + (norm - norm)), grads)
        return grads

    return clip


def _adam(recipe: Recipe) -> Any:
    beta1, beta2, (first, second) = recipe.beta1, recipe.beta2, complements(recipe)
    corrected, adamw, on_gradient = (
        recipe.bias_correction,
        recipe.decay_form == "adamw",
        recipe.layer_decay_of == "gradient",
    )

    def adam_of_one(  # noqa: PLR0913, PLR0917 - a map passes what it maps by position
        lr: Tensor,
        factor: Tensor,
        epsilon: Tensor,
        decay: float,
        scale: float,
        weight: Parameter,
        m: Parameter,
        v: Parameter,
        grad: Tensor,
    ) -> bool:
        slope = grad * scale if on_gradient and scale != 1.0 else grad
        rate = lr if on_gradient or scale == 1.0 else lr * scale
        next_m = beta1 * m + first * slope
        next_v = beta2 * v + second * ops.square(slope)
        step = next_m / (ops.sqrt(next_v) + epsilon)
        if corrected:
            step = factor * step
        if adamw:
            next_weight = weight * (1.0 - rate * decay) - rate * step
        elif decay != 0.0:
            next_weight = weight - rate * (step + decay * weight)
        else:
            next_weight = weight - rate * step
        ops.assign(m, next_m)
        ops.assign(v, next_v)
        ops.assign(weight, next_weight)
        return True

    numbers, tensors = ("Number",) * 2, ("Tensor",) * 4
    adam = ops.MultitypeFuncGraph("adam")
    adam.register("Tensor", "Tensor", "Tensor", *numbers, *tensors)(adam_of_one)
    return adam
