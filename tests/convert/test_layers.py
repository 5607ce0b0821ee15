"""--layers: layers chosen and renumbered, also where they are an axis."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made import as_modelzoo, differences, google_bert, load, save

from porting.convert.convert import convert
from porting.convert.summary import parse_layers
from porting.convert.verify import verify
from porting.errors import MismatchError, UsageError

Golden = Callable[[str], Path]


@pytest.mark.parametrize("text", ["0-2", "1,3,5", "5,0", "4", "0-5"])
def test_chosen_layers_are_renumbered_in_the_order_given(text: str, tmp_path: Path) -> None:
    layers = parse_layers(text)
    assert layers is not None
    arrays = google_bert(layers=6)
    source = save(tmp_path / "source.npz", arrays, "npz")
    ledger = convert(source, tmp_path / "out", to="modelzoo", layers=layers)
    want = {name: value for name, value in arrays.items() if "/layer_" not in name}
    for new, old in enumerate(layers):
        here = f"/layer_{old}/"
        want |= {n.replace(here, f"/layer_{new}/"): v for n, v in arrays.items() if here in n}
    assert differences(load(tmp_path / "out"), as_modelzoo(want)) == []
    left = {line["name"] for line in ledger.dropped if line["reason"].startswith("--layers keeps")}
    assert left == {n for n in arrays if (at := re.search(r"/layer_(\d+)/", n)) and int(at[1]) not in layers}
    assert ledger.options["layers"] == list(layers)


def test_the_same_dialect(tmp_path: Path) -> None:
    arrays = google_bert(layers=3)
    source = save(tmp_path / "source.npz", arrays, "npz")
    convert(source, tmp_path / "out.npz", to="google", format="npz", layers=[2])
    want = {n.replace("layer_2", "layer_0"): v for n, v in arrays.items() if not re.search("layer_[01]", n)}
    assert differences(load(tmp_path / "out.npz"), want) == []


def test_a_stacked_axis_is_cut_too(tmp_path: Path, golden: Golden) -> None:
    """XLNet's biases and segment embeddings have the layer as first axis in TensorFlow, and in the name elsewhere."""
    source = golden("xlnet_b1/pretrained.ckpt")
    want = load(source)
    keep = (2, 0)
    convert(source, tmp_path / "hf", to="hf", layers=keep, config="none")
    convert(source, tmp_path / "tf", to="google", layers=keep, config="none")
    convert(tmp_path / "hf", tmp_path / "tf.back", to="google", config="none")
    hf, tf = load(tmp_path / "hf"), load(tmp_path / "tf")
    for name in ("r_w_bias", "r_r_bias", "r_s_bias", "seg_embed"):
        stacked = want[f"model/transformer/{name}"]
        assert np.array_equal(tf[f"model/transformer/{name}"], stacked[list(keep)])
        for new, old in enumerate(keep):
            assert np.array_equal(hf[f"transformer.layer.{new}.rel_attn.{name}"], stacked[old])
    kernel = "model/transformer/layer_{}/ff/layer_1/kernel"
    assert np.array_equal(tf[kernel.format(0)], want[kernel.format(2)])
    assert kernel.format(2) not in tf
    assert differences(load(tmp_path / "tf.back"), tf) == []
    convert(tmp_path / "tf", tmp_path / "again", to="google", layers=(1, 0), config="none")
    assert np.array_equal(
        load(tmp_path / "again")["model/transformer/r_w_bias"], want["model/transformer/r_w_bias"][[0, 2]]
    )


def test_the_ledger_of_a_cut_axis_verifies(tmp_path: Path, golden: Golden) -> None:
    source = golden("xlnet_b1/pretrained.ckpt")
    for to in ("google", "hf"):
        ledger = convert(source, tmp_path / to, to=to, layers=(1,), config="none")
        assert verify(tmp_path / f"{to}.port.json").holds
    operations = {record.target: record.operation for record in ledger.tensors}
    assert operations["transformer.layer.0.rel_attn.r_w_bias"] == ("split layer",)
    same = convert(source, tmp_path / "same", to="google", layers=(1,), config="none")
    operations = {record.target: record.operation for record in same.tensors}
    assert operations["model/transformer/r_w_bias"] == ("choose layers",)
    assert operations["model/transformer/layer_0/ff/layer_1/kernel"] == ("copy",)


def test_layers_of_a_reference(tmp_path: Path) -> None:
    source = save(tmp_path / "source.npz", google_bert(layers=4), "npz")
    like = save(tmp_path / "like.npz", as_modelzoo(google_bert(layers=2)), "npz")
    convert(source, tmp_path / "out", to="modelzoo", layers=(0, 3), like=like)
    assert set(load(tmp_path / "out")) == set(load(like))
    with pytest.raises(MismatchError, match=r"layers\.\{2-3\}\.intermediate\.bias  unexpected: like\.npz"):
        convert(source, tmp_path / "no", to="modelzoo", like=like)


@pytest.mark.parametrize("layers", [(2,), (0, 7), (-1,), ()])
def test_layers_that_are_not_there(layers: tuple[int, ...], tmp_path: Path) -> None:
    source = save(tmp_path / "source.npz", google_bert(), "npz")
    with pytest.raises(MismatchError, match="--layers"):
        convert(source, tmp_path / "out", to="modelzoo", layers=layers)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "a", "1,", "3-1", "1,1", "0-2,1", "-1", "1--2", "1.5", "9999999"])
def test_what_is_no_list_of_layers(text: str) -> None:
    with pytest.raises(UsageError, match="--layers"):
        parse_layers(text)
