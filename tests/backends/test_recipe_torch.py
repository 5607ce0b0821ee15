"""PyTorch's update against the reference, torch.optim.AdamW and torch's own clipping."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_suite import SHAPES, RecipeSuite, Rows, recipes

from porting.model.recipe import Clip, Schedule
from porting.model.recipes import adamw
from porting.model.update import Treatment, rates

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


class TestTorchRecipe(RecipeSuite):
    def start(self, recipe, weights, treated):  # noqa: ARG002 - other frameworks need the recipe here
        from porting.backends.torch.recipe import Trained

        return Trained.start([torch.from_numpy(weight.copy()) for weight in weights], treated)

    def step(self, optimizer, recipe, now, grads, unscale):
        from porting.backends.torch.recipe import changed

        dense = [grad.dense() if isinstance(grad, Rows) else grad for grad in grads]
        rows = {i: torch.from_numpy(grad.values) for i, grad in enumerate(grads) if isinstance(grad, Rows)}
        apart = recipe.clip.kind == "global_norm" and recipe.clip.rows == "apart"
        tensors = [None if grad is None else torch.from_numpy(grad) for grad in dense]
        return changed(recipe, now, optimizer, tensors, rows if apart else {}, unscale).tolist()

    def state(self, optimizer):
        return [[tensor.numpy() for tensor in each] for each in (optimizer.weights, optimizer.m, optimizer.v)]

    @settings(max_examples=60, deadline=None)
    @given(recipe=recipes(), seed=st.integers(0, 1000))
    def test_any_recipe_equals_the_reference(self, recipe, seed):
        new, _ = self.check(recipe, seed, steps=4)
        assert len(new) == len(SHAPES)


@pytest.mark.parametrize("clip", [0.5, 100.0])
def test_it_is_torch_optim_adamw_after_clip_grad_norm(clip):
    from porting.backends.torch.recipe import Trained, changed

    recipe = replace(adamw(3e-2, 6, 2, weight_decay=0.1, clip=clip), excludes=())
    random = torch.Generator().manual_seed(3)
    ours = [torch.randn(shape, generator=random) for shape in SHAPES]
    theirs = [torch.nn.Parameter(weight.clone()) for weight in ours]
    optimizer = torch.optim.AdamW(theirs, lr=1.0, weight_decay=0.1, eps=1e-8)
    trained = Trained.start(ours, [Treatment(0.1)] * len(ours))
    for step in range(6):
        grads = [torch.randn(shape, generator=random) for shape in SHAPES]
        now = rates(recipe, step)
        norm = changed(recipe, now, trained, grads, {}, 1.0)
        for parameter, grad in zip(theirs, grads, strict=True):
            parameter.grad = grad.clone()
        wanted = torch.nn.utils.clip_grad_norm_(theirs, clip)
        optimizer.param_groups[0]["lr"] = now.lr
        optimizer.step()
        assert norm[0].item() == pytest.approx(wanted.item(), rel=1e-6)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.detach().numpy(), rtol=0, atol=5e-7)


def test_the_schedule_is_transformers_linear_one():
    transformers = pytest.importorskip("transformers")
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=2e-3)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 3, 10)
    for step in range(12):
        assert rates(adamw(2e-3, 10, 3), step).lr == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        schedule.step()


def test_not_all_finite_is_found():
    from porting.backends.torch.recipe import finite

    good = [torch.ones(2), torch.full((3,), 3e38)]
    assert finite(good)
    assert not finite([*good, torch.tensor([1.0, float("nan")])])
    assert not finite([*good, torch.tensor([float("-inf")])])


def test_a_constant_rate_and_no_clipping_leave_gradients_as_they_are():
    from porting.backends.torch.recipe import clipping

    factors, norms = clipping(Clip("none"), [torch.ones(2), torch.zeros(1)])
    assert factors == []
    assert norms.tolist() == pytest.approx([2**0.5, 2**0.5, 0.0])
    assert rates(replace(adamw(1e-3, 1), schedule=Schedule("constant", 1e-3)), 99).lr == 1e-3


def test_parts_are_all_elements_once_and_none_is_larger_than_the_cache(monkeypatch):
    from porting.backends.torch import recipe

    monkeypatch.setattr(recipe, "_CACHED", 10)
    groups = list(recipe._groups({0: torch.zeros(23), 2: torch.zeros(0), 5: torch.zeros(3), 7: torch.zeros(8)}))
    taken = [(i, at) for group in groups for i, part in group for at in range(part.start, part.stop)]
    assert taken == [(i, at) for i, size in ((0, 23), (5, 3), (7, 8)) for at in range(size)]
    assert all(sum(part.stop - part.start for _, part in group) <= 10 for group in groups)
    assert len(groups) == 4


@pytest.mark.parametrize("size", [1, 4095, 4097, 10_000_000])
def test_a_norm_is_right_however_many_elements_there_are(size):
    """1e-6: float32 has 6e-8, and thousands are added up. PyTorch's own norm of the last is 3e-4 off."""
    from porting.backends.torch.recipe import clipping

    grads = [torch.randn(size, generator=torch.Generator().manual_seed(1)) * 1e-3, torch.ones(3, 2)]
    _, (norm, *each) = clipping(Clip("none"), grads)
    wanted = [float(grad.double().norm()) for grad in grads]
    assert [float(one) for one in each] == pytest.approx(wanted, rel=1e-6)
    assert float(norm) == pytest.approx(sum(one**2 for one in wanted) ** 0.5, rel=1e-6)
