# ruff: noqa: SLF001 - torch has no public name for the operators over lists that torch.optim runs on
"""A recipe in PyTorch: clipping, Adam and weight decay over lists of tensors.

The arithmetic is that of porting.model.update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from porting.model.recipe import Clip, Recipe
from porting.model.update import Rates, Treatment, complements

Tensors = Sequence[torch.Tensor]


@dataclass(frozen=True, slots=True)
class Trained:
    """Parameters with their moments, each list in the same order."""

    weights: list[torch.Tensor]
    m: list[torch.Tensor]
    v: list[torch.Tensor]
    treatments: list[Treatment]

    @classmethod
    def start(cls, weights: Tensors, treatments: Sequence[Treatment]) -> Trained:
        """With moments of zero."""
        m, v = ([torch.zeros_like(weight, requires_grad=False) for weight in weights] for _ in range(2))
        return cls(list(weights), m, v, list(treatments))

    def only(self, chosen: Sequence[int]) -> Trained:
        """Those at these places."""
        if len(chosen) == len(self.weights):
            return self
        return Trained(
            [self.weights[i] for i in chosen],
            [self.m[i] for i in chosen],
            [self.v[i] for i in chosen],
            [self.treatments[i] for i in chosen],
        )


def finite(grads: Tensors) -> torch.Tensor:
    """Whether all elements of all gradients are: a bool of no axes."""
    return torch.stack([grad.isfinite().all() for grad in grads]).all()


def scaled(grads: Tensors, factor: float) -> list[torch.Tensor]:
    """Gradients times a number."""
    return list(grads) if factor == 1 or not grads else list(torch._foreach_mul(list(grads), factor))


def clipped(clip: Clip, grads: Tensors, counted: Tensors) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The gradients clipped, and their norm before.

    counted: what the norm is taken of: the gradients, or gathered rows in the place of a table's.
    """
    norms = torch.stack(list(torch._foreach_norm(list(counted))))
    norm = torch.linalg.vector_norm(norms)
    if clip.kind == "none":
        return list(grads), norm
    if clip.kind == "per_tensor":
        factors = _factor(clip, norms).unbind()
        return list(torch._foreach_mul(list(grads), list(factors))), norm
    # norm - norm is NaN for an infinite norm: tf.clip_by_global_norm spoils all gradients then, not only the infinite
    return list(torch._foreach_mul(list(grads), _factor(clip, norm) + (norm - norm))), norm


def _factor(clip: Clip, norm: torch.Tensor) -> torch.Tensor:
    return torch.clamp(clip.norm / (norm + clip.epsilon), max=1.0)


@torch.no_grad()
def changed(
    recipe: Recipe,
    rates: Rates,
    trained: Trained,
    grads: Sequence[torch.Tensor | None],
    rows: Mapping[int, torch.Tensor],
    unscale: float,
) -> torch.Tensor:
    """One update of weights and moments, in place, by unclipped gradients; their norm before clipping.

    grads: None for parameters that the loss does not reach. rows: by a table's place its gathered rows' gradient, which
    the norm counts in its place. unscale: 1 / loss scale, a factor of both.
    """
    if recipe.unused == "decayed":
        pairs = zip(trained.weights, grads, strict=True)
        grads = [torch.zeros_like(weight) if grad is None else grad for weight, grad in pairs]
    reached = [i for i, grad in enumerate(grads) if grad is not None]
    slopes = scaled([grad for grad in grads if grad is not None], unscale)
    apart = dict(zip(rows, scaled(list(rows.values()), unscale), strict=True))
    counted = [apart.get(i, slope) for i, slope in zip(reached, slopes, strict=True)]
    slopes, norm = clipped(recipe.clip, slopes, counted)
    update(recipe, rates, trained.only(reached), slopes)
    return norm


def update(recipe: Recipe, rates: Rates, trained: Trained, grads: Tensors) -> None:
    """One update of weights and moments, in place, by clipped gradients."""
    scales = [treatment.scale for treatment in trained.treatments]
    slopes = list(grads)
    lrs = [rates.lr] * len(slopes)
    if recipe.layer_decay != 1 and recipe.layer_decay_of == "gradient":
        slopes = list(torch._foreach_mul(slopes, scales))
    elif recipe.layer_decay != 1:
        lrs = [rates.lr * scale for scale in scales]
    first, second = complements(recipe)
    torch._foreach_mul_(trained.m, recipe.beta1)
    torch._foreach_add_(trained.m, slopes, alpha=first)
    torch._foreach_mul_(trained.v, recipe.beta2)
    torch._foreach_addcmul_(trained.v, slopes, slopes, value=second)
    updates = torch._foreach_sqrt(trained.v)
    torch._foreach_add_(updates, rates.epsilon)
    updates = torch._foreach_div(trained.m, updates)
    if recipe.bias_correction:
        torch._foreach_mul_(updates, rates.factor)
    _apply(recipe, trained, list(updates), lrs)


def _apply(recipe: Recipe, trained: Trained, updates: list[torch.Tensor], lrs: list[float]) -> None:
    decays = [treatment.decay for treatment in trained.treatments]
    if recipe.decay_form == "adamw":
        torch._foreach_mul_(trained.weights, [1 - lr * decay for lr, decay in zip(lrs, decays, strict=True)])
    else:
        decayed = [i for i, decay in enumerate(decays) if decay]
        if decayed:
            terms = torch._foreach_mul([trained.weights[i] for i in decayed], [decays[i] for i in decayed])
            torch._foreach_add_([updates[i] for i in decayed], terms)
    torch._foreach_mul_(updates, lrs)
    torch._foreach_sub_(trained.weights, updates)
