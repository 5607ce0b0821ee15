"""TensorFlow's V1 checkpoints: conformance on files of TensorFlow's own ops and savers, and files that lie."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from porting.checkpoint.registry import locate, read
from porting.checkpoint.storage import MappedFile
from porting.checkpoint.tensorflow import V1 as FORMAT
from porting.checkpoint.tensorflow.leveldb import Table
from porting.checkpoint.tensorflow.leveldb_build import build
from porting.checkpoint.tensorflow.proto import encode_shape
from porting.checkpoint.tensorflow.slices import slice_key
from porting.checkpoint.tensorflow.v1 import verify
from porting.checkpoint.tensorflow.v1_record import Record
from porting.checkpoint.wire import encode_varint, integer, message
from porting.errors import FormatError, PortError
from porting.testing.formats import FormatConformance, mutate, random_bits, same_bits

if TYPE_CHECKING:
    from pathlib import Path

Arrays = dict[str, np.ndarray[Any, Any]]


def tensorflow():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def tf():
    return tensorflow()


def save(path: Path, tensors: Arrays, slices: list[str] | None = None) -> Path:
    """What TensorFlow's own op writes."""
    tf = tensorflow()
    names, data = list(tensors), [tf.constant(array) for array in tensors.values()]
    tf.raw_ops.SaveSlices(
        filename=str(path), tensor_names=names, shapes_and_slices=slices or [""] * len(names), data=data
    )
    return path


class TestV1(FormatConformance):
    format = "tf-v1"
    mutations: ClassVar[int] = 400

    def dtypes(self) -> list[str]:
        # TensorFlow's writer takes no others.
        return [
            "bool",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "float16",
            "float32",
            "float64",
            "complex64",
            "complex128",
        ]

    def make(self, folder: Path, tensors: Arrays) -> Path:
        return save(folder / "model.ckpt", tensors)


def test_strings_and_negative_numbers(tmp_path: Path) -> None:
    tensors = {
        "s": np.array([[b"a"], [b""], [b"\xff\0" * 300]], object),
        "empty": np.array([], object),
        "i8": np.array([-128, -1, 0, 127], np.int8),
        "i64": np.array(-(1 << 63)),
        "none": np.zeros((0, 4), np.float32),
    }
    opened = read(save(tmp_path / "m", tensors))
    for name, array in tensors.items():
        found = opened[name].read()
        assert found.shape == array.shape
        assert found.tolist() == array.tolist()
    assert opened["s"].read((slice(1, 3),)).tolist() == [[b""], [b"\xff\0" * 300]]


def test_floats_are_views_and_integers_are_kept_until_release(tmp_path: Path) -> None:
    opened = read(save(tmp_path / "m", {"w": random_bits("float32", (700, 300)), "i": random_bits("int32", (9,))}))
    assert not opened["w"].read().flags.owndata
    storage = opened["i"].storage
    assert isinstance(storage, Record)
    storage.read((slice(0, 2),))
    assert storage.decoded is not None
    storage.release()
    assert storage.decoded is None
    assert same_bits(storage.read(), random_bits("int32", (9,)))


def test_numbers_across_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("porting.checkpoint.tensorflow.v1_record._PIECE", 16)
    values = random_bits("int64", (50,))
    assert same_bits(read(save(tmp_path / "m", {"w": values}))["w"].read(), values)


@pytest.mark.parametrize("sharded", [False, True])
def test_savers_and_partitioned_variables(tf, tmp_path: Path, sharded: bool) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        w = v1.get_variable("w", (7, 3), use_resource=False)
        rows = v1.get_variable("rows", (10, 6), partitioner=v1.fixed_size_partitioner(3), use_resource=False)
        session.run(v1.global_variables_initializer())
        wanted = {"w": session.run(w), "rows": np.concatenate(session.run(list(rows)))}
        saver = v1.train.Saver(sharded=sharded, write_version=v1.train.SaverDef.V1)
        saver.save(session, str(tmp_path / "m.ckpt"))
    opened = read(tmp_path)
    assert opened.format == "tf-v1"
    assert opened.path == tmp_path / "m.ckpt"
    assert {name: entry.read().tolist() for name, entry in opened.items()} == {
        name: array.tolist() for name, array in wanted.items()
    }
    assert same_bits(opened["rows"].read((slice(3, 9), slice(1, 2))), wanted["rows"][3:9, 1:2])
    assert not list(verify(opened))


def test_shards_are_read_together(tmp_path: Path) -> None:
    full = np.arange(60, dtype=np.float32).reshape(10, 6)
    save(tmp_path / "m-00000-of-00002", {"p": full[:4], "a": full[0]}, ["10 6 0,4:-", ""])
    save(tmp_path / "m-00001-of-00002", {"p": full[4:], "b": full[1]}, ["10 6 4,6:-", ""])
    for path in (tmp_path / "m", tmp_path / "m-00001-of-00002"):
        assert locate(path) == (FORMAT, tmp_path / "m")
    opened = read(tmp_path / "m")
    assert list(opened) == ["a", "p", "b"]
    assert same_bits(opened["p"].read(), full)
    (tmp_path / "m-00000-of-00002").unlink()
    with pytest.raises(FormatError, match=r"all the shards .* m-00001-of-00002"):
        read(tmp_path / "m")


