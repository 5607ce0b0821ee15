"""Sessions of the three frameworks on the toy port: what goes in and out, and that all train alike."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from itertools import pairwise

import numpy as np
import pytest
from reference import Reference
from toy_port import spec as toy

from porting.backends.protocol import Build
from porting.errors import MismatchError, UsageError
from porting.model import recipes
from porting.model.dropout import Dropout
from porting.model.recipe import LossScale
from porting.model.update import treatments

DIALECTS = {"torch": "hf", "tensorflow": "google", "mindspore": "modelzoo"}
FRAMEWORKS = {"torch": "pytorch"}
BUILD = Build("classify", labels=toy.LABELS)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def _marked(backend, mode):
    return pytest.param((backend, mode), marks=getattr(pytest.mark, backend), id=f"{backend}-{mode}")


@pytest.fixture(
    params=[
        _marked(backend, mode)
        for backend in DIALECTS
        for mode in ("eager", "graph")
        if (backend, mode) != ("torch", "graph")
    ]
)
def opened(request):
    """How to open a session with weights of the toy in it: torch.compile is tried once, in a test of its own."""
    backend, mode = request.param
    pytest.importorskip(backend)

    def start(recipe=None, **changes):
        run = import_module(f"porting.backends.{backend}.run")
        session = run.open_session(toy.TOY, toy.ToyConfig(), replace(BUILD, mode=mode, **changes), recipe)
        session.load(toy.weights(DIALECTS[backend]))
        return session

    start.dialect, start.framework = DIALECTS[backend], FRAMEWORKS.get(backend, backend)
    return start


def _expected(batch, taps=(), mask=1.0):
    """The toy in numpy and float64."""
    w = {name: np.float64(value) for name, value in toy.weights("google").items()}
    hidden = w["bert/embeddings/word_embeddings"][batch["input_ids"]]
    hidden = hidden + w["bert/embeddings/token_type_embeddings"][batch["segment_ids"]]
    hidden = hidden + w["bert/embeddings/position_embeddings"][: hidden.shape[1]]
    hidden = (hidden - hidden.mean(-1, keepdims=True)) / np.sqrt(hidden.var(-1, keepdims=True) + 1e-12)
    hidden = hidden * w["bert/embeddings/LayerNorm/gamma"] + w["bert/embeddings/LayerNorm/beta"]
    out = {"embeddings": hidden * mask}
    hidden = out["embeddings"]
    for layer in range(2):
        dense = f"bert/encoder/layer_{layer}/intermediate/dense/"
        hidden = hidden + np.tanh(hidden @ w[dense + "kernel"] + w[dense + "bias"])
        out[f"layer.{layer}.output"] = hidden
    out["logits"] = hidden.mean(1) @ w["output_weights"].T + w["output_bias"]
    shifted = out["logits"] - out["logits"].max(-1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    out["loss"] = -log_probs[np.arange(len(log_probs)), batch["label_ids"]].mean()
    return {name: out[name] for name in ("logits", "loss", *taps)}


def test_forward_gives_outputs_loss_and_the_taps_asked_for(opened):
    taps = ("embeddings", "layer.1.output")
    found, wanted = opened().forward(toy.batch(), taps), _expected(toy.batch(), taps)
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=2e-6)
        assert found[name].dtype == np.float32


def test_without_labels_there_is_no_loss_and_a_step_is_refused_by_name(opened):
    batch = {name: value for name, value in toy.batch().items() if name != "label_ids"}
    session = opened(recipes.adamw(1e-3, 5))
    assert set(session.forward(batch)) == {"logits"}
    with pytest.raises(UsageError, match=r"toy: no loss in task classify: a batch to train on has .*label_ids"):
        session.gradients(batch)
    with pytest.raises(UsageError, match="no loss"):
        session.step(batch)


def test_taps_that_do_not_exist_are_refused(opened):
    session = opened()
    with pytest.raises(UsageError, match=r"toy: no tap nonsense; there are embeddings, layer.\{layer\}.output"):
        session.forward(toy.batch(), ["nonsense"])
    with pytest.raises(UsageError, match=r"toy: this model and task have no tap layer\.9\.output"):
        session.forward(toy.batch(), ["layer.9.output"])


def test_parameters_load_by_name_and_come_back(opened):
    session, wanted = opened(), toy.weights(opened.dialect, seed=7)
    assert session.parameters == toy.shapes(opened.dialect)
    frozen = toy.name_in(opened.dialect, toy.FROZEN)
    assert set(session.trainable) == set(session.parameters) - {frozen}
    session.load(wanted)
    assert all(np.array_equal(session.weights()[name], value) for name, value in wanted.items())
    found = session.forward(toy.batch(), ["embeddings"])
    session.load(toy.weights(opened.dialect))
    assert not np.allclose(found["logits"], session.forward(toy.batch(), ["embeddings"])["logits"])


def test_weights_that_do_not_fit_are_all_named_and_none_is_set(opened):
    session = opened()
    before = session.weights()
    wrong = {name: value + 1 for name, value in before.items()}
    bias, word = toy.name_in(opened.dialect, "output_bias"), toy.name_in(opened.dialect, toy.GATHERED)
    del wrong[bias]
    wrong |= {"stranger": np.zeros(2), word: np.zeros((2, 2))}
    with pytest.raises(MismatchError) as caught:
        session.load(wrong)
    text = str(caught.value)
    assert f"{bias}  missing" in text
    assert "stranger  unexpected" in text
    assert f"{word}: the model wants (11, 6), got (2, 2)" in text
    assert all(np.array_equal(session.weights()[name], value) for name, value in before.items())


def test_weights_given_out_do_not_change_by_training(opened):
    session = opened(recipes.adamw(1e-2, 5))
    before = session.weights()
    copied = {name: value.copy() for name, value in before.items()}
    session.step(toy.batch())
    assert all(np.array_equal(before[name], value) for name, value in copied.items())
    frozen = toy.name_in(opened.dialect, toy.FROZEN)
    changed = {name for name, value in session.weights().items() if not np.array_equal(value, before[name])}
    assert frozen not in changed
    assert toy.name_in(opened.dialect, "output_weights") in changed


def test_gradients_are_those_of_finite_differences(opened):
    session, batch, step = opened(), toy.batch(), 1e-3
    loss, grads = session.gradients(batch)
    assert loss == pytest.approx(_expected(batch)["loss"], abs=1e-6)
    assert set(grads) == set(session.trainable)
    unused = toy.name_in(opened.dialect, toy.UNUSED)
    assert not grads[unused].any()
    weights = toy.weights(opened.dialect)
    for google in ("output_bias", toy.GATHERED, "bert/encoder/layer_0/intermediate/dense/kernel"):
        name = toy.name_in(opened.dialect, google)
        at = np.unravel_index(np.abs(grads[name]).argmax(), grads[name].shape)
        around = []
        for sign in (1, -1):
            moved = weights[name].copy()
            moved[at] += sign * step
            session.load({**weights, name: moved})
            around.append(float(session.forward(batch)["loss"]))
        assert grads[name][at] == pytest.approx((around[0] - around[1]) / (2 * step), rel=5e-3)


@pytest.mark.parametrize(
    "recipe",
    [
        recipes.bert_pretrain(2e-2, 6, 1),
        recipes.tinybert_mindspore(2e-2, 6, 1),
        replace(recipes.adamw(2e-2, 6), loss_scale=LossScale("static", 256.0)),
    ],
    ids=lambda recipe: recipe.name,
)
def test_steps_follow_the_reference_along_the_gradients_of_its_own_weights(opened, recipe):
    session, teacher = opened(recipe), opened()
    frozen, unused = (toy.name_in(opened.dialect, name) for name in (toy.FROZEN, toy.UNUSED))
    trained = {name: np.float64(value) for name, value in toy.weights(opened.dialect).items() if name != frozen}
    treated = treatments(recipe, toy.TOY, opened.framework, list(trained))
    wanted = Reference(recipe, trained, treated)
    for at in range(4):
        teacher.load({**wanted.weights, frozen: session.weights()[frozen]})
        loss, grads = teacher.gradients(toy.batch(at))
        result = session.step(toy.batch(at))
        norm = wanted.step({**grads, unused: None})
        assert result.loss == pytest.approx(loss, abs=3e-6)
        assert result.grad_norm == pytest.approx(norm, rel=1e-5)
        assert (result.overflow, result.loss_scale) == (False, recipe.loss_scale.scale)
    found = session.weights()
    for name, value in wanted.weights.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5)
    slots = session.slots()
    assert set(slots) == {"m", "v"}
    assert set(slots["m"]) == set(session.trainable)
    weight = toy.name_in(opened.dialect, "output_weights")
    np.testing.assert_allclose(slots["v"][weight], wanted.v[weight], rtol=1e-4, atol=1e-12)


def test_gathered_rows_count_apart_in_the_norm(opened):
    """As they would if every place in the batch had a row of its own: then there is nothing to sum."""
    batch, word = toy.batch(size=2), toy.name_in(opened.dialect, toy.GATHERED)
    apart, summed, own = (
        opened(make(1e-2, 6, 0)) for make in (recipes.bert_finetune, recipes.bert_pretrain, recipes.bert_pretrain)
    )
    weights = toy.weights(opened.dialect)
    table = weights[word].copy()
    table[:10] = weights[word][batch["input_ids"].ravel()]
    own.load({**weights, word: table})
    wanted = own.step({**batch, "input_ids": np.arange(10).reshape(2, 5)}).grad_norm
    assert apart.step(batch).grad_norm == pytest.approx(wanted, rel=3e-6)
    assert summed.step(batch).grad_norm != pytest.approx(wanted, rel=1e-4)


def test_shared_dropout_is_the_same_mask_everywhere_and_only_in_training(opened):
    dropout = Dropout("shared", seed=3)
    session = opened(recipes.adamw(1e-3, 5), dropout=dropout)
    still = session.forward(toy.batch())["loss"]
    assert still == pytest.approx(_expected(toy.batch())["loss"], abs=2e-6)
    masks = [dropout.mask("embeddings", step, (3, 5, toy.HIDDEN), 0.3) for step in range(2)]
    wanted = _expected(toy.batch(), mask=masks[0])["loss"]
    assert session.gradients(toy.batch())[0] == pytest.approx(wanted, abs=2e-6)
    assert session.step(toy.batch()).loss == pytest.approx(wanted, abs=2e-6)
    session.load(toy.weights(opened.dialect))
    assert session.step(toy.batch()).loss == pytest.approx(_expected(toy.batch(), mask=masks[1])["loss"], abs=2e-6)


def test_an_overflow_skips_the_update_and_halves_the_scale(opened):
    recipe = replace(recipes.bert_pretrain(1e-2, 9, 0), loss_scale=LossScale("dynamic", 2.0**127, 2.0, 2))
    session = opened(recipe)
    before = session.weights()
    weights = {
        **before,
        toy.name_in(opened.dialect, "output_weights"): before[toy.name_in(opened.dialect, "output_weights")] * 50,
    }
    session.load(weights)
    first = session.step(toy.batch())
    assert first.overflow
    assert not np.isfinite(first.grad_norm)
    assert all(np.array_equal(session.weights()[name], value) for name, value in weights.items())
    session.load(before)
    results = [session.step(toy.batch(i)) for i in range(8)]
    scales = [result.loss_scale for result in results]
    assert scales[0] == 2.0**126
    good = [result for result in results if not result.overflow]
    assert good
    assert good[0].lr == first.lr == recipe.schedule.peak  # a skipped step does not count in the schedule
    assert all(later in (earlier, earlier * 2, earlier / 2) for earlier, later in pairwise(scales))


def test_a_step_without_a_recipe_and_a_device_that_is_not_there_are_refused(opened):
    session = opened()
    with pytest.raises(UsageError, match="a step needs a recipe"):
        session.step(toy.batch())
    with pytest.raises(UsageError, match="a step needs a recipe"):
        session.slots()
    with pytest.raises(UsageError, match="device abacus"):
        opened(device="abacus")
    with pytest.raises(UsageError, match="toy: no task translate; there are classify"):
        opened(task="translate")


@pytest.mark.slow  # the C++ compiler takes its time
@pytest.mark.torch
def test_a_compiled_torch_model_trains_as_the_eager_one_does():
    pytest.importorskip("torch")
    from porting.backends.torch.run import open_session

    losses = []
    for mode in ("eager", "graph"):
        recipe = recipes.bert_finetune(1e-2, 6, 0)
        session = open_session(toy.TOY, toy.ToyConfig(), replace(BUILD, mode=mode), recipe)
        session.load(toy.weights("hf"))
        steps = [session.step(toy.batch(i)) for i in range(3)]
        losses.append([(step.loss, step.grad_norm) for step in steps] + [(session.forward(toy.batch())["loss"], 0)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


@pytest.mark.parametrize("opened", [_marked(name, "graph") for name in ("tensorflow", "mindspore")], indirect=True)
def test_what_is_compiled_anew_is_counted(opened):
    """The first step compiles; a batch of another shape does so again, and one of the first shape does not."""
    session = opened(recipes.adamw(1e-3, 5))
    counts = []
    for size in (3, 3, 2, 3):
        session.step(toy.batch(size=size))
        counts.append(session.compilations)
    assert 0 < counts[0] == counts[1] < counts[2] == counts[3]
