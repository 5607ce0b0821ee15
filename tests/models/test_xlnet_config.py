"""What an XLNet's config, batch and build refuse, and how configs of either origin are read."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from xlnet_support import CONFIG, build

import porting_xlnet
from porting.backends.protocol import Build
from porting.errors import UsageError
from porting.model.batch import check_batch
from porting_xlnet.config import SIZES, configure
from porting_xlnet.spec import SPEC, settled

GOOGLE = CONFIG.to_dict()
HF = {
    "model_type": "xlnet",
    "vocab_size": 50,
    "d_model": 24,
    "n_layer": 2,
    "n_head": 4,
    "d_inner": 40,
    "ff_activation": "gelu",
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_token", 0),
        ("n_layer", -1),
        ("n_head", 2.5),
        ("d_head", True),
        ("d_inner", "64"),
        ("d_model", 33),
        ("ff_activation", "gelu"),
        ("ff_activation", None),
        ("attn_type", "both"),
        ("summary_type", "cls_index"),
        ("untie_r", "yes"),
        ("dropout", 1.0),
        ("dropatt", -0.1),
        ("mem_len", -1),
        ("reuse_len", 1.5),
        ("clamp_len", None),
        ("bi_data", 1),
        ("start_n_top", 0),
        ("layer_norm_epsilon", 0),
        ("init_std", float("nan")),
    ],
)
def test_a_field_that_makes_no_sense_is_named(field, value):
    with pytest.raises(UsageError, match=rf"^xlnet config: {field}: wanted .*, got ") as caught:
        replace(CONFIG, **{field: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["n_token", "d_model", "n_layer", "n_head", "d_head", "d_inner"])
def test_a_size_that_is_missing_is_named(field):
    with pytest.raises(UsageError, match=f"missing {field}"):
        configure({name: value for name, value in GOOGLE.items() if name != field})


def test_gelu_is_the_tanh_form_to_google_and_erf_to_transformers():
    google = {**GOOGLE, "ff_activation": "gelu"}
    assert configure(google).ff_activation == "gelu_tanh"
    assert configure(HF).ff_activation == "gelu_erf"
    assert configure({**HF, "ff_activation": "gelu_new"}).ff_activation == "gelu_tanh"


def test_transformers_derives_the_width_of_heads_and_has_one_rate():
    read = configure({**HF, "dropout": 0.3})
    assert (read.d_head, read.dropatt, read.n_token, read.untie_r) == (6, 0.3, 50, True)
    with pytest.raises(UsageError, match=r"n_head: wanted a divisor of d_model 24, got 5"):
        configure({**HF, "n_head": 5})
    with pytest.raises(UsageError, match="d_head: wanted d_model / n_head, 6, got 8"):
        configure({**HF, "d_head": 8})


def test_transformers_own_config_is_read():
    transformers = pytest.importorskip("transformers")
    theirs = transformers.XLNetConfig(vocab_size=50, d_model=24, n_layer=2, n_head=4, d_inner=40, mem_len=None)
    read = configure(theirs.to_dict())
    assert (read.n_token, read.d_model, read.n_layer, read.n_head, read.d_head, read.mem_len) == (50, 24, 2, 4, 6, 0)
    assert read.layer_norm_epsilon == theirs.layer_norm_eps


@pytest.mark.parametrize(
    "other",
    [{"summary_use_proj": False}, {"summary_activation": None}, {"tie_word_embeddings": False}],
)
def test_what_transformers_can_do_and_the_ports_cannot_is_refused(other):
    with pytest.raises(UsageError, match=r"summary_activation|tie_word_embeddings"):
        configure({**HF, **other})
    assert not configure({**HF, "summary_use_proj": False, "summary_activation": None}).use_summ_proj


def test_a_config_comes_back_from_its_values():
    odd = replace(CONFIG, ff_activation="silu", attn_type="uni", mem_len=5, d_head=3)
    assert configure(json.loads(json.dumps(odd.to_dict()))) == odd


@pytest.mark.parametrize("name", SIZES)
def test_published_configs_are_the_sizes(name):
    folder = Path(porting_xlnet.__file__).parents[1] / "configs"
    assert configure(json.loads((folder / f"{name}.json").read_text())) == SIZES[name]


def test_flags_of_a_run_come_with_the_build():
    flags = settled(CONFIG, build("encoder", mem_len=3, clamp_len=2))
    assert (flags.mem_len, flags.clamp_len, flags.d_model) == (3, 2, CONFIG.d_model)
    with pytest.raises(UsageError, match="summary_type"):
        settled(CONFIG, build("classification", summary_type="max"))
    with pytest.raises(UsageError, match="labels: wanted 1 or more, got 0"):
        settled(CONFIG, Build("classification", labels=0))


def test_batches_out_of_bounds_are_refused():
    ids = np.zeros((2, 5), np.int32)
    check_batch(SPEC, CONFIG, build("encoder"), {"input_ids": ids})
    with pytest.raises(UsageError, match=r"input_ids\[0, 0\] is 101"):
        check_batch(SPEC, CONFIG, build("encoder"), {"input_ids": ids + 101})
    with pytest.raises(UsageError, match=r"perm_mask: seq'? is 4, "):
        check_batch(SPEC, CONFIG, build("encoder"), {"input_ids": ids, "perm_mask": np.zeros((2, 4, 4), np.float32)})
    with pytest.raises(UsageError, match="p_mask"):
        check_batch(SPEC, CONFIG, build("question_answering"), {"input_ids": ids})


def test_sites_have_the_shapes_of_what_they_drop():
    shapes = {"input_k": (2, 5), "input_q": (2, 5), "target_mapping": (2, 3, 5), "mems": (3, 4, 2, 32)}
    found = SPEC.sites(CONFIG, build("pretraining"), shapes)
    assert found["positions"].shape == (2, 9 + 5, 32)
    assert found["layer.2.query.attention.probs"].shape == (2, 4, 5, 9)
    assert found["layer.0.query.ffn.inner"].shape == (2, 3, 64)
    assert found["sequence"].shape == (2, 3, 32)
    assert not SPEC.sites(replace(CONFIG, dropout=0.0, dropatt=0.0), build("pretraining"), shapes)
    attention = SPEC.sites(CONFIG, build("classification", summary_type="attn"), {"input_ids": (2, 5)})
    assert attention["summary.probs"].shape == (2, 4, 1, 5)
