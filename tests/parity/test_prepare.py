"""Subjects: what a user names becomes a config, weights in the first dialect, and a batch, the same on every side."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from porting.checkpoint.write import write
from porting.convert.convert import convert
from porting.errors import FormatError, MismatchError, UsageError
from porting.model.batch import check_batch
from porting.model.registry import models
from porting.parity.naming import naming_of
from porting.parity.prepare import batch_of, content_hash, weights_of
from porting.parity.subject import Subject, subject
from porting.testing.tiny import tiny

CASES = [(spec.name, task.name) for spec in models().values() for task in spec.tasks]
everywhere = pytest.mark.parametrize(("name", "task"), CASES)

BACKBONE = {
    "embeddings/word_embeddings": (50, 32),
    "embeddings/token_type_embeddings": (2, 32),
    "embeddings/position_embeddings": (20, 32),
    "embeddings/LayerNorm/gamma": (32,),
    "embeddings/LayerNorm/beta": (32,),
}
LAYER = {
    **{f"attention/self/{part}/kernel": (32, 32) for part in ("query", "key", "value")},
    **{f"attention/self/{part}/bias": (32,) for part in ("query", "key", "value")},
    "attention/output/dense/kernel": (32, 32),
    "attention/output/dense/bias": (32,),
    "attention/output/LayerNorm/gamma": (32,),
    "attention/output/LayerNorm/beta": (32,),
    "intermediate/dense/kernel": (32, 64),
    "intermediate/dense/bias": (64,),
    "output/dense/kernel": (64, 32),
    "output/dense/bias": (32,),
    "output/LayerNorm/gamma": (32,),
    "output/LayerNorm/beta": (32,),
}
POOLER = {"bert/pooler/dense/kernel": (32, 32), "bert/pooler/dense/bias": (32,)}
HEAD = {"output_weights": (3, 32), "output_bias": (3,)}
BERT = {
    **{f"bert/{name}": shape for name, shape in BACKBONE.items()},
    **{f"bert/encoder/layer_{i}/{name}": shape for i in range(2) for name, shape in LAYER.items()},
    **POOLER,
}
"""Shapes of a tiny BERT in Google's dialect, the family's first."""


@pytest.fixture
def checkpoint(tmp_path):
    """A tiny BERT of Google's dialect with a classifier of three classes, and its config beside it."""
    random = np.random.default_rng(0)
    tensors = {name: random.standard_normal(shape).astype(np.float32) for name, shape in {**BERT, **HEAD}.items()}
    write(tmp_path / "google.npz", tensors, format="npz")
    (tmp_path / "bert_config.json").write_text(json.dumps(tiny(models()["bert"]).to_dict()))
    return tmp_path / "google.npz", tensors


def asked(**changes):
    return replace(subject("bert", task="classification", labels=3), **changes)


def wanted(shapes=BERT):
    return {**shapes, **HEAD}


@everywhere
def test_a_drawn_batch_fits_and_is_the_same_again(name, task):
    one = subject(name, task=task)
    build = one.build()
    batch = batch_of(one, build)
    check_batch(one.spec, one.configured(), build, batch)
    assert content_hash(batch) == content_hash(batch_of(one, build))
    assert content_hash(batch) != content_hash(batch_of(replace(one, seed=1), build))


def test_sizes_of_a_drawn_batch():
    one = asked(examples=7, length=9)
    assert batch_of(one, one.build())["input_ids"].shape == (7, 9)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_batch_from_a_file(tmp_path, suffix):
    one = asked()
    batch = batch_of(one, one.build())
    write(tmp_path / f"batch.{suffix}", batch, format=suffix)
    found = batch_of(asked(batch=str(tmp_path / f"batch.{suffix}")), one.build())
    assert content_hash(found) == content_hash(batch)


def test_a_batch_that_does_not_fit_is_refused(tmp_path):
    np.savez(tmp_path / "batch.npz", input_ids=np.full((2, 4), 50, np.int32))
    one = asked(batch=str(tmp_path / "batch.npz"))
    with pytest.raises(UsageError, match=r"bert classification: input_ids\[0, 0\] is 50, wanted 0 to 49"):
        batch_of(one, one.build())
    np.savez(tmp_path / "batch.npz", ids=np.zeros((2, 4), np.int32))
    with pytest.raises(UsageError, match="bert classification: no feature ids; there are input_ids"):
        batch_of(one, one.build())
    (tmp_path / "batch.npz").write_bytes(b"nothing")
    with pytest.raises(FormatError):
        batch_of(one, one.build())


def test_weights_of_a_seed_are_drawn_by_name_whatever_is_drawn_beside():
    one = asked()
    weights, notes = weights_of(one, one.build(), wanted())
    assert notes == ()
    assert {name: value.shape for name, value in weights.items()} == wanted()
    more, _ = weights_of(one, one.build(), {**wanted(), "cls/squad/output_bias": (2,)})
    np.testing.assert_array_equal(more["output_weights"], weights["output_weights"])
    other, _ = weights_of(asked(seed=1), one.build(), wanted())
    assert not np.array_equal(other["output_weights"], weights["output_weights"])
    for name, value in weights.items():
        assert value.dtype == np.float32
        assert np.ptp(value) > 0, name  # a missing bias shows


