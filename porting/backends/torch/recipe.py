# ruff: noqa: SLF001 - torch has no public name for the operators over lists that torch.optim runs on
"""A recipe in PyTorch: clipping, Adam and weight decay over lists of tensors.

The arithmetic is that of porting.model.update.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from porting.model.recipe import Clip, Recipe
from porting.model.update import Rates, Treatment, complements

Tensors = Sequence[torch.Tensor]
Span = tuple[int, slice]
"""A parameter's place, and a part of its elements."""

_CACHED = 1 << 18
"""Elements that an update goes over at once on a CPU: 1 MiB each of weights, moments and gradients."""


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

    def pieces(self, spans: Sequence[Span]) -> Trained:
        """Parts of them, as vectors of the same memory."""
        weights, m, v = ([each[i].view(-1)[part] for i, part in spans] for each in (self.weights, self.m, self.v))
        return Trained(weights, m, v, [self.treatments[i] for i, _ in spans])


def finite(grads: Tensors) -> torch.Tensor:
    """Whether all elements of all gradients are: a bool of no axes."""
    return torch.stack([grad.isfinite().all() for grad in grads]).all()


def clipping(clip: Clip, counted: Tensors) -> tuple[list[torch.Tensor], torch.Tensor]:
    """What to multiply each gradient by, no axes each, nothing where there is no clipping; the norm of all and of each.

    counted: what the norm is taken of: the gradients, or gathered rows in the place of a table's.
    """
    norms = torch.stack(_norms(counted))
    norm = torch.linalg.vector_norm(norms)
    found = torch.cat([norm[None], norms])
    if clip.kind == "none":
        return [], found
    if clip.kind == "per_tensor":
        return list(_factor(clip, norms).unbind()), found
    # norm - norm is NaN for an infinite norm: tf.clip_by_global_norm spoils all gradients then, not only the infinite
    return [_factor(clip, norm) + (norm - norm)] * len(counted), found


def _norms(tensors: Tensors) -> list[torch.Tensor]:
    """The euclidean norm of each, no axes.

    On a CPU PyTorch adds up the squares one after the other: 3e-4 too little for ten million of them, which would clip
    by so much less. The norm of the norms of pieces is right to 1e-7, and takes a quarter longer.
    """
    if all(tensor.is_cuda for tensor in tensors):  # there it adds up a tree, and all tensors in one kernel
        return list(torch._foreach_norm(list(tensors)))
    return [_norm(tensor.reshape(-1)) for tensor in tensors]


def _norm(flat: torch.Tensor) -> torch.Tensor:
    whole = flat.numel() // _PIECE * _PIECE
    pieces = torch.linalg.vector_norm(flat[:whole].view(-1, _PIECE), dim=1)
    found: torch.Tensor = torch.linalg.vector_norm(torch.cat([pieces, flat[whole:]]))
    return found


_PIECE = 4096
"""Elements whose squares are added up one after the other."""


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
    """One update of weights and moments, in place, by unclipped gradients; the norm of all of them, and of each.

    grads: None for parameters that the loss does not reach. rows: by a table's place its gathered rows' gradient, which
    the norm counts in its place. unscale: 1 / loss scale, a factor of both.
    """
    found = {i: grad for i, grad in enumerate(grads) if grad is not None}
    if recipe.unused == "decayed":
        found |= {i: torch.zeros_like(trained.weights[i]) for i, grad in enumerate(grads) if grad is None}
    if unscale != 1:
        found = {i: grad * unscale for i, grad in found.items()}
        rows = {i: slope * unscale for i, slope in rows.items()}
    factors, norms = clipping(recipe.clip, [rows.get(i, grad) for i, grad in found.items()])
    limits = dict(zip(found, factors, strict=True)) if factors else {}
    slopes = {i: grad.reshape(-1) for i, grad in found.items()}
    for spans in _groups(slopes):
        parts = [slopes[i][part] for i, part in spans]
        if limits:
            parts = list(torch._foreach_mul(parts, [limits[i] for i, _ in spans]))
        _update(recipe, rates, trained.pieces(spans), parts)
    each = norms.new_zeros(1 + len(grads))
    each[[0, *(1 + i for i in found)]] = norms
    return each


def _groups(slopes: Mapping[int, torch.Tensor]) -> Iterator[list[Span]]:
    """All elements of all vectors, as lists of parts: small ones on a CPU, one list of whole vectors elsewhere.

    An update passes a dozen times over weights, moments and gradients. On a CPU the parts stay in its cache
    meanwhile, elsewhere few long calls are best.
    """
    group: list[Span] = []
    room = _CACHED
    for i, slope in slopes.items():
        step = _CACHED if slope.device.type == "cpu" else max(slope.numel(), 1)
        for start in range(0, slope.numel(), step):
            part = slice(start, min(start + step, slope.numel()))
            if group and slope.device.type == "cpu" and part.stop - part.start > room:
                yield group
                group, room = [], _CACHED
            group.append((i, part))
            room -= part.stop - part.start
    if group:
        yield group


def _update(recipe: Recipe, rates: Rates, trained: Trained, slopes: list[torch.Tensor]) -> None:
    """One update of weights and moments, in place, by clipped gradients."""
    scales = [treatment.scale for treatment in trained.treatments]
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
    roots = list(torch._foreach_sqrt(trained.v))
    torch._foreach_add_(roots, rates.epsilon)
    updates = list(torch._foreach_div(trained.m, roots))
    if recipe.bias_correction:
        torch._foreach_mul_(updates, rates.factor)
    decays = [treatment.decay for treatment in trained.treatments]
    if recipe.decay_form == "adamw":
        torch._foreach_mul_(trained.weights, [1 - lr * decay for lr, decay in zip(lrs, decays, strict=True)])
    elif any(decays):
        torch._foreach_add_(updates, torch._foreach_mul(trained.weights, decays))
    torch._foreach_mul_(updates, lrs)
    torch._foreach_sub_(trained.weights, updates)
