"""MindSpore's update against the reference, and against mindspore.nn.AdamWeightDecay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from recipe_suite import SHAPES, RecipeSuite, Rows, gradients

from porting.model.recipe import Clip, LossScale
from porting.model.recipes import tinybert_mindspore
from porting.model.update import Scale, Treatment, rates

ms = pytest.importorskip("mindspore")
pytestmark = pytest.mark.mindspore


class TestMindSporeRecipe(RecipeSuite):
    """As sessions run it: compiled."""

    def start(self, recipe, weights, treated):
        from porting.backends.mindspore.recipe import Trained, updater

        trained = Trained.start([ms.Parameter(ms.Tensor(w), name=f"w{i}") for i, w in enumerate(weights)], treated)
        reached = [0, 1, 2] if recipe.unused == "kept" else [0, 1, 2, 3]
        apart = recipe.clip.kind == "global_norm" and recipe.clip.rows == "apart"
        call = updater(recipe, trained.only(reached), [0] if apart else [])
        return trained, reached, ms.jit(call)

    def step(self, optimizer, recipe, now, grads, unscale):
        _, reached, call = optimizer
        dense = [grad.dense() if isinstance(grad, Rows) else grad for grad in grads]
        tensors = [ms.Tensor(np.zeros(SHAPES[i], np.float32) if dense[i] is None else dense[i]) for i in reached]
        if recipe.clip.kind == "global_norm" and recipe.clip.rows == "apart":
            tensors += [ms.Tensor(grad.values) for grad in grads if isinstance(grad, Rows)]
        numbers = ms.Tensor([now.lr, now.factor, now.epsilon, unscale], ms.float32)
        norm, *each = call(numbers, *tensors).asnumpy().tolist()
        found = dict(zip(reached, each, strict=True))
        return [norm, *(found.get(i, 0.0) for i in range(len(SHAPES)))]

    def state(self, optimizer):
        trained = optimizer[0]
        return [[each.asnumpy() for each in values] for values in (trained.weights, trained.m, trained.v)]


def test_it_is_mindspores_own_adam_weight_decay():
    """Whose fused operator on the CPU subtracts the betas from 1 in float32; beta2 in float64 is 5e-6 off here."""
    from porting.backends.mindspore.recipe import Trained, updater

    recipe = replace(tinybert_mindspore(3e-2, 6, 2, weight_decay=0.1), clip=Clip())
    start = [np.random.default_rng(i).normal(0, 1, shape).astype(np.float32) for i, shape in enumerate(SHAPES)]
    ours, theirs = (
        [ms.Parameter(ms.Tensor(weight), name=f"{side}{i}") for i, weight in enumerate(start)] for side in "ab"
    )
    trained = Trained.start(ours, [Treatment(0.1)] * len(ours))
    step_ours = updater(recipe, trained, [])
    now = rates(recipe, 2)
    optimizer = ms.nn.AdamWeightDecay(theirs, learning_rate=now.lr, eps=1e-6, weight_decay=0.1)
    for step in range(5):
        grads = [
            np.zeros(shape, np.float32) if g is None else g for shape, g in zip(SHAPES, gradients(step), strict=True)
        ]
        tensors = tuple(ms.Tensor(g.dense() if isinstance(g, Rows) else g) for g in grads)
        step_ours(ms.Tensor([now.lr, 1.0, 1e-6, 1.0], ms.float32), *tensors)
        optimizer(tensors)
    for mine, other, m, v in zip(ours, theirs, optimizer.moments1, optimizer.moments2, strict=True):
        np.testing.assert_allclose(mine.asnumpy(), other.asnumpy(), rtol=0, atol=5e-7)
        assert m.name.startswith("adam_m.")
        assert v.name.startswith("adam_v.")
    for mine, other in zip(trained.v, optimizer.moments2, strict=True):
        np.testing.assert_allclose(mine.asnumpy(), other.asnumpy(), rtol=1e-6, atol=1e-12)
    assert [m.name for m in trained.m] == [f"adam_m.a{i}" for i in range(len(ours))]


def test_the_scale_follows_mindspores_dynamic_loss_scale():
    loss_scale = LossScale("dynamic", 8.0, 2.0, 3)
    cell = ms.nn.DynamicLossScaleUpdateCell(8.0, 2, 3)
    theirs, ours = ms.Parameter(ms.Tensor(8.0, ms.float32), name="scale"), Scale.start(loss_scale)
    overflows = [0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    for overflow in overflows:
        cell(theirs, ms.Tensor(bool(overflow)))
        ours = ours.after(loss_scale, overflow=bool(overflow))
        assert ours.value == float(theirs.asnumpy())


def test_not_all_finite_is_found():
    from porting.backends.mindspore.recipe import finite

    assert bool(finite(ms.Tensor([1.0, 3e38])).asnumpy())
    assert not bool(finite(ms.Tensor([1.0]), ms.Tensor([np.nan, 1.0])).asnumpy())
