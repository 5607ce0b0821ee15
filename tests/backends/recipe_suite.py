"""What every framework's optimizer is held against: the float64 reference, on random trajectories."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import strategies as st
from reference import Reference

from porting.model.recipe import Clip, LossScale, Recipe, Schedule
from porting.model.recipes import (
    adamw,
    bert_finetune,
    bert_pretrain,
    tinybert_bert_adam,
    tinybert_mindspore,
    xlnet_finetune,
    xlnet_pretrain,
)
from porting.model.update import Treatment, rates

SHAPES = ((7, 3), (4, 5), (6,), (2, 2, 3))
"""Of the parameters: the first is a gathered table, the last is never reached by the loss."""
GATHERED, UNREACHED = 0, len(SHAPES) - 1

RECIPES = [
    bert_finetune(1e-2, 8, 2),
    bert_pretrain(1e-2, 8, 0),
    xlnet_finetune(1e-2, 8, 1, layer_decay=0.75),
    xlnet_pretrain(1e-2, 8, 1, weight_decay=0.1, epsilon=1e-6, cosine=True),
    tinybert_mindspore(1e-2, 8, 2),
    tinybert_bert_adam(1e-2, 8),
    tinybert_bert_adam(1e-2, 8, constant=True),
    adamw(1e-2, 8),
    replace(adamw(1e-2, 8), layer_decay=0.5, layer_decay_of="rate", unused="decayed"),
    replace(adamw(1e-2, 8), decay_form="decoupled", clip=Clip()),
    replace(bert_finetune(1e-2, 8, 0), loss_scale=LossScale("static", 512.0)),
]


def recipes() -> st.SearchStrategy[Recipe]:
    """Every field that changes arithmetic, over values that are used."""
    clips = st.builds(
        Clip,
        st.sampled_from(["none", "global_norm", "per_tensor"]),
        st.sampled_from([0.25, 1.0, 100.0]),
        st.sampled_from(["summed", "apart"]),
        st.sampled_from([0.0, 1e-6]),
    )
    return st.builds(
        Recipe,
        st.just("drawn"),
        st.builds(Schedule, st.just("bert"), st.sampled_from([1e-3, 3e-2]), st.just(6), st.sampled_from([0, 2])),
        beta1=st.sampled_from([0.0, 0.9]),
        beta2=st.sampled_from([0.98, 0.999]),
        epsilon=st.sampled_from([1e-8, 1e-6, 1e-3]),
        epsilon_with=st.sampled_from(["corrected", "raw"]),
        weight_decay=st.sampled_from([0.0, 0.01, 0.3]),
        decay_form=st.sampled_from(["decoupled", "adamw"]),
        bias_correction=st.booleans(),
        unused=st.sampled_from(["kept", "decayed"]),
        clip=clips,
        loss_scale=st.sampled_from([LossScale(), LossScale("static", 1024.0)]),
        layer_decay=st.sampled_from([1.0, 0.8]),
        layer_decay_of=st.sampled_from(["gradient", "rate"]),
        complement=st.sampled_from(["float64", "float32"]),
    )


@dataclass(frozen=True)
class Rows:
    """A gathered table's gradient: rows and the table's rows they belong to."""

    values: np.ndarray
    indices: np.ndarray

    def dense(self) -> np.ndarray:
        total = np.zeros(SHAPES[GATHERED], np.float32)
        np.add.at(total, self.indices, self.values)
        return total


def treatments(recipe: Recipe) -> list[Treatment]:
    """The third parameter is not decayed; the second belongs to a lower layer."""
    lower = recipe.layer_decay
    return [
        Treatment(recipe.weight_decay),
        Treatment(recipe.weight_decay, lower),
        Treatment(0.0),
        Treatment(recipe.weight_decay),
    ]


def gradients(seed: int, scale: float = 1.0) -> list[np.ndarray | Rows | None]:
    """Of one step, times a loss scale: rows for the table (several of one id), None for what is not reached."""
    random = np.random.default_rng(seed)
    size = 10.0 ** random.uniform(-2, 1)
    grads: list[np.ndarray | Rows | None] = [
        (random.normal(0, size, shape) * scale).astype(np.float32) for shape in SHAPES
    ]
    rows = (random.normal(0, size, (9, SHAPES[GATHERED][1])) * scale).astype(np.float32)
    grads[GATHERED] = Rows(rows, random.integers(0, 4, 9).astype(np.int32))
    grads[UNREACHED] = None
    return grads


class RecipeSuite:
    """Inherit, and say how your optimizer starts, steps and shows its state."""

    weights_within = 2e-6
    """Of a float64 trajectory, relative to 1 + |w|: some roundings of a float32 update for each of five steps."""

    def start(self, recipe, weights, treated):
        """An optimizer of your framework, holding these weights."""
        raise NotImplementedError

    def step(self, optimizer, recipe, now, grads, unscale):
        """One update by such gradients at `porting.model.update.Rates`; norms before clipping, of all and of each."""
        raise NotImplementedError

    def state(self, optimizer):
        """Lists of weights, m and v as numpy."""
        raise NotImplementedError

    def check(self, recipe, seed, steps=5):
        random = np.random.default_rng(seed)
        weights = [random.normal(0, 0.5, shape).astype(np.float32) for shape in SHAPES]
        treated = treatments(recipe)
        optimizer = self.start(recipe, weights, treated)
        names = range(len(SHAPES))
        wanted = Reference(recipe, dict(enumerate(map(np.float64, weights))), dict(enumerate(treated)))
        scale = 1.0 if recipe.loss_scale.kind == "none" else recipe.loss_scale.scale
        for at in range(steps):
            grads = gradients(seed + at)
            plain = {i: grad.dense() if isinstance(grad, Rows) else grad for i, grad in enumerate(grads)}
            apart = recipe.clip.kind == "global_norm" and recipe.clip.rows == "apart"
            norm = wanted.step(plain, {GATHERED: grads[GATHERED].values} if apart else None)
            got, *each = self.step(optimizer, recipe, rates(recipe, at), gradients(seed + at, scale), 1 / scale)
            assert got == pytest.approx(norm, rel=2e-6)
            counted = {**plain, GATHERED: grads[GATHERED].values if apart else plain[GATHERED]}
            own = [0.0 if counted[i] is None else np.linalg.norm(counted[i]) for i in names]
            assert each == pytest.approx(own, rel=2e-6)
        new, m, v = self.state(optimizer)
        for i in names:
            assert np.all(np.abs(new[i] - wanted.weights[i]) <= self.weights_within * (1 + np.abs(wanted.weights[i])))
            for got, want in ((m[i], wanted.m.get(i, 0.0)), (v[i], wanted.v.get(i, 0.0))):
                assert np.max(np.abs(got - want)) <= 3e-6 * max(np.max(np.abs(want)), 1e-30)
        return new, weights

    @pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.name}-{recipe.hash[7:11]}")
    def test_a_trajectory_equals_the_reference(self, recipe):
        new, old = self.check(recipe, seed=5)
        moved = recipe.unused == "decayed" and recipe.weight_decay > 0
        assert np.array_equal(new[UNREACHED], old[UNREACHED]) != moved

    def test_an_infinite_gradient_spoils_every_gradient_under_a_global_norm_as_in_tensorflow(self):
        recipe = bert_pretrain(1e-2, 8, 0)
        weights = [np.ones(shape, np.float32) for shape in SHAPES]
        optimizer = self.start(recipe, weights, treatments(recipe))
        grads = gradients(1)
        grads[1][0, 0] = np.inf
        norm = self.step(optimizer, recipe, rates(recipe, 0), grads, 1.0)[0]
        new, _, _ = self.state(optimizer)
        assert norm == np.inf
        assert np.isnan(new[2]).all()

    def test_gradients_of_zero_move_nothing_but_by_decay(self):
        recipe = replace(bert_pretrain(1e-2, 8, 0), weight_decay=0.0)
        weights = [np.ones(shape, np.float32) for shape in SHAPES]
        optimizer = self.start(recipe, weights, treatments(recipe))
        zeros = [None if i == UNREACHED else np.zeros(shape, np.float32) for i, shape in enumerate(SHAPES)]
        assert not any(self.step(optimizer, recipe, rates(recipe, 0), zeros, 1.0))
        assert all(np.array_equal(a, b) for a, b in zip(self.state(optimizer)[0], weights, strict=True))
