"""TFRecord: the bytes are TensorFlow's, what TensorFlow writes is read, what is damaged is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from porting.checkpoint.wire import WireError
from porting.data.features import decode_example, encode_example
from porting.data.reading import examples, mismatch
from porting.data.schema import integers, read_schema, to_json
from porting.data.tfrecord import frame, read_records
from porting.errors import FormatError

RANDOM = np.random.default_rng(0)
FEATURES: dict[str, Any] = {
    "input_ids": RANDOM.integers(0, 30522, 128),
    "wide": np.array([-1, 0, 127, 128, 16383, 16384, 2**20, 2**21, 2**40, -(2**63), 2**63 - 1]),
    "weights": np.array([1.0, 0.0, -0.0, 1e-40, np.inf, np.nan], np.float32),
    "text": [b"", b"two", "Ω".encode()],
    "empty": np.empty(0, np.int64),
    "label_ids": [1],
}


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert list(a) == list(b)
    for name, value in a.items():
        if isinstance(value, list) and value and isinstance(value[0], bytes):
            assert value == b[name]
        else:
            np.testing.assert_array_equal(value, b[name])


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "some.tfrecord"
    path.write_bytes(b"".join(frame(encode_example({"a": [number] * 5})) for number in range(3)))
    return path


def test_an_example_comes_back() -> None:
    back = decode_example(encode_example(FEATURES))
    same(back, FEATURES)
    assert {back["input_ids"].dtype, back["weights"].dtype} == {np.dtype("int64"), np.dtype("float32")}  # type: ignore[union-attr]


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.floats(width=32)), st.lists(st.binary(), min_size=1))
def test_any_values_come_back(numbers: list[int], floats: list[float], texts: list[bytes]) -> None:
    features = {"i": np.array(numbers, np.int64), "f": np.array(floats, np.float32), "s": texts}
    same(decode_example(encode_example(features)), features)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_example_or_refused(payload: bytes) -> None:
    with suppress(WireError):
        assert isinstance(decode_example(payload), dict)


@pytest.mark.tensorflow
def test_the_bytes_are_those_of_tensorflow(tmp_path: Path) -> None:
    import tensorflow as tf

    payloads = [encode_example(FEATURES), b"", b"x" * 70000]
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_bytes(b"".join(map(frame, payloads)))
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for payload in payloads:
            writer.write(payload)
    assert ours.read_bytes() == theirs.read_bytes()
    assert [record.payload for record in read_records(theirs)] == payloads


@pytest.mark.tensorflow
def test_each_entry_is_what_protobuf_writes() -> None:
    """A map of one entry has one order, so there bytes can be compared."""
    import tensorflow as tf

    for name, values in FEATURES.items():
        feature = tf.train.Feature()
        if name == "text":
            feature.bytes_list.value.extend(values)
        elif name == "weights":
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
        if name == "empty":
            feature.int64_list.SetInParent()
        example = tf.train.Example(features=tf.train.Features(feature={name: feature}))
        assert encode_example({name: values}) == example.SerializeToString()


@pytest.mark.tensorflow
def test_unpacked_numbers_are_read() -> None:
    """Old writers did not pack them; protobuf reads both, and so do we."""
    unpacked_ints = bytes.fromhex("0a0b0a090a016912041a020805")
    unpacked_floats = b"\x0a\x0e\x0a\x0c\x0a\x01f\x12\x07\x12\x05\x0d" + struct.pack("<f", 0.5)
    import tensorflow as tf

    for payload, name, value in ((unpacked_ints, "i", 5), (unpacked_floats, "f", 0.5)):
        feature = tf.train.Example.FromString(payload).features.feature[name]
        assert [*feature.int64_list.value, *feature.float_list.value] == [value]
        assert decode_example(payload)[name][0] == value


@pytest.mark.parametrize("at", range(1, 102, 6))
def test_a_file_that_is_cut_off(at: int, records: Path) -> None:
    data = records.read_bytes()
    each = len(data) // 3
    records.write_bytes(data[:at])
    if at % each == 0:
        assert len(list(read_records(records))) == at // each
        return
    with pytest.raises(FormatError, match=rf"some.tfrecord: record {at // each} at byte {at // each * each}.*cut off"):
        list(read_records(records))


def test_every_damaged_byte_is_found(records: Path) -> None:
    data = records.read_bytes()
    for at in range(len(data)):
        records.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        with pytest.raises(FormatError, match=f"record {at // (len(data) // 3)} at byte .*wanted .*got "):
            list(read_records(records))


def test_what_is_no_tfrecord(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(FormatError, match="cannot be read: No such file"):
        list(read_records(path))
    path.write_bytes(b"")
    assert list(read_records(path)) == []
    path.write_bytes(b"\x1f\x8b" + b"z" * 50)
    with pytest.raises(FormatError, match="got a gzip file"):
        list(read_records(path))
    path.write_bytes(frame(b"\xff\xff"))
    with pytest.raises(FormatError, match=r"record 0 at byte 0: is no tf\.train\.Example"):
        list(examples(path))


def test_a_wrong_schema_names_record_and_feature(records: Path) -> None:
    assert len(list(examples(records, integers(["a"], 5)))) == 3
    for wrong, why in (
        (integers(["a"], 6), r"a: wanted int64 \[6\], got int64 \[5\]"),
        (integers(["b"], 5), "b: .*only a"),
    ):
        with pytest.raises(FormatError, match=f"record 0 at byte 0: {why}"):
            list(examples(records, wrong))


def test_schema_json(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    schema = integers(["input_ids", "label_ids"], 4)
    path.write_text(to_json(schema))
    assert read_schema(path) == schema
    path.write_text('{"columns": [{"name": "x", "type": "float32", "rank": 1}]}')
    (column,) = read_schema(path)
    assert (column.name, column.dtype, column.shape) == ("x", "float32", (-1,))
    assert not mismatch((column,), {"x": np.zeros(7, np.float32)})
    for wrong in ("", "[]", '{"columns": 3}', '{"columns": {"a": {}}}', '{"columns": [{"type": "int64"}]}'):
        path.write_text(wrong)
        with pytest.raises(FormatError, match="wanted a schema"):
            read_schema(path)


def test_inspect(port: Callable[..., Any], records: Path, tmp_path: Path) -> None:
    ran = port("data", "inspect", records)
    assert (ran.code, ran.err) == (0, "")
    assert "TFRecord, 3 records" in ran.out
    assert "a  int64   [5]       0 to 2" in ran.out
    (tmp_path / "schema.json").write_text(to_json(integers(["a"], 6)))
    ran = port("data", "inspect", records, "--schema", tmp_path / "schema.json", "--json")
    assert ran.code == 1
    assert "record 0: a: wanted int64 [6], got int64 [5]" in ran.out
    records.write_bytes(records.read_bytes()[:-1])
    ran = port("data", "inspect", records)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert "record 2 at byte" in ran.err


def test_records_that_contradict_each_other(port: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "mixed.tfrecord"
    path.write_bytes(b"".join(frame(encode_example(f)) for f in ({"a": [1]}, {"a": [0.5]}, {"b": [1]})))
    ran = port("data", "inspect", path)
    assert ran.code == 1
    assert "record 1: a: float32 here, int64 before" in ran.out
    assert "record 2: features b; the first has a" in ran.out
