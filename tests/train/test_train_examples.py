"""Records against the model that is to learn from them: what does not fit is one line, before any framework."""

from __future__ import annotations

import json

import numpy as np
import pytest
from finetune_records import LENGTH, VOCABULARY, write_config, write_records

from porting.data.tasks import task_named
from porting.errors import PortError
from porting.model.registry import model_named
from porting.train.examples import Wanted, labels_of, read_examples
from porting.train.finetune import Run
from porting.train.finetune_job import prepared

ACCOUNT = {"task": "sst-2", "split": "train", "labels": ["0", "1"], "vocabulary_size": VOCABULARY}


def wanted(model="bert", task="sst-2", **config):
    from porting.testing.tiny import tiny

    glue, spec = task_named(task), model_named(model)
    own = "regression" if glue.regression else "classification"
    return Wanted(spec, tiny(spec, **config), glue, own, max(len(glue.labels), 1))


@pytest.mark.parametrize(
    ("model", "style", "features"),
    [
        ("bert", "bert", {"input_ids", "input_mask", "segment_ids", "label_ids"}),
        ("roberta", "bert", {"input_ids", "input_mask", "label_ids"}),
        ("tinybert", "bert", {"input_ids", "input_mask", "segment_ids", "label_ids"}),
        ("xlnet", "xlnet", {"input_ids", "input_mask", "segment_ids", "label_ids"}),
    ],
)
def test_each_model_is_given_its_features(tmp_path, model, style, features):
    found = read_examples([write_records(tmp_path, style=style)], wanted(model))
    assert set(found.arrays) == features
    assert found.count == 24
    assert found.arrays["input_ids"].shape == (24, LENGTH)


@pytest.mark.mindspore
def test_a_mindrecord_gives_the_same_examples(tmp_path):
    pytest.importorskip("mindspore")
    from porting.data.glue import Request, glue_to_records
    from porting.data.tokenizing import tokens_of

    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(45))]) + "\n"
    )
    source = tmp_path / "train.tsv"
    source.write_text("sentence\tlabel\nw1 w2\t1\nw3\t0\n")
    found = []
    for kind in ("tfrecord", "mindrecord"):
        asked = Request(task_named("sst-2"), tokens_of(vocabulary, None), length=12, kind=kind, pad_to=3)
        (account,) = glue_to_records([source], tmp_path / kind, asked)
        found.append(read_examples([account.output], wanted()))
    assert found[0].count == found[1].count == 2
    assert {name: array.tolist() for name, array in found[0].arrays.items()} == {
        name: array.tolist() for name, array in found[1].arrays.items()
    }


def test_padding_examples_are_left_out_and_values_are_values(tmp_path):
    found = read_examples([write_records(tmp_path, count=5, padding=3, regression=True)], wanted(task="sts-b"))
    assert found.count == 5
    assert found.arrays["label_values"].dtype == np.float32
    assert found.arrays["label_values"].tolist() == [0, 1, 2, 3, 0]
    with pytest.raises(PortError, match="nothing but padding examples"):
        read_examples([write_records(tmp_path / "none", count=0, padding=2)], wanted())


