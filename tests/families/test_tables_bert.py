"""BERT converted from Google's checkpoint computes what Google's code computed."""

import json

import numpy as np
import pytest

from porting.checkpoint.registry import read
from porting.convert.convert import convert

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def converted(golden, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    convert(golden / "bert_a1/bert_model.ckpt", folder / "model.safetensors", to="hf")
    return folder / "model.safetensors"


@pytest.fixture(scope="module")
def config(golden, transformers):
    values = json.loads((golden / "bert_a1/bert_config.json").read_text())
    return transformers.BertConfig(**{**values, "hidden_act": "gelu_new", "layer_norm_eps": 1e-12}, num_labels=3)


@pytest.fixture(scope="module")
def batch(golden, torch):
    with np.load(golden / "bert_a1/inputs.npz") as stored:
        inputs = {name: torch.from_numpy(stored[name]).long() for name in stored.files if name != "masked_lm_weights"}
    return inputs, {
        "input_ids": inputs["input_ids"],
        "attention_mask": inputs["input_mask"],
        "token_type_ids": inputs["segment_ids"],
    }


def test_pretraining_outputs_are_googles(golden, converted, config, batch, torch, transformers, load, near):
    inputs, features = batch
    wanted = np.load(golden / "bert_a1/outputs.npz")
    model = load(
        transformers.BertForPreTraining(config), converted, unexpected=["classifier.weight", "classifier.bias"]
    )
    with torch.no_grad():
        found = model(**features, output_hidden_states=True)
    np.testing.assert_allclose(found.hidden_states[0], wanted["embedding_output"], **near("bert_a1"))
    np.testing.assert_allclose(found.hidden_states[-1], wanted["sequence_output"], **near("bert_a1"))
    scores = found.prediction_logits.log_softmax(-1)
    picked = torch.stack([scores[i, at] for i, at in enumerate(inputs["masked_lm_positions"])]).reshape(20, -1)
    np.testing.assert_allclose(picked, wanted["masked_lm_log_probs"], **near("bert_a1"))
    relation = found.seq_relationship_logits.log_softmax(-1)
    np.testing.assert_allclose(relation, wanted["next_sentence_log_probs"], **near("bert_a1"))


def test_classifier_outputs_are_googles(golden, converted, config, batch, torch, transformers, load, near):
    wanted = np.load(golden / "bert_a1/outputs.npz")
    heads = [name for name in read(converted) if name.startswith("cls.")]
    model = load(transformers.BertForSequenceClassification(config), converted, unexpected=heads)
    with torch.no_grad():
        found = model(**batch[1])
    np.testing.assert_allclose(found.logits, wanted["cls_logits"], **near("bert_a1"))


@pytest.mark.parametrize("path", [("hf",), ("modelzoo",), ("mindnlp",), ("modelzoo", "hf", "mindnlp")], ids="-".join)
def test_there_and_back_is_identical(golden, tmp_path, path, identical):
    here = golden / "bert_a1/bert_model.ckpt"
    for i, dialect in enumerate(path):
        there = tmp_path / f"{i}.{dialect}.safetensors"
        convert(here, there, to=dialect, format="safetensors")
        here = there
    convert(here, tmp_path / "back.ckpt", to="google", config=golden / "bert_a1/bert_config.json")
    identical(golden / "bert_a1/bert_model.ckpt", tmp_path / "back.ckpt")


def test_a_reference_with_tied_copies_gets_them(golden, tmp_path, config, torch, transformers):
    model = transformers.BertForPreTraining(config)
    torch.save(model.state_dict(), tmp_path / "reference.bin")
    ledger = convert(
        golden / "bert_a1/bert_model.ckpt",
        tmp_path / "out.bin",
        to="hf",
        like=tmp_path / "reference.bin",
        allow_unexpected=["classifier.*"],
    )
    assert len(ledger.tensors) == len(model.state_dict())
    model.load_state_dict(torch.load(tmp_path / "out.bin", weights_only=True), strict=True)
    copies = model.cls.predictions.decoder.weight, model.bert.embeddings.word_embeddings.weight
    assert torch.equal(*copies)


@pytest.mark.parametrize("square", ["vocab", "positions", "inner", "all"])
def test_square_weights_are_right_by_the_table(tmp_path, transformers, torch, square):
    sizes = {"vocab_size": 30, "max_position_embeddings": 10, "intermediate_size": 12}
    keys = {"vocab": ["vocab_size"], "positions": ["max_position_embeddings"], "inner": ["intermediate_size"]}
    sizes |= dict.fromkeys(keys.get(square, list(sizes)), 8)
    torch.manual_seed(1)
    config = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, **sizes)
    model = transformers.BertForPreTraining(config)
    model.save_pretrained(tmp_path / "model")
    convert(tmp_path / "model/model.safetensors", tmp_path / "bert.ckpt", to="google")
    google = read(tmp_path / "bert.ckpt")
    table = model.bert.embeddings.word_embeddings.weight.detach().numpy()
    kernel = model.bert.encoder.layer[0].attention.self.query.weight.detach().numpy()
    inner = model.bert.encoder.layer[0].intermediate.dense.weight.detach().numpy()
    assert np.array_equal(google["bert/embeddings/word_embeddings"].read(), table)
    assert np.array_equal(google["bert/encoder/layer_0/attention/self/query/kernel"].read(), kernel.T)
    assert np.array_equal(google["bert/encoder/layer_0/intermediate/dense/kernel"].read(), inner.T)
    weights = model.cls.seq_relationship.weight.detach().numpy()
    assert np.array_equal(google["cls/seq_relationship/output_weights"].read(), weights)
