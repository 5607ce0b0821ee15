"""TinyBERT's checkpoints and distillation nets through every dialect and back."""

import json

import numpy as np
import pytest

from porting.checkpoint.registry import read
from porting.convert.convert import convert

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    "file", ["student_gd", "student_td1", "student_after_td2", "teacher_cls", "teacher_pretrained"]
)
@pytest.mark.parametrize("dialect", ["hf", "tensorflow"])
def test_there_and_back_is_identical(golden, tmp_path, file, dialect, identical):
    source = golden / f"tinybert_c1/{file}.ckpt"
    ledger = convert(source, tmp_path / "there.npz", to=dialect, format="npz")
    convert(tmp_path / "there.npz", tmp_path / "back.ckpt", to="modelzoo", family=ledger.family)
    identical(source, tmp_path / "back.ckpt")


@pytest.mark.parametrize("net", ["BertNetworkWithLoss_gd", "BertNetworkWithLoss_td"])
@pytest.mark.parametrize("dialect", ["hf", "kit_tf"])
def test_a_net_of_teacher_and_student(golden, tmp_path, net, dialect, identical):
    parameters = json.loads((golden / "tinybert_c1/manifest.json").read_text())["parameters"][net]
    random = np.random.default_rng(3)
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape, *_ in parameters}
    np.savez(tmp_path / "net.npz", **arrays)
    convert(tmp_path / "net.npz", tmp_path / "there.npz", to=dialect, format="npz", config="none")
    there = read(tmp_path / "there.npz")
    table = "word_embeddings" if dialect == "kit_tf" else "word_embeddings.weight"
    assert sorted(there[name].shape for name in there if name.endswith(table)) == [(97, 20), (97, 32)]
    kernel = there["fit_dense/kernel"].read().T if dialect == "kit_tf" else there["fit_dense.weight"].read()
    assert np.array_equal(kernel, arrays["fit_dense.weight"])
    convert(tmp_path / "there.npz", tmp_path / "back.npz", to="modelzoo", format="npz", like=tmp_path / "net.npz")
    identical(tmp_path / "net.npz", tmp_path / "back.npz")


def test_the_student_in_transformers_computes_what_mindspore_computed(
    golden, tmp_path, torch, transformers, load, near
):
    folder = golden / "tinybert_c1"
    values = json.loads((folder / "manifest.json").read_text())["student_config"]
    convert(folder / "student_gd.ckpt", tmp_path / "model.safetensors", to="hf", config="none", prefix="")
    keys = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "type_vocab_size",
    )
    config = transformers.BertConfig(
        **{key: values[key] for key in keys},
        hidden_act="gelu_new",
        layer_norm_eps=1e-7,
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
    )
    model = load(transformers.BertModel(config), tmp_path / "model.safetensors")
    inputs, wanted = np.load(folder / "inputs.npz"), np.load(folder / "outputs.npz")
    with torch.no_grad():
        found = model(
            input_ids=torch.from_numpy(inputs["input_ids"]).long(),
            attention_mask=torch.from_numpy(inputs["input_mask"]).long(),
            token_type_ids=torch.from_numpy(inputs["segment_ids"]).long(),
        )
    np.testing.assert_allclose(found.pooler_output, wanted["student/pooled_output"], **near("tinybert_c1"))
    sequence = wanted["student/sequence_output"].reshape(found.last_hidden_state.shape)
    np.testing.assert_allclose(found.last_hidden_state, sequence, **near("tinybert_c1"))