def test_a_checkpoint_of_any_dialect_is_the_same_weights(checkpoint, tmp_path):
    path, tensors = checkpoint
    one = asked(checkpoint=str(path))
    weights, notes = weights_of(one, one.build(), wanted())
    assert notes == ()
    for name, value in tensors.items():
        np.testing.assert_array_equal(weights[name], value, err_msg=name)
    for dialect, suffix in (("hf", "safetensors"), ("modelzoo", "ckpt"), ("mindnlp", "ckpt")):
        convert(path, tmp_path / f"{dialect}.{suffix}", to=dialect)
        other, _ = weights_of(asked(checkpoint=str(tmp_path / f"{dialect}.{suffix}")), one.build(), wanted())
        assert content_hash(other) == content_hash(weights), dialect


def test_a_head_that_a_checkpoint_lacks_is_drawn_and_told(checkpoint, tmp_path):
    _, tensors = checkpoint
    bare = {name: value for name, value in tensors.items() if name not in HEAD}
    write(tmp_path / "bare.npz", bare, format="npz")
    one = asked(checkpoint=str(tmp_path / "bare.npz"))
    weights, notes = weights_of(one, one.build(), wanted())
    assert notes == ("not in the checkpoint, drawn: output_weights", "not in the checkpoint, drawn: output_bias")
    drawn, _ = weights_of(asked(), one.build(), wanted())
    np.testing.assert_array_equal(weights["output_weights"], drawn["output_weights"])
    np.testing.assert_array_equal(weights["bert/pooler/dense/bias"], tensors["bert/pooler/dense/bias"])


def test_a_checkpoint_that_is_not_whole_is_refused(checkpoint, tmp_path):
    _, tensors = checkpoint
    left = {name: value for name, value in tensors.items() if "layer_1/output/dense" not in name}
    write(tmp_path / "left.npz", left, format="npz")
    one = asked(checkpoint=str(tmp_path / "left.npz"))
    with pytest.raises(MismatchError) as error:
        weights_of(one, one.build(), wanted())
    assert any("bert/encoder/layer_1/output/dense/kernel  missing" in line for line in error.value.problems)


def test_a_checkpoint_of_another_size_is_refused(checkpoint):
    path, _ = checkpoint
    one = asked(checkpoint=str(path))
    with pytest.raises(MismatchError) as error:
        weights_of(one, one.build(), {**wanted(), "output_bias": (2,), "output_weights": (2, 32)})
    assert error.value.problems == (
        "output_weights: the model wants (2, 32), the checkpoint has (3, 32)",
        "output_bias: the model wants (2,), the checkpoint has (3,)",
    )


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    write(tmp_path / "other.npz", {"some/weight": np.zeros((2, 2), np.float32)}, format="npz")
    one = asked(checkpoint=str(tmp_path / "other.npz"))
    with pytest.raises(MismatchError, match="no family fits these names"):
        weights_of(one, one.build(), wanted())
    with pytest.raises(FormatError):
        weights_of(asked(checkpoint=str(tmp_path / "none.npz")), one.build(), wanted())


def test_a_subject_from_names(checkpoint, tmp_path):
    path, _ = checkpoint
    assert subject("bert-base").configured() == models()["bert"].sizes["bert-base"]
    assert subject("roberta-base").model == "roberta"
    assert subject("bert", checkpoint=path).configured() == tiny(models()["bert"])
    (tmp_path / "own.json").write_text(json.dumps({**tiny(models()["bert"]).to_dict(), "num_hidden_layers": 1}))
    assert subject("bert", config=tmp_path / "own.json").config["num_hidden_layers"] == 1
    assert subject("bert", task="regression").labels == 1


def test_classes_are_those_of_the_checkpoint(checkpoint, tmp_path):
    path, tensors = checkpoint
    assert subject("bert", checkpoint=path, task="classification").labels == 3
    assert subject("bert", checkpoint=path, task="classification", labels=2).labels == 2
    assert subject("bert", checkpoint=path, task="regression").labels == 1
    write(tmp_path / "bare.npz", {name: value for name, value in tensors.items() if name not in HEAD}, format="npz")
    assert subject("bert", checkpoint=tmp_path / "bare.npz", task="classification").labels == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"model": "birt"}, r"model birt: not known; there are bert, .*, and the sizes bert-tiny, "),
        ({"model": "bert", "task": "sing"}, "bert: no task sing; there are encoder, "),
        ({"model": "bert", "config": "none.json"}, "none.json"),
    ],
)
def test_a_subject_that_cannot_be_is_refused(words, message):
    with pytest.raises((UsageError, FormatError), match=message):
        subject(**words)


def test_a_checkpoint_without_a_config_wants_one(checkpoint):
    path, _ = checkpoint
    (path.parent / "bert_config.json").unlink()
    with pytest.raises(UsageError, match=r"google\.npz: no config beside it.* pass --config, or a size"):
        subject("bert", checkpoint=path)


def test_a_subject_travels_as_json():
    one = asked(extra={"attention": "sdpa"}, seed=3)
    assert Subject.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.torch
@everywhere
def test_drawn_weights_are_what_the_port_wants(name, task):
    """The shapes that a port tells, in the first dialect, are what is drawn; each is loaded without a word."""
    torch_run = pytest.importorskip("porting.backends.torch.run")
    one = subject(name, task=task, labels=1 if task == "regression" else 3)
    spec, config, build = one.spec, one.configured(), one.build()
    session = torch_run.open_session(spec, config, build)
    naming = naming_of(spec, config, build, "pytorch", session.parameters)
    weights, _ = weights_of(one, build, naming.shapes)
    session.load(dict(naming.to_native(weights)))
    assert content_hash(dict(naming.canonical(session.weights()))) == content_hash(weights)
