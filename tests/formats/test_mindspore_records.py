"""MindSpore .ckpt: records by hand, files that lie, and what is not taken for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from porting.checkpoint.mindspore import FORMAT
from porting.checkpoint.mindspore.records import begins_with_record, record_head
from porting.checkpoint.registry import locate, read
from porting.checkpoint.write import write
from porting.errors import FormatError, UsageError
from porting.testing.formats import random_bits

if TYPE_CHECKING:
    from pathlib import Path


def value(tag: str, kind: str, dims: tuple[int, ...], content: bytes) -> bytes:
    return record_head(tag, kind, dims, len(content)) + content


ONE = np.float32(1).tobytes()


def test_dims_of_zero_are_a_scalar_s_as_in_mindspore(tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    path.write_bytes(value("s", "Float32", (0,), ONE) + value("v", "Float32", (0,), b""))
    checkpoint = read(path)
    assert (checkpoint["s"].shape, checkpoint["s"].read().item()) == ((), 1.0)
    assert checkpoint["v"].shape == (0,)


def test_the_last_of_several_counts(tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    path.write_bytes(
        value("a", "Int8", (1,), b"\1") + value("b", "Int8", (1,), b"\2") + value("a", "Int8", (2,), b"\3\4")
    )
    checkpoint = read(path)
    assert list(checkpoint) == ["a", "b"]
    assert checkpoint["a"].read().tolist() == [3, 4]
    assert checkpoint.notes == ("a occurs more than once: the last one counts, as in mindspore",)


def test_a_map_parameter_is_noted(tmp_path: Path) -> None:
    table = b"\x0a\x09\x0a\x05table\x1a\x00"
    (tmp_path / "m.ckpt").write_bytes(value("a", "Int8", (1,), b"\1") + table)
    checkpoint = read(tmp_path / "m.ckpt")
    assert set(checkpoint) == {"a"}
    assert checkpoint.notes == ("table is a MapParameter (a hash table): not read",)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (value("w", "Float32", (2,), ONE), r"w at offset \d+: wanted 8 bytes for Float32 \[2\], got 4"),
        (value("w", "Float32", (), ONE * 2), r"wanted 4 bytes for Float32 \[\], got 8"),
        (value("w", "Float32", (1,), ONE) * 2, r"wanted 4 bytes for Float32 \[1\], got 8"),
        (value("w", "Float32", (2,), ONE) + value("w", "Int32", (2,), ONE), "its slices differ in type or shape"),
        (value("w", "HiFloat8", (1,), b"\1"), "w: element type 'HiFloat8' is not known"),
        (value("w", "Float32", (-1, -1), ONE), "w: wanted axes of 0 or more elements"),
        (value("w", "Float32", (1,) * 33, ONE), "w: wanted at most 32 axes"),
        (value("w", "Float32", (0, 1 << 62), b""), "larger than any memory"),
        (value("w", "Float32", (1,), ONE)[:-1], r"offset 0: field 1 claims \d+ bytes, \d+ are left"),
        (value("w", "Float32", (1,), ONE) + b"\x12\x00", r"offset \d+: wanted a parameter, got field 2"),
        (value("w", "Float32", (1,), ONE) + b"\x08\x07", r"offset \d+: wanted a parameter, got field 1"),
        (value("w", "Float32", (1,), ONE) + b"\x0a\x00", "wanted a parameter with a name and a tensor"),
        (value("w", "Float32", (1,), ONE) + b"\x0a\x05\x0a\x01v\x10\x07", "wanted bytes, got wire type 0"),
        (value("w", "Float32", (1,), ONE) + b"\x0a\x07\x0a\x01v\x12\x02\x08\x01", "wanted a tensor with a type"),
        (value("w", "Float32", (1,), ONE) + b"\x0a\x07\x0a\x01\xff\x12\x02\x08\x01", "wanted UTF-8 text"),
    ],
)
def test_files_that_lie(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "m.ckpt").write_bytes(data)
    with pytest.raises(FormatError, match=said) as caught:
        read(tmp_path / "m.ckpt")
    assert "\n" not in str(caught.value)


def test_a_string_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "m.ckpt").write_bytes(value("s", "str", (0,), b"\xff\xff\xff\xff"))
    with pytest.raises(FormatError, match="s: wanted UTF-32 text"):
        read(tmp_path / "m.ckpt")["s"].read()


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"w": np.zeros((0,), np.float32)}, r"w: mindspore cannot load an empty vector"),
        ({"w": np.array([b"a", b"b"], object)}, r"w: a .ckpt holds single strings, got an array of shape \(2,\)"),
        ({"w": np.array(b"\xff", object)}, r"w: a string in a .ckpt is text"),
        ({"": np.zeros(1, np.float32)}, r"a name in a .ckpt is not empty"),
        ({"\ud800": np.zeros(1, np.float32)}, r"a name in a .ckpt is UTF-8"),
    ],
)
def test_what_mindspore_could_not_load_is_refused(tmp_path: Path, tensors: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        write(tmp_path / "m.ckpt", tensors, format="mindspore-ckpt")
    assert list(tmp_path.iterdir()) == []


def test_a_cut_checkpoint_is_still_one(tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    write(path, {"w": random_bits("float32", (100, 100))}, format="mindspore-ckpt")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FormatError, match="claims 400"):
        read(path)


@pytest.mark.onnx
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_protobuf_is_not_claimed(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    tensor = onnx.numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    graph = onnx.helper.make_graph([], "g", [], [], [tensor])
    for message in (onnx.helper.make_model(graph), graph, tensor):
        (tmp_path / "m.ckpt").write_bytes(message.SerializeToString())
        assert FORMAT.locate(tmp_path / "m.ckpt") is None


def test_a_record_is_told_from_its_likes() -> None:
    good = value("w", "Float32", (1,), ONE)
    assert begins_with_record(good)
    assert not begins_with_record(value("w", "FLOAT", (1,), ONE))
    assert not begins_with_record(value("", "Float32", (1,), ONE))
    assert not begins_with_record(b"\x08\x01" + good)
    assert not begins_with_record(good[:1] + bytes([good[1] + 1]) + good[2:])
    assert not begins_with_record(good[:12])


def test_suffix_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(value("w", "Float32", (1,), ONE))
    assert locate(tmp_path / "weights")[0] is FORMAT
