"""TensorFlow's update against the reference, and against the operators that the originals run on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_suite import SHAPES, RecipeSuite, Rows, gradients, recipes

from porting.model.recipe import Clip
from porting.model.recipes import xlnet_pretrain
from porting.model.update import Treatment, rates

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow


def _tensor(grad):
    if isinstance(grad, Rows):
        return tf.IndexedSlices(tf.constant(grad.values), tf.constant(grad.indices), tf.constant(SHAPES[0]))
    return None if grad is None else tf.constant(grad)


def _numbers(now, unscale=1.0):
    from porting.backends.tensorflow.recipe import Numbers

    return Numbers(*(tf.constant(number, tf.float32) for number in (now.lr, now.factor, now.epsilon, unscale)))


class TestTensorFlowRecipe(RecipeSuite):
    graph = False

    def start(self, recipe, weights, treated):
        from porting.backends.tensorflow.recipe import Numbers, Trained, update

        trained = Trained.start([tf.Variable(weight) for weight in weights], treated)

        def call(grads, *numbers):
            return update(recipe, trained, grads, Numbers(*numbers))

        return trained, tf.function(call) if self.graph else call

    def step(self, optimizer, recipe, now, grads, unscale):  # noqa: ARG002 - the recipe is in the function
        numbers = _numbers(now, unscale)
        tensors = [_tensor(grad) for grad in grads]
        return optimizer[1](tensors, numbers.lr, numbers.factor, numbers.epsilon, numbers.unscale).numpy().tolist()

    def state(self, optimizer):
        trained = optimizer[0]
        return [[variable.numpy() for variable in each] for each in (trained.weights, trained.m, trained.v)]

    @settings(max_examples=25, deadline=None)
    @given(recipe=recipes(), seed=st.integers(0, 1000))
    def test_any_recipe_equals_the_reference(self, recipe, seed):
        new, _ = self.check(recipe, seed, steps=3)
        assert len(new) == len(SHAPES)


class TestTracedTensorFlowRecipe(TestTensorFlowRecipe):
    graph = True
    test_any_recipe_equals_the_reference = None


def test_without_weight_decay_xlnets_optimizer_is_tensorflows_adam():
    from porting.backends.tensorflow.recipe import Trained, update

    recipe = xlnet_pretrain(3e-2, 6, 1, clip=1e9)
    random = np.random.default_rng(0)
    start = [random.normal(0, 1, shape).astype(np.float32) for shape in SHAPES]
    ours, theirs = ([tf.Variable(weight) for weight in start] for _ in range(2))
    trained = Trained.start(ours, [Treatment(0.0)] * len(ours))
    rate = tf.Variable(0.0)
    optimizer = tf.compat.v1.train.AdamOptimizer(learning_rate=lambda: rate, epsilon=1e-8)
    for step in range(5):
        grads = [_tensor(grad) for grad in gradients(step)]
        now = rates(recipe, step)
        update(recipe, trained, grads, _numbers(now))
        rate.assign(now.lr)
        optimizer.apply_gradients([(g, w) for g, w in zip(grads, theirs, strict=True) if g is not None])
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", [0.1, 1e6])
def test_the_norm_counts_rows_apart_as_tf_clip_by_global_norm_does(norm):
    from porting.backends.tensorflow.recipe import clipped

    grads = [_tensor(grad) for grad in gradients(3) if grad is not None]
    ours, found = clipped(Clip("global_norm", norm, rows="apart"), grads)
    theirs, wanted = tf.clip_by_global_norm(grads, norm)
    assert float(found[0]) == pytest.approx(float(wanted), rel=1e-6)
    np.testing.assert_allclose(ours[0].values.numpy(), theirs[0].values.numpy(), rtol=1e-6)
    summed = np.sqrt(
        sum(np.sum(np.square(g.dense() if isinstance(g, Rows) else g)) for g in gradients(3) if g is not None)
    )
    assert float(found[0]) != pytest.approx(summed, rel=1e-3)


def test_not_all_finite_is_found_in_rows_too():
    from porting.backends.tensorflow.recipe import finite

    rows = tf.IndexedSlices(tf.constant([[1.0], [np.inf]]), tf.constant([0, 0]), tf.constant([2, 1]))
    assert finite([tf.ones(2), None])
    assert not finite([tf.ones(2), rows])
