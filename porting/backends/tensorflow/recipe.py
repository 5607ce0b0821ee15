"""A recipe in TensorFlow: clipping, Adam and weight decay over lists of tensors; runs eagerly or in a tf.function.

The arithmetic is that of porting.model.update. A gathered table's gradient comes as IndexedSlices, as in the
originals, and its rows are summed before or after the norm as the recipe says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from porting.model.recipe import Clip, Recipe
from porting.model.update import Treatment, complements

# TensorFlow carries no types: a gradient is a Tensor or IndexedSlices, a variable a tf.Variable.
Grad = Any
Variable = Any
Tensor = Any


@dataclass(frozen=True, slots=True)
class Trained:
    """Parameters with their moments, each list in the same order."""

    weights: list[Variable]
    m: list[Variable]
    v: list[Variable]
    treatments: list[Treatment]

    @classmethod
    def start(cls, weights: Sequence[Variable], treatments: Sequence[Treatment]) -> Trained:
        """With moments of zero."""
        m, v = ([tf.Variable(tf.zeros_like(weight), trainable=False) for weight in weights] for _ in range(2))
        return cls(list(weights), m, v, list(treatments))


@dataclass(frozen=True, slots=True)
class Numbers:
    """porting.model.update.Rates as tensors, and what every gradient is multiplied by (1 / loss scale)."""

    lr: Tensor
    factor: Tensor
    epsilon: Tensor
    unscale: Tensor


def dense(grad: Grad) -> Tensor:
    """A gradient with the rows of a gathered table summed."""
    if not isinstance(grad, tf.IndexedSlices):
        return grad
    return tf.math.unsorted_segment_sum(grad.values, grad.indices, grad.dense_shape[0])


def values(grad: Grad) -> Tensor:
    """The numbers of a gradient: a gathered table's are its rows, one for every time that it was gathered."""
    return grad.values if isinstance(grad, tf.IndexedSlices) else grad


def times(grad: Grad, factor: Tensor) -> Grad:
    """A gradient times a number."""
    if isinstance(grad, tf.IndexedSlices):
        return tf.IndexedSlices(grad.values * factor, grad.indices, grad.dense_shape)
    return grad * factor


def finite(grads: Sequence[Grad]) -> Tensor:
    """Whether all elements of all gradients are: a bool of no axes."""
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(values(grad))) for grad in grads if grad is not None])


def clipped(clip: Clip, grads: Sequence[Grad]) -> tuple[list[Grad], Tensor]:
    """The gradients clipped, and the norms before: of all, and of each."""
    squares = tf.stack([tf.reduce_sum(tf.square(values(grad))) for grad in grads])
    norm = tf.sqrt(tf.reduce_sum(squares))
    norms = tf.concat([norm[None], tf.sqrt(squares)], 0)
    if clip.kind == "none":
        return list(grads), norms
    if clip.kind == "per_tensor":
        factors = tf.unstack(_factor(clip, tf.sqrt(squares)))
        return [times(grad, factor) for grad, factor in zip(grads, factors, strict=True)], norms
    # norm - norm is NaN for an infinite norm: tf.clip_by_global_norm spoils all gradients then, not only the infinite
    factor = _factor(clip, norm) + (norm - norm)
    return [times(grad, factor) for grad in grads], norms


def _factor(clip: Clip, norm: Tensor) -> Tensor:
    return tf.minimum(clip.norm / (norm + clip.epsilon), 1.0)


def update(recipe: Recipe, trained: Trained, grads: Sequence[Grad | None], numbers: Numbers) -> Tensor:
    """One update of weights and moments by unclipped gradients; the norm of all before clipping, and of each."""
    found = {i: grad for i, grad in enumerate(grads) if grad is not None}
    if recipe.loss_scale.kind != "none":
        found = {i: times(grad, numbers.unscale) for i, grad in found.items()}
    if recipe.clip.kind != "global_norm" or recipe.clip.rows == "summed":
        found = {i: dense(grad) for i, grad in found.items()}
    clips, norms = clipped(recipe.clip, list(found.values()))
    slopes = {i: dense(grad) for i, grad in zip(found, clips, strict=True)}
    if recipe.unused == "decayed":
        slopes |= {i: tf.zeros_like(trained.weights[i]) for i, grad in enumerate(grads) if grad is None}
    for i, slope in slopes.items():
        _adam(recipe, trained, i, slope, numbers)
    places = [[0], *([1 + i] for i in found)]
    return tf.scatter_nd(places, norms, [1 + len(grads)])


def _adam(recipe: Recipe, trained: Trained, at: int, slope: Tensor, numbers: Numbers) -> None:
    weight, m, v = trained.weights[at], trained.m[at], trained.v[at]
    treatment, lr = trained.treatments[at], numbers.lr
    if treatment.scale != 1 and recipe.layer_decay_of == "gradient":
        slope = slope * treatment.scale
    elif treatment.scale != 1:
        lr = lr * treatment.scale
    first, second = complements(recipe)
    m.assign(recipe.beta1 * m + first * slope)
    v.assign(recipe.beta2 * v + second * tf.square(slope))
    step = m / (tf.sqrt(v) + numbers.epsilon)
    if recipe.bias_correction:
        step = numbers.factor * step
    if recipe.decay_form == "adamw":
        weight.assign(weight * (1.0 - lr * treatment.decay) - lr * step)
    else:
        weight.assign(weight - lr * (step + treatment.decay * weight if treatment.decay else step))
