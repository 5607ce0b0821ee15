"""One model in three frameworks: the same taps by name, the same under dropout, in half precision, in every option."""

from __future__ import annotations

import numpy as np
import pytest
from bert_support import FRAMEWORKS, PACKAGES, carried, config, session

from porting.backends.protocol import Build
from porting.errors import UsageError
from porting.model.dropout import Dropout
from porting.model.recipe import Recipe, Schedule
from porting_bert.config import BertConfig
from porting_bert.spec import ROBERTA, SPEC

pytestmark = [
    pytest.mark.torch,
    pytest.mark.tensorflow,
    pytest.mark.mindspore,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

# Odd sizes all over: a transpose or a swapped axis changes a shape.
MODEL = BertConfig(31, 12, 2, 3, 20, "gelu_erf", 0.2, 0.3, 19, 2, layer_norm_eps=1e-6, pad_token_id=3)
MODELS = {
    "bert": (SPEC, MODEL),
    "roberta": (ROBERTA, BertConfig(31, 12, 2, 3, 20, "silu", 0.2, 0.3, 19, 1, pad_token_id=3, model_type="roberta")),
}
SHARED = Dropout("shared", 7)


def batch(spec, task, seed=0):
    """A batch with padding, holes in its mask, and a row with nothing visible."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, 31, (3, 7))
    ids[0, 5:] = 3
    mask = random.integers(0, 2, (3, 7))
    mask[2] = 0
    drawn = {
        "input_ids": ids,
        "input_mask": mask,
        "segment_ids": random.integers(0, 2, (3, 7)),
        "masked_lm_positions": random.integers(0, 7, (3, 2)),
        "masked_lm_ids": random.integers(0, 31, (3, 2)),
        "masked_lm_weights": np.array([[1, 1], [1, 0], [0, 0]], np.float32),
        "next_sentence_labels": random.integers(0, 2, (3, 1)),
        "token_labels": np.where(random.random((3, 7)) < 0.5, -100, random.integers(0, 3, (3, 7))),
        "label_ids": random.integers(0, 3, 3),
        "label_values": random.normal(size=3).astype(np.float32),
        "start_positions": random.integers(0, 7, 3),
        "end_positions": random.integers(0, 7, 3),
    }
    return {name: value for name, value in drawn.items() if name in spec.task(task).features}


def weights(spec, model, task, folder):
    """Drawn weights under the names of the spec's PyTorch dialect."""
    shapes = session("pytorch", spec, model, _build(task)).parameters
    random = np.random.default_rng(1)
    return {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def _build(task, mode="eager", **more):
    return Build(task, 1 if task == "regression" else 3, mode, **more)


def opened(framework, name, task, folder, mode="eager", recipe=None, **more):
    spec, model = MODELS[name]
    found = session(framework, spec, model, _build(task, mode, **more), recipe)
    found.load(carried(weights(spec, model, task, folder), spec, framework, folder, found.parameters))
    return found


def taps(spec, model, task):
    """Every tap of a task, layers written out."""
    pooled = {"encoder", "pretraining", "classification", "regression"}
    ends = {*spec.task(task).outputs} | ({"pooled"} if task in pooled and spec is SPEC else set())
    ends |= {"mlm.loss", "nsp.loss"} if task == "pretraining" else set()
    ends |= set() if task == "encoder" else {"loss"}
    layered = [tap.name for tap in spec.taps if "{layer}" in tap.name]
    return {"embeddings", "sequence"} | ends | {name.format(layer=i) for name in layered for i in range(2)}


CASES = [(name, task.name) for name, (spec, _) in MODELS.items() for task in spec.tasks]


@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_tap_is_the_same_in_every_framework(name, task, tmp_path):
    spec, model = MODELS[name]
    asked = taps(spec, model, task)
    runs = {}
    for framework in FRAMEWORKS:
        runs[framework] = opened(framework, name, task, tmp_path).forward(batch(spec, task), asked)
    for found in runs.values():
        assert found.keys() == asked
        for tap, value in found.items():
            assert value.dtype == np.float32
            np.testing.assert_allclose(value, runs["pytorch"][tap], rtol=0, atol=2e-5, err_msg=tap)


@pytest.mark.parametrize("task", ["classification", "token_classification"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("mode", ["eager", pytest.param("graph", marks=pytest.mark.slow)])
def test_training_with_shared_masks_is_the_same_in_every_framework(name, task, mode, tmp_path):
    spec = MODELS[name][0]
    recipe = Recipe("plain", Schedule("constant", 1e-3))
    losses = {}
    for framework in FRAMEWORKS:
        model = opened(framework, name, task, tmp_path, mode, recipe, dropout=SHARED)
        losses[framework] = [model.step(batch(spec, task, i)).loss for i in range(3)]
    for framework in FRAMEWORKS:
        np.testing.assert_allclose(losses[framework], losses["pytorch"], rtol=0, atol=2e-5)
    undisturbed = opened("pytorch", name, task, tmp_path, recipe=recipe)
    assert abs(losses["pytorch"][0] - undisturbed.step(batch(spec, task)).loss) > 1e-3


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", MODELS)
def test_evaluation_drops_nothing(framework, name, tmp_path):
    spec = MODELS[name][0]
    given = batch(spec, "classification")
    plain = opened(framework, name, "classification", tmp_path).forward(given)["logits"]
    for dropout in (SHARED, Dropout("own", 3)):
        found = opened(framework, name, "classification", tmp_path, dropout=dropout).forward(given)["logits"]
        np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_frameworks_own_dropout_acts_in_training(framework, tmp_path):
    given = batch(SPEC, "classification")
    model = opened(framework, "bert", "classification", tmp_path, dropout=Dropout("own", 3))
    plain, _ = opened(framework, "bert", "classification", tmp_path).gradients(given)
    losses = [model.gradients(given)[0] for _ in range(2)]
    assert len({plain, *losses}) == 3


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("compute", ["float16", "bfloat16"])
def test_half_precision_is_near_and_its_outputs_are_float32(framework, compute, tmp_path):
    given = batch(SPEC, "pretraining")
    asked = {"layer.0.attention.scores", "layer.1.output", "sequence"}
    exact = opened(framework, "bert", "pretraining", tmp_path).forward(given, asked)
    if (framework, compute) == ("mindspore", "bfloat16"):
        with pytest.raises(UsageError, match="bfloat16: MindSpore has no kernels for it on the CPU"):
            opened(framework, "bert", "pretraining", tmp_path, compute=compute)
        return
    model = opened(framework, "bert", "pretraining", tmp_path, compute=compute)
    found = model.forward(given, asked)
    near = {"float16": 0.03, "bfloat16": 0.25}[compute]
    for name, value in exact.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], value, rtol=near, atol=near, err_msg=name)
    assert any(np.abs(found[name] - value).max() > 1e-5 for name, value in exact.items())
    loss, gradients = model.gradients(given)
    assert np.isfinite(loss)
    assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in gradients.values())


def test_the_fused_kernel_gives_the_same_and_refuses_what_it_cannot_show(tmp_path):
    given = batch(SPEC, "classification")
    eager = opened("pytorch", "bert", "classification", tmp_path)
    fused = opened("pytorch", "bert", "classification", tmp_path, extra={"attention": "sdpa"})
    np.testing.assert_allclose(fused.forward(given)["logits"], eager.forward(given)["logits"], rtol=0, atol=2e-3)
    # A row with nothing visible has scores that -10000 has rounded to thousandths: there the order of sums shows.
    seen = {**given, "input_mask": np.ones((3, 7), np.int32)}
    np.testing.assert_allclose(fused.forward(seen)["logits"], eager.forward(seen)["logits"], rtol=0, atol=5e-6)
    with pytest.raises(UsageError, match="attention sdpa has no scores"):
        fused.forward(given, ["layer.0.attention.scores"])
    with pytest.raises(UsageError, match="takes no shared masks"):
        opened("pytorch", "bert", "classification", tmp_path, extra={"attention": "sdpa"}, dropout=SHARED)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_one_hot_embeddings_give_the_same_values_and_gradients(framework, tmp_path):
    given = batch(SPEC, "classification")
    gathered = opened(framework, "bert", "classification", tmp_path)
    product = opened(framework, "bert", "classification", tmp_path, extra={"one_hot": True})
    np.testing.assert_allclose(product.forward(given)["logits"], gathered.forward(given)["logits"], atol=1e-6)
    (_, one), (_, two) = gathered.gradients(given), product.gradients(given)
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.tensorflow
def test_the_gathered_table_has_indexed_slices_and_the_product_has_none():
    tf = pytest.importorskip(PACKAGES["tensorflow"])
    for one_hot in (False, True):
        model = SPEC.port("tensorflow").build(config(), _build("classification", extra={"one_hot": one_hot}))
        given = {name: tf.constant(value, tf.int32) for name, value in batch(SPEC, "classification").items()}
        with tf.GradientTape() as tape:
            loss = model(given)["loss"]
        slope = tape.gradient(loss, model.weights["bert/embeddings/word_embeddings"])
        assert isinstance(slope, tf.IndexedSlices) is not one_hot


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_tap_of_another_task_is_refused(framework, tmp_path):
    model = opened(framework, "bert", "classification", tmp_path)
    with pytest.raises(UsageError, match="tap"):
        model.forward(batch(SPEC, "classification"), ["mlm.logits"])
