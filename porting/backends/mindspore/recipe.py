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


def finite(grads: Sequence[Tensor]) -> Tensor:
    """Whether all elements of all gradients are: a bool of no axes."""
    return ops.stack([ops.isfinite(grad).all() for grad in grads]).all()


def updater(recipe: Recipe, trained: Trained, rows: Sequence[int]) -> Callable[..., Tensor]:
    """The function of one update by unclipped gradients, which gives their norm before clipping.

    Called with (numbers, *gradients, *gradients of gathered rows): tensors one by one, since mindspore.jit compiles
    anew for every value in a tuple; the numbers are those of porting.model.update.Rates and 1 / loss scale.
    rows: for each parameter the place of its rows, which the norm counts instead of its gradient, or -1.
    It is a closure of plain functions and constants, because mindspore.jit compiles no methods of dataclasses.
    """
    weights, m, v = (ms.ParameterTuple(each) for each in (trained.weights, trained.m, trained.v))
    clip, scaled_loss = _clipper(recipe), recipe.loss_scale.kind != "none"
    adams = tuple(_adam(recipe, treatment) for treatment in trained.treatments)
    many = len(adams)
    counts = tuple(many + place if place >= 0 else i for i, place in enumerate(rows))

    def update(numbers: Tensor, *tensors: Tensor) -> Tensor:
        slopes: Any = ()
        counted: Any = ()
        for tensor in tensors:
            slopes += (tensor * numbers[3] if scaled_loss else tensor,)
        for at in counts:
            counted += (slopes[at],)
        clips, norm = clip(slopes[:many], counted)
        for i in range(many):
            adams[i](weights[i], m[i], v[i], clips[i], numbers)
        return norm

    return update


def _clipper(recipe: Recipe) -> Callable[[Any, Any], Any]:
    kind, limit, more = recipe.clip.kind, recipe.clip.norm, recipe.clip.epsilon

    def clip(grads: Any, counted: Any) -> Any:
        squares: Any = ()
        for count in counted:
            squares += (ops.square(count).sum(),)
        norm = ops.sqrt(ops.stack(squares).sum())
        clips = grads
        if kind == "per_tensor":
            clips = ()
            for i in range(len(grads)):
                clips += (grads[i] * ops.minimum(limit / (ops.sqrt(squares[i]) + more), 1.0),)
        if kind == "global_norm":
            # norm - norm is NaN for an infinite norm: tf.clip_by_global_norm spoils all gradients then
            factor = ops.minimum(limit / (norm + more), 1.0) + (norm - norm)
            clips = ()
            for grad in grads:
                clips += (grad * factor,)
        return clips, norm

    return clip


def _adam(recipe: Recipe, treatment: Treatment) -> Callable[..., None]:
    beta1, beta2, (first, second) = recipe.beta1, recipe.beta2, complements(recipe)
    decay, corrected, adamw = treatment.decay, recipe.bias_correction, recipe.decay_form == "adamw"
    on_gradient = treatment.scale if recipe.layer_decay_of == "gradient" else 1.0
    on_rate = treatment.scale if recipe.layer_decay_of == "rate" else 1.0

    def adam(weight: Any, m: Any, v: Any, slope: Tensor, numbers: Tensor) -> None:
        lr, factor, epsilon = numbers[0], numbers[1], numbers[2]
        slope = slope if on_gradient == 1.0 else slope * on_gradient
        rate = lr if on_rate == 1.0 else lr * on_rate
        next_m = beta1 * m + first * slope
        next_v = beta2 * v + second * ops.square(slope)
        step = next_m / (ops.sqrt(next_v) + epsilon)
        step = factor * step if corrected else step
        if adamw:
            next_weight = weight * (1.0 - rate * decay) - rate * step
        elif decay:
            next_weight = weight - rate * (step + decay * weight)
        else:
            next_weight = weight - rate * step
        ops.assign(m, next_m)
        ops.assign(v, next_v)
        ops.assign(weight, next_weight)

    return adam
