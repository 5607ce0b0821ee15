"""Configs, nets and taps of TinyBERT, without a framework."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tinybert_support import FRAMEWORKS, MANIFEST, Net, build, config, original_config

from porting.backends.feed import known_taps
from porting.errors import UsageError
from porting_tinybert.config import TinyBertConfig, configure
from porting_tinybert.layout import layout, sites
from porting_tinybert.spec import SIZES, SPEC

CONFIGS = Path(__file__).parents[2] / "models/tinybert/configs"
SMALL = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "hidden_act": "gelu",
}


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes_are_the_config_files(name):
    assert configure(json.loads((CONFIGS / f"{name}.json").read_text())) == SIZES[name]
    assert {path.stem for path in CONFIGS.glob("*.json")} == set(SIZES)


@pytest.mark.parametrize(
    ("marks", "act", "epsilon", "padding"),
    [
        ({"use_relative_positions": False}, "gelu_tanh", 1e-7, None),
        ({"compute_type": "Float16"}, "gelu_tanh", 1e-7, None),
        ({"pre_trained": "", "training": ""}, "gelu_erf", 1e-12, 0),
        ({"emb_size": 8}, "gelu_erf", 1e-12, 0),
        ({"model_type": "bert"}, "gelu_erf", 1e-12, 0),
        ({"architectures": ["BertModel"], "pad_token_id": 3, "layer_norm_eps": 1e-5}, "gelu_erf", 1e-5, 3),
        ({}, "gelu_tanh", 1e-12, None),
        ({"hidden_act": "gelu_new", "model_type": "bert"}, "gelu_tanh", 1e-12, 0),
    ],
)
def test_what_a_file_leaves_unsaid_is_decided_by_its_origin(marks, act, epsilon, padding):
    found = configure({**SMALL, **marks})
    assert (found.hidden_act, found.layer_norm_eps, found.padding_idx) == (act, epsilon, padding)


def test_a_teacher_without_marks_is_of_its_students_origin():
    found = configure({**SMALL, "pre_trained": "", "teacher": SMALL})
    assert (found.taught().hidden_act, found.taught().padding_idx) == ("gelu_erf", 0)
    marked = configure({**SMALL, "pre_trained": "", "teacher": {**SMALL, "compute_type": "Float32"}})
    assert marked.taught().hidden_act == "gelu_tanh"


@pytest.mark.parametrize("one", [config(), original_config(), *SIZES.values()])
def test_configs_are_read_back_as_they_are_written(one):
    assert configure(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 3}, "num_attention_heads: wanted a divisor of hidden_size 8, got 3"),
        ({"vocab_size": 0}, "vocab_size: wanted a whole number above 0, got 0"),
        ({"num_hidden_layers": 2.0}, "num_hidden_layers"),
        ({"hidden_act": "mish"}, "hidden_act: wanted one of gelu, gelu_new"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob"),
        ({"attention_probs_dropout_prob": -0.1}, "attention_probs_dropout_prob"),
        ({"layer_norm_eps": 0}, "layer_norm_eps"),
        ({"padding_idx": 30}, "padding_idx: wanted none or an id below vocab_size 30, got 30"),
        ({"temperature": 0}, "temperature: wanted a finite number above 0, got 0"),
        ({"temperature": float("nan")}, "temperature"),
        ({"pooled_activation": "gelu"}, "pooled_activation: wanted relu or dropout, got gelu"),
        ({"use_relative_positions": True}, "use_relative_positions"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type: wanted 'absolute'"),
        ({"model_type": "roberta"}, "model_type: wanted bert, got 'roberta'"),
        ({"teacher": {**SMALL, "hidden_size": 9}}, "teacher: bert config: num_attention_heads: wanted a divisor"),
        ({"teacher": 3}, "teacher: wanted the values of a config file, got 3"),
        (
            {"teacher": {**SMALL, "num_attention_heads": 4}},
            "teacher.num_attention_heads: wanted 2 as the student, got 4",
        ),
        (
            {"teacher": {**SMALL, "num_hidden_layers": 5}},
            "teacher.num_hidden_layers: wanted a multiple of the student's 2",
        ),
        ({"teacher": {**SMALL, "vocab_size": 31}}, "teacher.vocab_size: wanted 30 as the student, got 31"),
        ({"teacher": {**SMALL, "max_position_embeddings": 4}}, "teacher.max_position_embeddings: wanted at least"),
        ({"teacher": {**SMALL, "teacher": SMALL}}, "teacher.teacher: wanted none"),
    ],
)
def test_configs_that_make_no_sense_are_refused_by_field(changes, message):
    with pytest.raises(UsageError) as error:
        configure({**SMALL, **changes})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("missing", [name for name in SMALL if name != "hidden_act"])
def test_a_size_that_is_missing_is_named(missing):
    with pytest.raises(UsageError, match=f"{missing}: wanted, got nothing"):
        configure({name: value for name, value in SMALL.items() if name != missing})


@pytest.mark.parametrize(
    ("task", "changes", "labels", "message"),
    [
        ("general_distill", {"teacher": None}, 3, "teacher: wanted the teacher's config"),
        ("teacher", {"teacher": None}, 3, "teacher: wanted the teacher's config"),
        ("task_distill_2", {}, 1, "labels: wanted 2 or more for task_distill_2, got 1"),
        ("regression", {}, 3, "labels: wanted 1 for regression, got 3"),
        ("mlm", {}, 3, "no task mlm; there are student"),
    ],
)
def test_tasks_that_do_not_fit_are_refused_before_anything_is_built(task, changes, labels, message):
    with pytest.raises(UsageError, match=message):
        layout(config(**changes), build(task, labels=labels))


@pytest.mark.parametrize("task", [task.name for task in SPEC.tasks])
def test_every_tap_of_a_net_is_in_the_spec(task):
    net = layout(config(), build(task, labels=1 if task == "regression" else 3))
    assert known_taps(SPEC, net.taps()) == frozenset(net.taps())
    assert SPEC.task(task).outputs == tuple(name for name in net.outputs() if name != "loss")
    assert set(net.outputs()) <= set(net.taps())


def test_teachers_of_twelve_layers_teach_every_third_or_second():
    three = layout(SIZES["tinybert-4-312"], build("general_distill"))
    assert [theirs for _, theirs in three.pairs()] == [f"teacher.layer.{i}.attention.scores" for i in (2, 5, 8, 11)]
    states = [theirs for _, theirs in three.representations()]
    assert states == ["teacher.encoder.input", *(f"teacher.layer.{i}.output" for i in (2, 5, 8, 11))]
    two = layout(SIZES["tinybert-6-768"], build("general_distill"))
    assert [theirs for _, theirs in two.pairs()] == [f"teacher.layer.{i}.attention.scores" for i in (1, 3, 5, 7, 9, 11)]


def test_sites_are_those_of_the_part_that_trains():
    one = replace(config(), hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.2)
    found = sites(one, build("general_distill"), {"input_ids": (2, 5)})
    assert len(found) == 1 + 3 * 2
    assert found["layer.1.attention.probs"].shape == (2, 4, 5, 5)
    assert found["embeddings"].shape == (2, 5, 20)
    dropping = replace(one, pooled_activation="dropout", attention_probs_dropout_prob=0.0)
    assert sites(dropping, build("classification"), {"input_ids": (2, 5)})["pooled"].shape == (2, 20)
    assert "layer.0.attention.probs" not in sites(dropping, build("token_classification"), {"input_ids": (2, 5)})


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_batches_that_no_model_could_take_are_refused(framework):
    net = Net(framework, config(), build("student"))
    ids = np.zeros((1, 3), np.int32)
    for batch, message in (
        ({"input_ids": ids + 97}, r"input_ids\[0, 0\] is 97.*vocab_size"),
        ({"input_ids": np.zeros((1, 41), np.int32)}, "41, the model takes 40"),
        ({"input_ids": ids, "segment_ids": ids + 2}, r"segment_ids\[0, 0\] is 2.*type_vocab_size"),
        ({"input_ids": ids, "label_ids": ids[0]}, "no feature label_ids"),
    ):
        with pytest.raises(UsageError, match=message):
            net.session.forward(batch)
    with pytest.raises(UsageError, match="tap"):
        net.session.forward({"input_ids": ids}, ["layer.7.output"])


def test_the_spec_needs_no_framework():
    code = "import sys, porting_tinybert.spec; print({'torch', 'tensorflow', 'mindspore'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "set()"


def test_the_golden_case_is_read_as_modelzoos():
    assert MANIFEST["source"].startswith("mindspore-ai/models")
    assert config().hidden_act == config().taught().hidden_act == "gelu_tanh"
    assert config().taught().layer_norm_eps == 1e-7
    assert isinstance(original_config(), TinyBertConfig)
    assert original_config().hidden_act == "gelu_erf"


def test_a_layer_map_chooses_among_the_teachers_layers():
    chosen = replace(SIZES["tinybert-4-312"], layer_map=(0, 4, 4, 10))
    net = layout(chosen, build("general_distill"))
    assert [theirs for _, theirs in net.pairs()] == [f"teacher.layer.{i}.attention.scores" for i in (0, 4, 4, 10)]
    states = ["teacher.encoder.input", *(f"teacher.layer.{i}.output" for i in (0, 4, 4, 10))]
    assert [theirs for _, theirs in net.representations()] == states
    assert configure(json.loads(json.dumps(chosen.to_dict()))) == chosen
    assert "layer_map" not in SIZES["tinybert-4-312"].to_dict()


def test_a_student_whose_layers_do_not_divide_the_teachers_wants_a_layer_map():
    values = {**SMALL, "num_hidden_layers": 4, "teacher": {**SMALL, "num_hidden_layers": 6}}
    with pytest.raises(UsageError, match="a multiple of the student's 4, or a layer_map, got 6"):
        configure(values)
    assert configure({**values, "layer_map": [0, 2, 3, 5]}).teacher_layers == (0, 2, 3, 5)


@pytest.mark.parametrize("chosen", [[1], [0, 1, 2], [1, 0], [0, 2], [-1, 1], "0,1", [0.5, 1], [True, 1]])
def test_a_layer_map_that_makes_no_sense_is_refused(chosen):
    with pytest.raises(UsageError, match="tinybert: layer_map: wanted "):
        configure({**SMALL, "layer_map": chosen, "teacher": SMALL})
