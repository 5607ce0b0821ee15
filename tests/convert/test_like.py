"""--like: the names of a reference are followed, its values never."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made import Arrays, as_hf, as_modelzoo, differences, google_bert, load, save

from porting.convert.convert import convert
from porting.errors import MismatchError, UsageError


def test_names_order_and_spellings(tmp_path: Path) -> None:
    """A reference of before 2019 spells LayerNorm's weights gamma and beta, and has its own order and prefix."""
    arrays = google_bert()
    want: Arrays = {}
    for name, value in reversed(as_hf(arrays).items()):
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        want["old." + old] = value
    like = save(tmp_path / "like.npz", {name: np.zeros_like(value) for name, value in want.items()}, "npz")
    source = save(tmp_path / "source.npz", arrays, "npz")
    ledger = convert(source, tmp_path / "out", to="hf", like=like, format="npz")
    got = load(tmp_path / "out")
    assert list(got) == list(want)
    assert differences(got, want) == []
    assert ledger.options["like"] == str(like)


def test_order_runs_across_models(tmp_path: Path) -> None:
    """The tensors of two models in one file may stand between each other."""
    student = as_hf(google_bert(layers=1, seed=1))
    teacher = {"teacher." + name: value for name, value in as_hf(google_bert(hidden=16, seed=2)).items()}
    mixed = dict(sorted((student | teacher).items(), key=lambda item: item[0][-9:]))
    source = save(tmp_path / "source.npz", student | teacher, "npz")
    like = save(tmp_path / "like.npz", mixed, "npz")
    convert(source, tmp_path / "out", to="hf", like=like, format="npz", family="tinybert", config="none")
    assert list(load(tmp_path / "out")) == list(mixed)
    assert differences(load(tmp_path / "out"), mixed) == []


@pytest.mark.parametrize("first", ["decoder", "embedding"])
def test_tied_copies_that_the_reference_lists_are_written(first: str, tmp_path: Path) -> None:
    arrays = google_bert()
    want = as_hf(arrays)
    decoder = {"cls.predictions.decoder.weight": want["bert.embeddings.word_embeddings.weight"]}
    decoder["cls.predictions.decoder.bias"] = want["cls.predictions.bias"]
    want = decoder | want if first == "decoder" else want | decoder
    like = save(tmp_path / "like.npz", {name: np.zeros_like(value) for name, value in want.items()}, "npz")
    source = save(tmp_path / "source.npz", arrays, "npz")
    for kind in ("torch", "safetensors", "npz"):
        ledger = convert(source, tmp_path / kind, to="hf", like=like, format=kind)
        assert differences(load(tmp_path / kind), want) == []
        assert all(record.hash for record in ledger.tensors)
        assert all(tensor.hash for tensor in ledger.read)


def test_variants_come_from_the_reference(tmp_path: Path) -> None:
    """One bias for all layers where the reference has one, one per layer where it has those."""
    from porting.convert.registry import families

    assert {v.when for _, row in families()["xlnet"].rows() for v in row.cells.get("google", ())} > {None}
    sizes = {"layer": 2, "head": 2, "d": 3, "hidden": 6, "inner": 5, "vocab": 7, "segment": 2}
    tied = xlnet_google(sizes, untied=False)
    save(tmp_path / "tied.npz", tied, "npz")
    convert(tmp_path / "tied.npz", tmp_path / "hf.npz", to="hf", format="npz")
    got = load(tmp_path / "hf.npz")
    for layer in range(2):
        assert np.array_equal(got[f"transformer.layer.{layer}.rel_attn.r_w_bias"], tied["model/transformer/r_w_bias"])
    like = save(tmp_path / "like.npz", {n: np.zeros_like(v) for n, v in tied.items()}, "npz")
    convert(tmp_path / "hf.npz", tmp_path / "back.npz", to="google", like=like, format="npz")
    assert differences(load(tmp_path / "back.npz"), tied) == []
    convert(tmp_path / "hf.npz", tmp_path / "untied.npz", to="google", format="npz")
    assert load(tmp_path / "untied.npz")["model/transformer/r_w_bias"].shape == (2, 2, 3)


def test_a_variant_that_cannot_be_made_is_a_mismatch(tmp_path: Path) -> None:
    """Within one dialect a table need not say how one variant becomes the other."""
    sizes = {"layer": 2, "head": 2, "d": 3, "hidden": 6, "inner": 5, "vocab": 7, "segment": 2}
    source = save(tmp_path / "untied.npz", xlnet_google(sizes, untied=True), "npz")
    like = save(tmp_path / "tied.npz", xlnet_google(sizes, untied=False), "npz")
    with pytest.raises(MismatchError) as caught:
        convert(source, tmp_path / "out", to="google", like=like)
    assert "r_w_bias : head d: cannot be made of r_w_bias : layer head d: layer is an axis of the source only" in (
        caught.value.problems
    )


