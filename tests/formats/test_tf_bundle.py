"""TensorFlow bundles: conformance, golden files, TensorFlow's savers both ways and to the byte, bundles that lie."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.registry import read
from porting.checkpoint.sound import unsound
from porting.checkpoint.storage import Mapped
from porting.checkpoint.tensorflow import BUNDLE as FORMAT
from porting.checkpoint.tensorflow.leveldb import masked
from porting.checkpoint.tensorflow.proto import NUMBERS, Entry, encode_entry
from porting.checkpoint.wire import fixed32
from porting.checkpoint.write import write
from porting.errors import UsageError
from porting.testing.formats import FormatConformance, random_bits, same_bits

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*/*.index"))
Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def tf():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return pytest.importorskip("tensorflow")


def save(tf, prefix: Path, tensors: Arrays, slices: list[str] | None = None) -> Path:
    """What TensorFlow's own op writes."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=slices or [""] * len(tensors),
        tensors=[tf.constant(array) for array in tensors.values()],
    )
    return prefix


def contents(folder: Path, prefix: str) -> dict[str, bytes]:
    """Every file of a prefix, by what follows the prefix."""
    return {
        path.name.removeprefix(prefix): path.read_bytes()
        for path in folder.iterdir()
        if path.name.startswith(f"{prefix}.")
    }


def same(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> bool:
    if wanted.dtype == object:
        return found.shape == wanted.shape and found.tolist() == wanted.tolist()
    return same_bits(np.asarray(found), wanted)


def strings(*values: bytes) -> np.ndarray[Any, Any]:
    return np.array(values, object)


class TestTensorFlowBundle(FormatConformance):
    format = "tf-bundle"


@pytest.mark.parametrize("index", GOLDEN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_golden_checkpoints_are_rewritten_to_the_byte(index: Path, tmp_path: Path) -> None:
    checkpoint = read(index)
    assert not list(unsound(checkpoint))
    for path in write(tmp_path / index.stem, checkpoint, format="tf-bundle"):
        assert path.read_bytes() == (index.parent / path.name).read_bytes()


def name_sets() -> dict[str, list[str]]:
    """Names that move the table's choices: restarts, shared prefixes, separators between blocks."""
    choose = random.Random(5)
    alphabet = "ab/_.0é~\U0010ffff"
    sets = {
        f"{count} random": sorted(
            {"".join(choose.choices(alphabet, k=choose.randrange(1, 12))) for _ in range(count)},
            key=lambda _: choose.random(),
        )
        for count in (1, 2, 17, 33, 300)
    }
    deep = "model/" * 130
    sets["2000 behind 780 letters"] = [f"{deep}layer_{i}/kernel" for i in choose.sample(range(9000), 2000)]
    sets["8000 short"] = [f"bert/encoder/layer_{i}/bias" for i in range(8000)]
    sets["names larger than a block"] = ["a" * 300_000, "b", "c" * 600_000, "d", "e" * 600_000]
    return sets


@pytest.mark.parametrize("case", name_sets())
def test_the_bytes_are_tensorflows(tf, case: str, tmp_path: Path) -> None:
    shapes = [(), (3,), (2, 2), (0, 3), (1, 0), (1, 2, 3)]
    kinds = ("float32", "int64", "bool", "float16")
    tensors: Arrays = {}
    for i, name in enumerate(name_sets()[case]):
        if i % 7 == 5:
            tensors[name] = strings(*[b"x" * (i * k % 300) for k in range(i % 4)])
        else:
            tensors[name] = random_bits(kinds[i % 4], shapes[i % 6], i)
    save(tf, tmp_path / "theirs", tensors)
    write(tmp_path / "ours", tensors, format="tf-bundle")
    assert contents(tmp_path, "ours") == contents(tmp_path, "theirs")


def test_every_dtype_both_ways(tf, tmp_path: Path) -> None:
    tensors = {name: random_bits(name, (3, 5), i) for i, name in enumerate(sorted(FORMAT.writes - {"string"}))}
    tensors["string"] = np.array([[b"", b"a" * 1000], [b"\xff\0", b"b"]], object)
    save(tf, tmp_path / "theirs", tensors)
    write(tmp_path / "ours", tensors, format="tf-bundle")
    assert contents(tmp_path, "ours") == contents(tmp_path, "theirs")
    opened = read(tmp_path / "theirs")
    assert all(same(opened[name].read(), array) for name, array in tensors.items())
    for name, array in tensors.items():
        (back,) = tf.raw_ops.RestoreV2(
            prefix=str(tmp_path / "ours"),
            tensor_names=[name],
            shape_and_slices=[""],
            dtypes=[tf.as_dtype(NUMBERS[name])],
        )
        assert same(back.numpy(), array), name


def test_quantised_integers_read_as_integers(tf, tmp_path: Path) -> None:
    value = np.array([1, -1, 3], np.int8)
    save(tf, tmp_path / "q", {"w": tf.bitcast(value, tf.qint8)})
    opened = read(tmp_path / "q")
    assert same_bits(opened["w"].read(), value)
    assert opened.notes == ("w: quantised int8, its scale is not in the checkpoint",)


def test_load_checkpoint_reads_what_is_written(tf, tmp_path: Path) -> None:
    tensors = {"a/b": random_bits("float32", (40, 3)), "step": np.array(7), "s": strings(b"x", b"y")}
    write(tmp_path / "m.ckpt", tensors, format="tf-bundle")
    reader = tf.train.load_checkpoint(str(tmp_path / "m.ckpt"))
    assert reader.get_variable_to_shape_map() == {"a/b": [40, 3], "step": [], "s": [2]}
    assert all(same(np.asarray(reader.get_tensor(name), array.dtype), array) for name, array in tensors.items())


def test_shards_are_those_of_tensorflows_merge(tf, tmp_path: Path) -> None:
    tensors = {f"layer_{i}/kernel": random_bits("float32", (4, 8), i) for i in range(6)}
    names = list(tensors)
    for i in range(3):
        save(tf, tmp_path / f"part{i}", {name: tensors[name] for name in names[2 * i : 2 * i + 2]})
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(tmp_path / f"part{i}") for i in range(3)], destination_prefix=str(tmp_path / "theirs")
    )
    write(tmp_path / "ours", tensors, format="tf-bundle", shard_size=300)
    assert contents(tmp_path, "ours") == contents(tmp_path, "theirs")
    opened = read(tmp_path / "ours")
    assert [path.name for path in opened.files][1:] == [f"ours.data-0000{i}-of-00003" for i in range(3)]
    assert list(opened) == names
    assert all(same(opened[name].read(), array) for name, array in tensors.items())


