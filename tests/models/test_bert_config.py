"""Configs of BERT and RoBERTa: what they mean, what they refuse, and the names the ports give their parameters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bert_support import FRAMEWORKS, PACKAGES, config, session

from porting.backends.protocol import Build
from porting.convert.find import find
from porting.convert.registry import families
from porting.errors import UsageError
from porting.model.registry import models
from porting.model.spec import ModelSpec
from porting_bert.spec import ROBERTA, SPEC

CONFIGS = Path(__file__).parents[2] / "models" / "bert" / "configs"
TINY = {
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 6,
    "max_position_embeddings": 12,
}


@pytest.mark.parametrize("spec", [SPEC, ROBERTA], ids=["bert", "roberta"])
def test_every_published_size_has_its_file_and_reads_from_it(spec: ModelSpec):
    for name, size in spec.sizes.items():
        assert spec.configure(json.loads((CONFIGS / f"{name}.json").read_text())) == size


def test_every_file_is_a_size():
    assert {path.stem for path in CONFIGS.iterdir()} == {*SPEC.sizes, *ROBERTA.sizes}


@pytest.mark.parametrize("spec", [SPEC, ROBERTA], ids=["bert", "roberta"])
def test_a_config_reads_back_from_what_it_writes(spec):
    for size in spec.sizes.values():
        assert spec.configure(json.loads(json.dumps(size.to_dict()))) == size


def test_the_specs_are_registered():
    assert models()["bert"] is SPEC
    assert models()["roberta"] is ROBERTA


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, "gelu_tanh"),
        ({"model_type": "bert"}, "gelu_erf"),
        ({"architectures": ["BertModel"]}, "gelu_erf"),
        ({"model_type": "bert", "hidden_act": "gelu_new"}, "gelu_tanh"),
        ({"hidden_act": "relu"}, "relu"),
        ({"hidden_act": None}, "linear"),
        ({"hidden_act": "swish"}, "silu"),
    ],
)
def test_gelu_means_what_the_files_author_meant(more, wanted):
    assert SPEC.configure(TINY | more).hidden_act == wanted


def test_robertas_gelu_is_erf_always():
    assert ROBERTA.configure(TINY).hidden_act == "gelu_erf"


def test_roberta_has_fewer_places_than_rows_in_its_table():
    assert ROBERTA.sizes["roberta-base"].longest == 512
    assert ROBERTA.bounds(ROBERTA.sizes["roberta-base"])["seq"] == 512


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_attention_heads", 3),
        ("num_attention_heads", 0),
        ("hidden_size", -8),
        ("hidden_size", 8.0),
        ("hidden_size", "8"),
        ("vocab_size", True),
        ("num_hidden_layers", 0),
        ("intermediate_size", 0),
        ("max_position_embeddings", 0),
        ("type_vocab_size", 0),
        ("hidden_act", "gelu_wrong"),
        ("hidden_act", ["gelu"]),
        ("hidden_dropout_prob", 1.0),
        ("hidden_dropout_prob", -0.1),
        ("attention_probs_dropout_prob", float("nan")),
        ("classifier_dropout", 2),
        ("layer_norm_eps", 0),
        ("layer_norm_eps", "1e-12"),
        ("initializer_range", float("inf")),
        ("pad_token_id", 11),
        ("pad_token_id", -1),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("tie_word_embeddings", False),
        ("model_type", "xlnet"),
    ],
)
@pytest.mark.parametrize("spec", [SPEC, ROBERTA], ids=["bert", "roberta"])
def test_a_config_that_makes_no_sense_is_refused_in_one_line_that_names_the_field(spec, field, value):
    with pytest.raises(UsageError) as caught:
        spec.configure(TINY | {field: value})
    assert f"{field}: wanted " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sizes_that_a_config_lacks_are_named_together():
    with pytest.raises(UsageError, match="vocab_size, num_attention_heads: wanted"):
        SPEC.configure({name: TINY[name] for name in ("hidden_size", "num_hidden_layers", "intermediate_size")})


def test_roberta_refuses_a_table_without_a_place_for_the_first_token():
    with pytest.raises(UsageError, match="max_position_embeddings: wanted above pad_token_id"):
        ROBERTA.configure(TINY | {"max_position_embeddings": 2})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("spec", [SPEC, ROBERTA], ids=["bert", "roberta"])
def test_every_parameter_has_a_name_that_the_family_knows(spec, framework):
    pytest.importorskip(PACKAGES[framework])
    family, dialect = families()[spec.family], spec.dialects[framework]
    for task in spec.tasks:
        shapes = session(framework, spec, _sizes(spec), Build(task.name)).parameters
        match = find(tuple(shapes), {spec.family: family}, sizes=shapes, family=spec.family, dialect=dialect)
        assert match.unknown == ()
        assert match.dialect.name == dialect


def _sizes(spec):
    return config() if spec is SPEC else ROBERTA.configure(TINY)


@pytest.mark.torch
def test_what_a_model_has_not_is_refused():
    with pytest.raises(UsageError, match="no task pretraining"):
        session("pytorch", ROBERTA, ROBERTA.configure(TINY), Build("pretraining"))
    with pytest.raises(UsageError, match="labels: wanted 1 or more, got 0"):
        session("pytorch", SPEC, SPEC.configure(TINY), Build("classification", labels=0))
    with pytest.raises(UsageError, match="attention: wanted one of eager, sdpa, got flash"):
        session("pytorch", SPEC, SPEC.configure(TINY), Build("encoder", extra={"attention": "flash"}))