def test_one_for_all_layers_demands_equal_layers(tmp_path: Path) -> None:
    sizes = {"layer": 4, "head": 2, "d": 3, "hidden": 6, "inner": 5, "vocab": 7, "segment": 2}
    tied = xlnet_google(sizes, untied=False)
    save(tmp_path / "tied.npz", tied, "npz")
    convert(tmp_path / "tied.npz", tmp_path / "hf.npz", to="hf", format="npz")
    got = load(tmp_path / "hf.npz")
    for layer in (1, 2):
        got[f"transformer.layer.{layer}.rel_attn.r_r_bias"][0, 0] += 1
    save(tmp_path / "uneven.npz", got, "npz")
    with pytest.raises(MismatchError) as caught:
        convert(tmp_path / "uneven.npz", tmp_path / "no", to="google", like=tmp_path / "tied.npz")
    (problem,) = caught.value.problems
    assert problem == (
        "model/transformer/r_r_bias: google has one for all, but transformer.layer.{1-2}.rel_attn.r_r_bias differ "
        "from transformer.layer.0.rel_attn.r_r_bias"
    )


def xlnet_google(sizes: dict[str, int], *, untied: bool) -> Arrays:
    """A small XLNet of Google's names."""
    hidden, head, d, inner = sizes["hidden"], sizes["head"], sizes["d"], sizes["inner"]
    at = "model/transformer/"
    bias = (sizes["layer"], head, d) if untied else (head, d)
    shapes: dict[str, tuple[int, ...]] = {
        f"{at}word_embedding/lookup_table": (sizes["vocab"], hidden),
        f"{at}mask_emb/mask_emb": (1, 1, hidden),
        f"{at}r_w_bias": bias,
        f"{at}r_r_bias": bias,
        f"{at}r_s_bias": bias,
        f"{at}seg_embed": (sizes["layer"], 2, head, d),
    }
    for layer in range(sizes["layer"]):
        here = f"{at}layer_{layer}/"
        shapes |= {f"{here}rel_attn/{name}/kernel": (hidden, head, d) for name in "qkvor"}
        shapes |= {
            f"{here}{part}/LayerNorm/{name}": (hidden,) for part in ("rel_attn", "ff") for name in ("beta", "gamma")
        }
        shapes |= {f"{here}ff/layer_1/kernel": (hidden, inner), f"{here}ff/layer_1/bias": (inner,)}
        shapes |= {f"{here}ff/layer_2/kernel": (inner, hidden), f"{here}ff/layer_2/bias": (hidden,)}
    random = np.random.default_rng(5)
    return {name: random.standard_normal(shape).astype("f4") for name, shape in shapes.items()}


def test_missing_and_unexpected(tmp_path: Path) -> None:
    source = save(tmp_path / "source.npz", google_bert(groups=("pooler",)), "npz")
    like = save(tmp_path / "like.npz", as_modelzoo(google_bert(groups=("nsp",))), "npz")
    with pytest.raises(MismatchError) as caught:
        convert(source, tmp_path / "out", to="modelzoo", like=like)
    assert caught.value.problems == (
        "bert.cls2.dense.bias  missing: like.npz wants it (--allow-missing)",
        "bert.cls2.dense.weight  missing: like.npz wants it (--allow-missing)",
        "bert.bert.dense.weight  unexpected: like.npz does not have it (--allow-unexpected)",
        "bert.bert.dense.bias  unexpected: like.npz does not have it (--allow-unexpected)",
    )
    ledger = convert(
        source, tmp_path / "out", to="modelzoo", like=like,
        allow_missing=["bert.cls2.*"], allow_unexpected=["bert.bert.dense.weight", "*.dense.bias"],
    )  # fmt: skip
    assert ledger.missing == ("bert.cls2.dense.bias", "bert.cls2.dense.weight")
    assert ledger.unexpected == ("bert.bert.dense.bias", "bert.bert.dense.weight")
    assert differences(load(tmp_path / "out"), as_modelzoo(google_bert(groups=()))) == []


def test_a_reference_of_another_dialect(tmp_path: Path) -> None:
    source = save(tmp_path / "source.npz", google_bert(), "npz")
    like = save(tmp_path / "like.npz", {"completely.else": np.ones(1)}, "npz")
    with pytest.raises(UsageError, match="its names are not bert modelzoo"):
        convert(source, tmp_path / "out", to="modelzoo", like=like)
