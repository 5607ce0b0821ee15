"""Checkpoints in several files: found, read, written, and indexes that lie."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from porting.checkpoint.registry import read
from porting.checkpoint.write import write
from porting.errors import FormatError, UsageError
from porting.testing.formats import random_bits, same_bits

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def sharded(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    arrays = {f"layer.{i}": random_bits("float32", (10, 10), i) for i in range(5)}
    written = write(folder / "model.safetensors", arrays, format="safetensors", shard_size=900)
    assert [path.name for path in written] == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
    ]
    return arrays


@pytest.mark.parametrize("typed", ["", "model.safetensors.index.json"])
def test_shards_are_read_by_folder_and_by_index(tmp_path: Path, typed: str) -> None:
    arrays = sharded(tmp_path)
    checkpoint = read(tmp_path / typed)
    assert list(checkpoint) == list(arrays)
    assert all(same_bits(checkpoint[name].read(), array) for name, array in arrays.items())
    assert checkpoint.metadata == {"format": "pt"}
    assert len(checkpoint.files) == 4


def test_a_folder_with_one_file_is_that_file(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"w": np.zeros(2, np.float32)}, format="safetensors")
    (tmp_path / "config.json").write_text("{}")
    assert set(read(tmp_path)) == {"w"}


def test_a_folder_with_several_files_and_no_index_asks_for_one(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(UsageError, match=r"model-00001-of-00003.safetensors, .*; name one of them"):
        read(tmp_path)
    assert set(read(tmp_path / "model-00003-of-00003.safetensors")) == {"layer.4"}


def test_one_shard_is_a_plain_file(tmp_path: Path) -> None:
    write(tmp_path / "m.safetensors", {"w": np.zeros(2, np.float32)}, format="safetensors", shard_size=1 << 20)
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.torch
def test_transformers_loads_our_shards(tmp_path: Path, torch) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    model = transformers.BertModel(config)
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    write(tmp_path / "model.safetensors", arrays, format="safetensors", shard_size=4000)
    config.save_pretrained(tmp_path)
    loaded = transformers.BertModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())
    again = tmp_path / "theirs"
    model.save_pretrained(again, max_shard_size="4KB")
    theirs = read(again)
    assert len(theirs.files) > 3
    assert all(same_bits(theirs[name].read(), array) for name, array in arrays.items())


def edit_index(folder: Path, **changes: str) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"].update(changes)
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "", "a\\b", "a\0b"]
)
def test_an_index_does_not_lead_out_of_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    sharded(folder)
    write(tmp_path / "secret.safetensors", {"w": np.zeros(2, np.float32)}, format="safetensors")
    edit_index(folder, w=name)
    with pytest.raises(FormatError, match="wanted a file name in the same folder"):
        read(folder)


def test_missing_shards_and_tensors_are_named(tmp_path: Path) -> None:
    sharded(tmp_path)
    edit_index(tmp_path, ghost="model-00001-of-00003.safetensors", other="model-00001-of-00003.safetensors")
    with pytest.raises(FormatError, match=r"ghost is not in model-00001-of-00003.safetensors; other is not in"):
        read(tmp_path)
    for number in (1, 3):
        (tmp_path / f"model-0000{number}-of-00003.safetensors").unlink()
    with pytest.raises(
        FormatError, match=r"shards are missing: model-00001-of-00003.safetensors, model-00003-of-00003.safetensors"
    ):
        read(tmp_path / "model.safetensors.index.json")


def test_tensors_that_the_index_leaves_out_are_noted(tmp_path: Path) -> None:
    sharded(tmp_path)
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    del index["weight_map"]["layer.1"]
    path.write_text(json.dumps(index))
    checkpoint = read(tmp_path)
    assert "layer.1" not in checkpoint
    assert checkpoint.notes == ("layer.1 in model-00001-of-00003.safetensors is not in the index: not read",)