@pytest.fixture(scope="module")
def savers(tf, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Arrays]:
    """Checkpoints of TensorFlow 1's Saver, plain and sharded, with partitioned variables."""
    v1 = tf.compat.v1
    folder = tmp_path_factory.mktemp("savers")
    for kind in ("plain", "sharded"):
        (folder / kind).mkdir()
    values: Arrays = {}
    with tf.Graph().as_default(), v1.Session() as session:
        for name, array in {"w": random_bits("int32", (7, 3)), "s": strings(b"a", b""), "n": np.array(3)}.items():
            v1.get_variable(name, initializer=tf.constant(array), use_resource=False)
            values[name] = array
        parts = {
            "rows": v1.get_variable("rows", (10, 6), partitioner=v1.fixed_size_partitioner(3), use_resource=False),
            "cols": v1.get_variable("cols", (4, 9), partitioner=v1.fixed_size_partitioner(4, 1), use_resource=False),
        }
        session.run(v1.global_variables_initializer())
        for axis, (name, variable) in enumerate(parts.items()):
            values[name] = np.concatenate(session.run(list(variable)), axis)
        v1.train.Saver().save(session, str(folder / "plain" / "m.ckpt"))
        v1.train.Saver(sharded=True).save(session, str(folder / "sharded" / "m.ckpt"))
    return folder, values


@pytest.mark.parametrize("kind", ["plain", "sharded"])
def test_savers_and_partitioned_variables(savers: tuple[Path, Arrays], kind: str) -> None:
    folder, values = savers
    opened = read(folder / kind)
    assert opened.path == folder / kind / "m.ckpt"
    assert set(opened) == set(values)
    assert not list(unsound(opened))
    for name, array in values.items():
        assert same(opened[name].read(), array), name
    for box in [(slice(3, 6),), (slice(0, 10), slice(2, 5)), (slice(0, 4),), (slice(8, 10), slice(0, 1))]:
        assert same_bits(opened["rows"].read(box), values["rows"][box])
    for box in [(slice(1, 3),), (slice(0, 4), slice(0, 2)), (slice(0, 1), slice(2, 8))]:
        assert same_bits(opened["cols"].read(box), values["cols"][box])


def test_a_damaged_slice_is_named(savers: tuple[Path, Arrays], tmp_path: Path) -> None:
    folder, _ = savers
    for file in (folder / "plain").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (data,) = tmp_path.glob("*.data-*")
    good = data.read_bytes()
    checkpoint = read(tmp_path)
    assert checkpoint["rows"].checksum is None
    data.write_bytes(bytes(byte ^ 1 for byte in good))
    lines = [line.split(":")[0] for line in unsound(checkpoint)]
    assert sum(line.startswith("rows slice [") for line in lines) == 3
    assert sum(line.startswith("cols slice [") for line in lines) == 4
    assert {"w", "n"} <= set(lines)