def test_damage_is_named_when_read_and_when_verified(tmp_path: Path) -> None:
    path = save(tmp_path / "m", {"big": random_bits("float32", (400, 400)), "w": random_bits("float32", (3,))})
    good = bytearray(path.read_bytes())
    good[300_000] ^= 1
    path.write_bytes(good)
    opened = read(path)
    (line,) = verify(opened)
    assert "wanted crc32c" in line
    with pytest.raises(FormatError, match="wanted crc32c"):
        opened["big"].read()
    assert same_bits(opened["w"].read(), random_bits("float32", (3,)))


def test_the_index_of_a_bundle_is_not_one(tf, tmp_path: Path) -> None:
    tf.raw_ops.SaveV2(prefix=str(tmp_path / "m"), tensor_names=["w"], shape_and_slices=[""], tensors=[[1.0]])
    assert FORMAT.locate(tmp_path / "m.index") is None
    (tmp_path / "m.index").rename(tmp_path / "renamed")
    with pytest.raises(FormatError, match=r"keeps its name PREFIX\.index"):
        read(tmp_path / "renamed")


FULL = [(0, -1)]


def listed(shape: tuple[int, ...], dtype: int, parts: list[bytes]) -> bytes:
    meta = message(1, "w") + message(2, encode_shape(shape)) + integer(3, dtype)
    return message(1, message(1, meta + b"".join(message(4, part) for part in parts)))


def v1_file(folder: Path, meta: bytes, values: bytes | None, key: bytes = slice_key(b"w", FULL)) -> Path:
    """A V1 checkpoint of one tensor `w`, every crc right; `values` is its TensorProto."""
    items = {b"": meta}
    if values is not None:
        items[key] = message(2, message(1, "w") + message(3, values))
    (folder / "m").write_bytes(build(sorted(items.items())))
    return folder / "m"


WHOLE = [message(1, b"")]
LIES = {
    "values that are missing": (listed((2,), 1, WHOLE), None, "values are missing"),
    "too few bytes": (listed((2,), 1, WHOLE), message(5, bytes(4)), "wanted 8 bytes, got 4"),
    "values of another type": (listed((2,), 1, WHOLE), message(6, bytes(8)), "wanted 8 bytes, got 0"),
    "an immense shape": (listed((1 << 50,), 3, WHOLE), message(7, b"\1"), "wanted 1125899906842624 numbers"),
    "too many numbers": (listed((2,), 3, WHOLE), message(7, b"\1\2\3"), "wanted 2 numbers"),
    "too few numbers": (listed((2,), 3, WHOLE), message(7, b"\x80\1"), "wanted 2 numbers, got 1"),
    "an endless number": (listed((2,), 3, WHOLE), message(7, b"\x80" * 30 + b"\1\1"), "at most 10 bytes"),
    "a number cut off": (listed((2,), 3, WHOLE), message(7, b"\x80" * 3), "cut off"),
    "too few strings": (listed((2,), 7, WHOLE), message(8, b"a"), "wanted 2 strings, got 1"),
    "a dtype that cannot be": (listed((2,), 24, WHOLE), message(5, bytes(8)), "dtype 24 is not known"),
    "no slices": (listed((2,), 1, []), message(5, bytes(8)), "0 elements of 2"),
    "a slice twice": (listed((2,), 1, WHOLE * 2), message(5, bytes(8)), "4 elements of 2"),
    "a slice of another rank": (listed((2,), 1, [message(1, b"") * 2]), message(5, bytes(8)), "2 axes"),
    "a later version": (message(1, message(2, integer(2, 9))), None, "got one for 9"),
    "no list": (encode_varint(0), None, "field number 0"),
}


@pytest.mark.parametrize("lie", LIES)
def test_files_that_lie(tmp_path: Path, lie: str) -> None:
    meta, values, problem = LIES[lie]
    path = v1_file(tmp_path, meta, values)
    with pytest.raises(FormatError, match=problem) as error:
        read(path)["w"].read()
    assert "\n" not in str(error.value)


def test_shards_that_contradict_each_other(tmp_path: Path) -> None:
    for i in range(2):
        save(tmp_path / f"m-0000{i}-of-00002", {"w": random_bits("float32", (3 + i,))})
    with pytest.raises(FormatError, match=r"w: dtype 1 \(4,\) here, 1 \(3,\) before"):
        read(tmp_path / "m")


def test_damage_behind_right_crcs_never_escapes(tmp_path: Path) -> None:
    tensors = {"f": random_bits("float32", (5,)), "i": random_bits("int32", (5,)), "s": np.array([b"a", b"b"], object)}
    path = save(tmp_path / "m", tensors)
    items = [(key, bytes(value)) for key, value in Table(MappedFile(path)).items()]
    generator = np.random.default_rng(12)
    refused = 0
    for _ in range(600):
        at = int(generator.integers(len(items)))
        broken = (items[at][0], mutate(items[at][1], generator))
        path.write_bytes(build(sorted([*items[:at], broken, *items[at + 1 :]])))
        try:
            for entry in read(path).values():
                entry.read()
        except PortError:
            refused += 1
    assert refused > 300
