"""Records as batches: every mistake in the data is told before the first step, by file and record."""

from __future__ import annotations

import numpy as np
import pytest

from porting.data.features import encode_example
from porting.data.schema import Column
from porting.data.tfrecord import frame
from porting.errors import FormatError, UsageError
from porting.model.registry import model_named
from porting.train.batches import Shuffled, limits, load

FEATURES = {"input_ids": "input_ids", "label_ids": "label_ids"}
SCHEMA = (Column("input_ids", "int64", (4,)), Column("label_ids", "int64", (1,)))
BELOW = {"input_ids": 28996, "label_ids": 2}


def example(number, **changes):
    return encode_example({"input_ids": [number, 1, 2, 3], "label_ids": [number % 2]} | changes)


def written(tmp_path, *payloads):
    path = tmp_path / "train.tfrecord"
    path.write_bytes(b"".join(map(frame, payloads)))
    return path


def read(path, schema=SCHEMA, below=BELOW, features=FEATURES):
    return load([path], schema, features, below)


def test_examples_as_a_session_takes_them(tmp_path):
    records = read(written(tmp_path, *map(example, range(5))))
    assert records.count == 5
    assert records.arrays["input_ids"].tolist()[4] == [4, 1, 2, 3]
    assert records.arrays["label_ids"].tolist() == [0, 1, 0, 1, 0]
    assert {array.dtype.name for array in records.arrays.values()} == {"int32"}


def test_an_epoch_is_a_permutation_known_by_seed_and_number(tmp_path):
    records = read(written(tmp_path, *map(example, range(12))))
    data, again = Shuffled(records, 4, seed=7), Shuffled(records, 4, seed=7)
    epochs = [[i for n in range(3) for i in data.batch(e, n)["input_ids"][:, 0].tolist()] for e in range(2)]
    assert [sorted(order) for order in epochs] == [list(range(12))] * 2
    assert epochs[0] != epochs[1]
    assert again.batch(1, 2)["input_ids"][:, 0].tolist() == epochs[1][8:]
    assert Shuffled(records, 4, seed=8).batch(0, 0)["input_ids"][:, 0].tolist() != epochs[0][:4]
    assert Shuffled(records, 5).batch(3, 1)["input_ids"][:, 0].tolist() == [5, 6, 7, 8, 9]
    assert Shuffled(records, 5).per_epoch == 2


@pytest.mark.parametrize("vocabulary", [30522, 28996, 21128])
def test_an_id_outside_the_vocabulary_is_told_by_record(tmp_path, vocabulary):
    path = written(tmp_path, example(0), example(vocabulary - 1), example(vocabulary, label_ids=[0]))
    with pytest.raises(FormatError) as caught:
        read(path, below={"input_ids": vocabulary})
    assert caught.value.path == str(path)
    assert str(caught.value.place).startswith("record 2 at byte ")
    assert caught.value.problem == f"input_ids: wanted 0 to {vocabulary - 1}, got {vocabulary}"


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (example(1, label_ids=[2]), r"label_ids: wanted 0 to 1, got 2"),
        (example(1, label_ids=[-1]), r"label_ids: wanted 0 to 1, got -1"),
        (example(1, label_ids=[0.5]), r"label_ids: wanted int64, as the schema says, got float32"),
        (example(1, label_ids=[b"yes"]), r"label_ids: wanted int64, as the schema says, got string"),
        (example(1, input_ids=[1, 2, 3]), r"input_ids: wanted 4 values, as the schema says, got 3"),
        (encode_example({"label_ids": [1]}), r"wanted input_ids, as the schema says; it has label_ids"),
        (b"\xff\xff\xff", r"is no tf\.train\.Example"),
    ],
)
def test_a_wrong_example_is_told_by_record(tmp_path, payload, problem):
    with pytest.raises(FormatError, match=r"train\.tfrecord: record 1 at byte \d+: " + problem):
        read(written(tmp_path, example(0), payload))


def test_a_file_that_is_cut_off_is_told_by_record(tmp_path):
    path = written(tmp_path, example(0), example(1))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FormatError, match=r"record 1 at byte \d+: wanted \d+ bytes, got \d+: the file is cut off"):
        read(path)


def test_a_schema_without_the_columns_and_a_file_without_examples(tmp_path):
    path = written(tmp_path, example(0))
    with pytest.raises(UsageError, match="schema: wanted columns segment_ids; it has input_ids, label_ids"):
        read(path, features={"segment_ids": "segment_ids"})
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="no example"):
        read(path)


@pytest.mark.parametrize(("size", "seed", "problem"), [(0, 0, "batch size"), (3, 0, "batch size"), (1, -1, "seed")])
def test_batches_that_cannot_be(tmp_path, size, seed, problem):
    records = read(written(tmp_path, example(0), example(1)))
    with pytest.raises(UsageError, match=problem):
        Shuffled(records, size, seed=seed)


def test_limits_are_the_models(tmp_path):
    spec = model_named("bert")
    found = limits(spec, {"vocab_size": 21128, "type_vocab_size": 2, "seq": 512}, 15)
    assert found["input_ids"] == 21128
    assert found["label_ids"] == 15
    assert np.all(np.array(list(found.values())) > 0)


def test_mindrecords_are_read_as_they_were_written(tmp_path):
    pytest.importorskip("mindspore")
    from porting.backends.mindspore.mindrecord import MindRecordWriter

    path = tmp_path / "train.mindrecord"
    with MindRecordWriter(path, {"input_ids": "int32", "label_ids": "int32"}) as writer:
        writer.write({"input_ids": [n, 1, 2, 3], "label_ids": [n % 2]} for n in range(3))
        writer.commit()
    records = read(path, schema=None)
    assert records.arrays["input_ids"].tolist() == [[n, 1, 2, 3] for n in range(3)]
    assert records.arrays["label_ids"].tolist() == [0, 1, 0]
    with pytest.raises(FormatError, match=r"record 1: label_ids: wanted 0 to 0, got 1"):
        read(path, schema=None, below={"label_ids": 1})