def test_a_partitioned_variable_is_written_whole(tf, savers: tuple[Path, Arrays], tmp_path: Path) -> None:
    folder, values = savers
    write(tmp_path / "whole", read(folder / "plain"), format="tf-bundle")
    loaded = tf.train.load_checkpoint(str(tmp_path / "whole"))
    assert same_bits(loaded.get_tensor("cols"), values["cols"])


def test_object_graphs_keep_their_keys_and_tell_the_names(tf, tmp_path: Path) -> None:
    model = tf.keras.Sequential([tf.keras.layers.Input((3,)), tf.keras.layers.Dense(4, name="first")])
    prefix = tf.train.Checkpoint(model=model, step=tf.Variable(3, name="step")).save(str(tmp_path / "k"))
    opened = read(prefix)
    names = opened.metadata["full_names"]
    (kernel,) = (key for key, name in names.items() if name.endswith("first/kernel"))
    assert kernel.endswith("/.ATTRIBUTES/VARIABLE_VALUE")
    assert same_bits(opened[kernel].read(), model.layers[0].kernel.numpy())
    assert names["step/.ATTRIBUTES/VARIABLE_VALUE"] == "step"
    assert opened["_CHECKPOINTABLE_OBJECT_GRAPH"].read().shape == ()
    assert not list(unsound(opened))
    write(tmp_path / "again", opened, format="tf-bundle")
    assert tf.train.load_checkpoint(str(tmp_path / "again")).get_tensor(kernel).shape == (3, 4)


def test_numeric_tensors_are_views_of_the_file(tmp_path: Path) -> None:
    write(tmp_path / "m", {"x": random_bits("int8", (3,)), "w": random_bits("float32", (8, 8))}, format="tf-bundle")
    entry = read(tmp_path / "m")["w"]
    assert isinstance(entry.storage, Mapped)
    assert entry.storage.offset == 3
    assert not entry.read().flags.owndata


def test_damaged_bytes_are_named_and_tensorflow_agrees(tf, tmp_path: Path) -> None:
    tensors = {"a": random_bits("float32", (9,)), "b": random_bits("float32", (9,), 1), "s": strings(b"one", b"two")}
    write(tmp_path / "m", tensors, format="tf-bundle")
    data = tmp_path / "m.data-00000-of-00001"
    good = data.read_bytes()
    assert not list(unsound(read(tmp_path / "m")))
    data.write_bytes(good[:40] + bytes([good[40] ^ 4]) + good[41:])
    (line,) = unsound(read(tmp_path / "m"))
    assert line.startswith("b: wanted crc32c")
    with pytest.raises(tf.errors.OpError, match="Checksum does not match"):
        tf.train.load_checkpoint(str(tmp_path / "m")).get_tensor("b")
    data.write_bytes(good[:-1] + b"!")
    assert [line.split(":")[0] for line in unsound(read(tmp_path / "m"))] == ["s"]


def test_a_nameless_tensor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="without a name"):
        write(tmp_path / "m", {"": np.zeros(2)}, format="tf-bundle")


def test_an_empty_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / "m", {}, format="tf-bundle")
    assert dict(read(tmp_path / "m")) == {}


def test_every_dtype_of_the_kit_has_a_number_or_is_refused(tmp_path: Path) -> None:
    assert set(DTYPES) - set(NUMBERS) == {"float8_e3m4", "float8_e4m3", "float8_e8m0fnu"}
    with pytest.raises(UsageError, match="cannot hold"):
        write(tmp_path / "m", {"w": random_bits("float8_e4m3", (2,))}, format="tf-bundle")


@pytest.mark.usefixtures("tf")
def test_entries_as_tensorflows_protobuf_writes_them() -> None:
    message_of = pytest.importorskip("tensorflow.core.protobuf.tensor_bundle_pb2").BundleEntryProto
    for entry in [Entry(1, (), 0, 0, 4, masked(0)), Entry(9, (0, 3), 2, 1 << 33, 0, 0), Entry(7, (5,), 0, 1, 300, 1)]:
        theirs = message_of(
            dtype=entry.dtype, shard_id=entry.shard, offset=entry.offset, size=entry.size, crc32c=entry.crc
        )
        theirs.shape.SetInParent()
        for size in entry.shape:
            theirs.shape.dim.add(size=size)
        assert encode_entry(entry) == theirs.SerializeToString(deterministic=True)
    assert fixed32(6, masked(0)) == b"\x35\xd8\xea\x82\xa2"