@pytest.mark.parametrize(
    ("made", "asked", "message"),
    [
        ({"account": ACCOUNT | {"vocabulary_size": 21128}}, {}, r"train\.tfrecord: holds .*21128.*, the model of bert"),
        ({"account": ACCOUNT | {"task": "rte"}}, {}, r"train\.tfrecord: holds examples of rte, --task is sst-2"),
        ({}, {"model": "xlnet"}, r"schema\.json: input_mask: wanted float32 for xlnet, got int64 \(BERT's layout"),
        ({"style": "xlnet"}, {}, r"schema\.json: input_mask: wanted int64 for bert, got float32"),
        ({}, {"task": "sts-b"}, r"schema\.json: label_ids: wanted float32 for bert, got int64 \(sts-b wants values\)"),
        (
            {"regression": True},
            {},
            r"schema\.json: label_ids: wanted int64 for bert, got float32 \(sst-2 wants classes",
        ),
        ({}, {"max_position_embeddings": 8}, r"schema\.json: input_ids: wanted a length of 8 at most, .* got 12"),
        ({}, {"vocab_size": 30}, r"train\.tfrecord: record \d+ at byte \d+: input_ids: wanted 0 to 29, got \d+"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, made, asked, message):
    file = write_records(tmp_path, **made)
    with pytest.raises(PortError, match=message) as caught:
        read_examples([file], wanted(**asked))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("vocabulary", [30522, 28996, 21128])
def test_a_vocabulary_of_another_model(tmp_path, vocabulary):
    other = {30522: 28996, 28996: 21128, 21128: 30522}[vocabulary]
    file = write_records(tmp_path, account=ACCOUNT | {"vocabulary_size": other})
    with pytest.raises(PortError, match=f"{other}.*{vocabulary}"):
        read_examples([file], wanted(vocab_size=vocabulary))


def test_a_test_set_is_not_evaluated_on_and_labels_are_those_of_the_account(tmp_path):
    file = write_records(tmp_path, account=ACCOUNT | {"split": "test", "labels": ["a", "b", "c"]})
    with pytest.raises(PortError, match="is a test set, whose labels are not known"):
        read_examples([file], wanted(), labelled=True)
    assert labels_of(task_named("sst-2"), [file]) == 3
    assert labels_of(task_named("mnli"), []) == 3
    assert labels_of(task_named("sts-b"), []) == 1


def test_a_truncated_file_a_schema_of_other_columns_and_none(tmp_path):
    file = write_records(tmp_path)
    (tmp_path / "schema.json").write_text(json.dumps({"columns": {"input_ids": {"type": "int64", "shape": [12]}}}))
    with pytest.raises(PortError, match="label_ids: wanted this column, there are input_ids"):
        read_examples([file], wanted())
    (tmp_path / "schema.json").unlink()
    with pytest.raises(PortError, match=r"schema\.json: cannot be read"):
        read_examples([file], wanted())
    write_records(tmp_path)
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(PortError, match=r"record 23 at byte .* the file is cut off"):
        read_examples([file], wanted())


def settled(one):
    return prepared(one, one.subject)


def run(tmp_path, **options):
    config = write_config(tmp_path, "bert")
    file = write_records(tmp_path)
    plain = {"model": "bert", "model_config": config, "task": "sst-2", "train": [str(file)], "output": tmp_path / "run"}
    return Run.of(plain | options)


def test_steps_are_of_whole_batches_and_the_recipe_is_the_originals(tmp_path):
    work = settled(run(tmp_path, batch_size=5, epochs=2.5, warmup=0.2))
    assert work.data.per_epoch == 4
    assert work.steps == 10
    assert (work.recipe.name, work.recipe.schedule.steps, work.recipe.schedule.warmup) == ("bert_finetune", 10, 2)
    assert work.recipe.schedule.peak == 5e-5
    assert work.metric == "accuracy"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 25}, "--batch-size.* there are 24"),
        ({"batch_size": 8, "epochs": 1, "warmup": 3}, "--warmup 3.0: wanted 0 to less than the 3 steps"),
        ({"batch_size": 8, "recipe": "adamwx"}, "--recipe adamwx: wanted bert, roberta"),
        ({"batch_size": 8, "loss_scale": "dynamik"}, "--loss-scale dynamik: wanted none, a number, dynamic"),
        ({"epochs": 0.0}, "--epochs: wanted more than 0"),
        ({"epochs": 1, "steps": 3}, "--epochs, --steps: wanted one of both"),
        ({"dropout": "none"}, "--dropout none: wanted one of off, own, shared"),
        ({"batch_size": "8"}, "--batch-size: wanted a whole number, got '8'"),
        ({"learning_rate": "fast"}, "--learning-rate: wanted a number, got 'fast'"),
        ({"train": 3}, "--train: wanted a list of names, got 3"),
        ({"export": "onx"}, "export onx: wanted some of safetensors, ckpt, onnx, mindir"),
        ({"task": "snli"}, "snli: wanted a task among"),
        ({"model_config": None}, "bert: wanted --checkpoint, --model-config or a published size"),
        ({"train": []}, "--train: wanted, as a flag or in the file of --config"),
    ],
)
def test_options_that_make_no_sense(tmp_path, options, message):
    with pytest.raises(PortError, match=message):
        settled(run(tmp_path, **options))
