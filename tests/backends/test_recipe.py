"""Recipes as values: what they refuse, hash and differ in; schedules against the originals; names across dialects."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_port import spec as toy

from porting.errors import UsageError
from porting.model import recipes
from porting.model.names import Named, names_in
from porting.model.recipe import Clip, LossScale, Recipe, Schedule
from porting.model.registry import model_named, models
from porting.model.schedule import learning_rate
from porting.model.update import Scale, Treatment, complements, rates, treatments

GOLDEN = Path(__file__).parents[1] / "golden"

ALL = [
    recipes.bert_finetune(1e-3, 30, 4),
    recipes.bert_pretrain(1e-3, 30, 4),
    recipes.xlnet_finetune(1e-3, 25, 4, weight_decay=0.01),
    recipes.xlnet_finetune(1e-3, 25, 4),
    recipes.xlnet_pretrain(1e-3, 20, 3),
    recipes.tinybert_mindspore(1e-3, 12, 2),
    recipes.tinybert_bert_adam(1e-3, 10),
    recipes.adamw(1e-3, 10),
]


def _rates(schedule, steps):
    return np.array([learning_rate(schedule, step) for step in range(steps)])


@pytest.mark.parametrize(
    ("case", "key", "recipe"),
    [
        ("bert_a1", "gather/lr", recipes.bert_finetune(1e-3, 30, 4)),
        ("bert_a1", "onehot/lr", recipes.bert_pretrain(1e-3, 30, 4)),
        ("xlnet_b1", "ft/lr", recipes.xlnet_finetune(1e-3, 25, 4, weight_decay=0.01)),
        ("xlnet_b1", "pre/lr", recipes.xlnet_pretrain(1e-3, 20, 3, clip=0.25)),
    ],
)
def test_rates_are_those_that_the_originals_used(case, key, recipe):
    with np.load(GOLDEN / case / "trajectory.npz") as golden:
        wanted = golden[key]
    got = _rates(recipe.schedule, len(wanted))
    assert wanted[0] == got[0] == 0
    assert np.max(np.abs(got - wanted)) <= 1e-7 * recipe.schedule.peak


def test_settings_of_the_golden_runs_are_those_of_the_recipes():
    bert = json.loads((GOLDEN / "bert_a1/manifest.json").read_text())["optimizer"]
    recipe = recipes.bert_finetune(bert["init_lr"], bert["num_train_steps"], bert["num_warmup_steps"])
    assert list(recipe.excludes) == bert["exclude_from_weight_decay"]
    assert (recipe.beta1, recipe.beta2, recipe.epsilon) == (bert["beta_1"], bert["beta_2"], bert["epsilon"])
    assert (recipe.weight_decay, recipe.clip.norm) == (bert["weight_decay_rate"], bert["clip_norm"])
    tiny = json.loads((GOLDEN / "tinybert_c1/manifest.json").read_text())["optimizer"]
    mindspore = recipes.tinybert_mindspore(tiny["learning_rate"], tiny["decay_steps"], tiny["warmup_steps"])
    assert (mindspore.weight_decay, mindspore.epsilon) == (tiny["weight_decay"], tiny["eps"])


def test_bert_adam_warms_up_by_a_share_of_the_steps():
    schedule = recipes.tinybert_bert_adam(1.0, 10, warmup=0.2).schedule
    np.testing.assert_allclose(_rates(schedule, 12), [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0, 0])
    assert set(_rates(recipes.tinybert_bert_adam(2.0, 10, constant=True).schedule, 5)) == {2.0}


def test_polynomial_decay_ends_where_it_should_and_stays_there():
    schedule = Schedule("mindspore", 1.0, 4, 0, end=0.1, power=2.0)
    np.testing.assert_allclose(_rates(schedule, 7), [1, 0.9 * 0.5625 + 0.1, 0.325, 0.9 * 0.0625 + 0.1, 0.1, 0.1, 0.1])
    cosine = recipes.xlnet_finetune(1.0, 6, 2, end_ratio=0.1, cosine=True).schedule
    np.testing.assert_allclose(_rates(cosine, 8)[[0, 1, 2, 4, 6, 7]], [0, 0.5, 1, 0.55, 0.1, 0.1])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Schedule("bert", 1e-3), "schedule.steps: wanted at least 1, got 0"),
        (lambda: Schedule("constant", -1), "schedule.peak: wanted at least 0, got -1"),
        (lambda: Schedule("xlnet", 1e-3, 5, 5), "schedule.warmup: wanted 0 to less than 5 for xlnet, got 5"),
        (lambda: Schedule("bert_adam", 1e-3, 5, 2), "schedule.warmup: wanted 0 to less than 1 for bert_adam, got 2"),
        (lambda: Schedule("bert", 1e-3, 5, decay="cosine"), "schedule.decay: wanted polynomial for bert, got cosine"),
        (lambda: Clip("global_norm", 0), "clip.norm: wanted more than 0, got 0"),
        (lambda: LossScale("static", 0), "loss_scale.scale: wanted more than 0, got 0"),
        (lambda: LossScale("dynamic", 2, 1), "loss_scale.factor: wanted more than 1, got 1"),
        (lambda: LossScale("dynamic", 2, 2, 0), "loss_scale.window: wanted at least 1, got 0"),
        (lambda: replace(ALL[0], beta1=1.0), "beta1: wanted 0 to less than 1, got 1.0"),
        (lambda: replace(ALL[0], beta2=-0.1), "beta2: wanted 0 to less than 1, got -0.1"),
        (lambda: replace(ALL[0], epsilon=-1e-6), "epsilon: wanted at least 0, got -1e-06"),
        (lambda: replace(ALL[0], weight_decay=-1), "weight_decay: wanted at least 0, got -1"),
        (lambda: replace(ALL[0], layer_decay=0), "layer_decay: wanted more than 0, got 0"),
    ],
)
def test_nonsense_is_refused_by_the_name_of_its_field(make, said):
    with pytest.raises(UsageError, match=f"^recipe: {said}$"):
        make()


def test_equal_recipes_have_equal_hashes_and_others_do_not():
    again = recipes.bert_finetune(1e-3, 30, 4)
    assert again.hash == ALL[0].hash
    assert len({recipe.hash for recipe in ALL}) == len(ALL)
    assert json.loads(json.dumps(ALL[0].to_dict()))["clip"]["rows"] == "apart"


def test_a_difference_names_the_field():
    assert ALL[0].diff(recipes.bert_finetune(1e-3, 30, 4)) == ()
    assert ALL[0].diff(replace(ALL[0], epsilon=1e-7, clip=Clip("per_tensor", 1.0, "apart"))) == (
        "epsilon: 1e-06, 1e-07",
        "clip.kind: global_norm, per_tensor",
    )


def test_with_and_without_weight_decay_xlnet_has_two_optimizers():
    adam, decayed = recipes.xlnet_finetune(1e-3, 9, 1), recipes.xlnet_finetune(1e-3, 9, 1, weight_decay=0.01)
    assert adam.bias_correction
    assert not decayed.bias_correction
    assert rates(decayed, 3).factor == 1.0
    first = rates(adam, 0)
    assert (first.factor, first.epsilon) == (pytest.approx(np.sqrt(0.001) / 0.1), 1e-8)
    torchs = rates(recipes.adamw(1e-3, 9), 0)
    assert torchs.epsilon == pytest.approx(1e-8 * np.sqrt(0.001))


def test_float32_subtracts_the_betas_with_its_own_rounding():
    assert complements(ALL[0]) == (pytest.approx(0.1, rel=1e-15), pytest.approx(0.001, rel=1e-12))
    first, second = complements(recipes.tinybert_mindspore(1e-3, 12, 2))
    assert second / 0.001 - 1 == pytest.approx(-1.3e-5, rel=0.1)
    assert abs(first / 0.1 - 1) < 3e-7


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5))
def test_a_dynamic_scale_stays_a_power_of_its_factor_and_above_one(overflows, window):
    loss_scale = LossScale("dynamic", 16.0, 2.0, window)
    scale = Scale.start(loss_scale)
    for overflow in overflows:
        before, scale = scale, scale.after(loss_scale, overflow=overflow)
        assert scale.value >= 1
        assert scale.value in {before.value, before.value * 2, max(before.value / 2, 1)}
        assert scale.good < window
    assert Scale(8.0).after(LossScale("static", 8.0), overflow=True).value == 8.0


@pytest.mark.parametrize(
    ("framework", "dialect"), [("pytorch", "hf"), ("tensorflow", "google"), ("mindspore", "modelzoo")]
)
@pytest.mark.parametrize(
    "recipe", [ALL[0], recipes.tinybert_mindspore(1e-3, 9, 1), recipes.adamw(1e-3, 9)], ids=lambda recipe: recipe.name
)
def test_every_framework_decays_the_same_parameters(framework, dialect, recipe):
    spared = {"LayerNorm/gamma", "LayerNorm/beta", "dense/bias", "output_bias"}
    treated = treatments(recipe, toy.TOY, framework, [toy.name_in(dialect, name) for name in toy.NAMES])
    for name in toy.NAMES:
        kept = any(name.endswith(end) for end in spared)
        assert treated[toy.name_in(dialect, name)] == Treatment(0.0 if kept else recipe.weight_decay)


def test_layers_count_from_the_top_and_what_has_none_is_not_scaled():
    recipe = replace(ALL[0], layer_decay=0.5)
    treated = treatments(recipe, toy.TOY, "pytorch", [toy.name_in("hf", name) for name in toy.NAMES])
    assert treated["bert.encoder.layer.0.intermediate.dense.weight"].scale == 0.5
    assert treated["bert.encoder.layer.1.intermediate.dense.bias"].scale == 1.0
    assert treated["classifier.weight"].scale == treated["bert.embeddings.word_embeddings.weight"].scale == 1.0


def test_xlnets_three_biases_are_decayed_though_they_are_biases():
    names = ["transformer.layer.0.rel_attn.r_w_bias", "transformer.layer.1.rel_attn.r_w_bias"]
    names += ["transformer.word_embedding.weight", "transformer.layer.0.ff.layer_1.bias"]
    names += [f"transformer.layer.{i}.rel_attn.{kernel}" for i in (0, 1) for kernel in "qkvor"]
    recipe = recipes.xlnet_finetune(1e-3, 9, 1, weight_decay=0.1, layer_decay=0.5)
    treated = treatments(recipe, model_named("xlnet"), "pytorch", names)
    assert treated[names[0]] == treated[names[1]] == Treatment(0.1, 1.0)  # one stacked tensor in the original
    assert treated["transformer.layer.0.ff.layer_1.bias"] == Treatment(0.0, 0.5)
    assert treated["transformer.layer.1.rel_attn.q"] == Treatment(0.1, 1.0)


def test_a_name_that_the_other_dialect_lacks_stays_what_it_is():
    found = names_in("xlnet", "google", "hf", ["model/transformer/word_embedding/lookup_table", "global/thing"])
    assert found["model/transformer/word_embedding/lookup_table"] == Named("transformer.word_embedding.weight")
    assert found["global/thing"] == Named("global/thing")


def test_tinyberts_distillation_net_decays_what_the_original_decays():
    manifest = json.loads((GOLDEN / "tinybert_c1/manifest.json").read_text())
    trained = [line[0] for line in manifest["parameters"]["BertNetworkWithLoss_gd"] if line[2:] != [False]]
    spec = model_named("tinybert")
    treated = treatments(recipes.tinybert_mindspore(1e-3, 12, 2), spec, "mindspore", trained)
    assert [name for name in trained if treated[name].decay] == manifest["decay_params"]["gd"]


def test_models_are_installed_and_unknown_ones_are_named():
    assert {"bert", "roberta", "tinybert", "xlnet"} <= set(models())
    with pytest.raises(UsageError, match="model gpt: not known; there are bert, roberta, tinybert, xlnet"):
        model_named("gpt")


def test_a_recipe_that_names_a_dialect_of_no_use_is_refused():
    with pytest.raises(UsageError, match="bert has no dialect for klingon"):
        treatments(replace(ALL[0], names_of="klingon"), toy.TOY, "pytorch", ["classifier.weight"])
    plain = Recipe("plain", Schedule("constant", 1e-3), names_of="klingon")
    assert treatments(plain, toy.TOY, "pytorch", ["anything"]) == {"anything": Treatment(0.01)}
