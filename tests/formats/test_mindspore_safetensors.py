"""MindSpore's safetensors: the format's conformance, mindspore both ways, and which of the two formats a file is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from porting.checkpoint.registry import locate, read
from porting.checkpoint.safetensors import FORMAT, MINDSPORE
from porting.checkpoint.write import write
from porting.errors import UsageError
from porting.testing.formats import FormatConformance, random_bits, same_bits

if TYPE_CHECKING:
    from pathlib import Path

NAME = "mindspore-safetensors"
MS_NAMES = {"bool": "bool_", "int4": "qint4x2"}


class TestMindSporeSafetensors(FormatConformance):
    format = NAME


@pytest.fixture(scope="module")
def mindspore():
    return pytest.importorskip("mindspore")


def ms_tensor(mindspore, array: np.ndarray[Any, Any]):
    """The same bits as a mindspore.Tensor."""
    name = array.dtype.name
    dtype = getattr(mindspore.common.dtype, MS_NAMES.get(name, name))
    if name == "bfloat16":
        from mindspore.common import np_dtype

        return mindspore.Tensor(array.view(np.uint16).view(np_dtype.bfloat16), dtype=dtype)
    return mindspore.Tensor(array.view(np.int8) if name == "int4" else array, dtype=dtype)


def save(mindspore, path: Path, arrays: dict[str, np.ndarray[Any, Any]], **options: Any) -> Path:
    tensors = [{"name": name, "data": ms_tensor(mindspore, array)} for name, array in arrays.items()]
    mindspore.save_checkpoint(tensors, str(path), format="safetensors", **options)
    return path


def of_every_dtype(shape: tuple[int, ...]) -> dict[str, np.ndarray[Any, Any]]:
    return {f"t.{name}": random_bits(name, shape, i) for i, name in enumerate(sorted(MINDSPORE.writes))}


@pytest.mark.mindspore
def test_mindspore_loads_ours(tmp_path: Path, mindspore) -> None:
    arrays = of_every_dtype((3, 5))
    write(tmp_path / "ours.safetensors", arrays, format=NAME, metadata={"origin": "x", "crc_num": "5"})
    loaded = mindspore.load_checkpoint(str(tmp_path / "ours.safetensors"), format="safetensors")
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].asnumpy().tobytes() == array.tobytes(), name
    assert str(loaded["t.int4"].dtype) == "Int4"


@pytest.mark.mindspore
def test_ours_reads_mindspore_s(tmp_path: Path, mindspore) -> None:
    arrays = of_every_dtype((3, 5)) | {"empty": np.zeros((0, 2), np.float32)}
    path = save(mindspore, tmp_path / "theirs.safetensors", arrays)
    assert locate(path)[0] is MINDSPORE
    checkpoint = read(path)
    assert checkpoint.metadata == {"format": "ms"}
    assert all(same_bits(checkpoint[name].read(), array) for name, array in arrays.items())


@pytest.mark.mindspore
def test_byte_identical_to_mindspore_s(tmp_path: Path, mindspore) -> None:
    """With int4 there are two keys in the metadata, which the official writer puts in random order."""
    arrays = {name: array for name, array in of_every_dtype((3, 5)).items() if name != "t.int4"}
    path = save(mindspore, tmp_path / "theirs.safetensors", arrays)
    write(tmp_path / "ours.safetensors", arrays, format=NAME)
    assert (tmp_path / "ours.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.mindspore
def test_mindspore_s_crc_is_verified(tmp_path: Path, mindspore) -> None:
    arrays = {
        f"{i}.{name}": random_bits(name, (4, 3), i) for i, name in enumerate(("float32", "int8", "float16", "bool"))
    }
    arrays |= {"step": np.array(1234, np.int64), "lr": np.array(0.5, np.float32), "flag": np.array(True)}
    path = save(mindspore, tmp_path / "theirs.safetensors", arrays, crc_check=True)
    checkpoint = read(path)
    assert list(MINDSPORE.verify(checkpoint)) == []
    assert checkpoint.metadata == {"format": "ms"}
    data = bytearray(path.read_bytes())
    data[-30] ^= 4
    path.chmod(0o600)
    path.write_bytes(data)
    (said,) = MINDSPORE.verify(read(path))
    assert "crc32 of names and tensors is" in said


def test_one_file_is_one_format(tmp_path: Path) -> None:
    for name, metadata in (
        ("safetensors", {}),
        (NAME, {}),
        ("safetensors", {"format": "ms"}),
        (NAME, {"format": "pt"}),
    ):
        path = tmp_path / "m.safetensors"
        write(path, {"w": np.zeros(2, np.float32)}, format=name, metadata=metadata, overwrite=True)
        assert [kind.name for kind in (FORMAT, MINDSPORE) if kind.locate(path)] == [name]


def test_int4_is_marked_only_by_mindspore(tmp_path: Path) -> None:
    header = {"__metadata__": {"w": "Int4"}, "w": {"dtype": "I8", "shape": [2], "data_offsets": [0, 2]}}
    text = json.dumps(header).encode()
    (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\1\2")
    assert read(tmp_path / "m.safetensors")["w"].dtype.name == "int8"


@pytest.mark.parametrize(("tensor", "metadata"), [("w", {"w": "x"}), ("format", {})])
def test_metadata_named_like_a_tensor_is_refused(tmp_path: Path, tensor: str, metadata: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"{tensor}: a tensor and a key of the metadata"):
        write(tmp_path / "m.safetensors", {tensor: np.zeros(2, np.float32)}, format=NAME, metadata=metadata)


@pytest.mark.parametrize("dtype", ["complex64", "float8_e4m3fn", "float4_e2m1fn"])
def test_what_mindspore_could_not_load_is_refused(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(UsageError, match=f"cannot hold: w is {dtype}"):
        write(tmp_path / "m.safetensors", {"w": random_bits(dtype, (2, 2))}, format=NAME)


def test_shards(tmp_path: Path) -> None:
    arrays = {f"layer.{i}": random_bits("int4" if i % 2 else "float32", (10, 10), i) for i in range(6)}
    write(tmp_path / "m.safetensors", arrays, format=NAME, shard_size=700)
    assert FORMAT.locate(tmp_path) is None
    checkpoint = read(tmp_path)
    assert checkpoint.format == NAME
    assert len(checkpoint.files) > 2
    assert all(same_bits(checkpoint[name].read(), array) for name, array in arrays.items())
