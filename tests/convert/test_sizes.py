"""Checkpoints that do not fit: refused by name, all at once, before a byte is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made import SQUARE, Arrays, as_hf, as_modelzoo, configure, differences, google_bert, load, save

from porting.convert.convert import convert
from porting.errors import MismatchError, PortError


def refused(folder: Path, arrays: Arrays, **options: object) -> tuple[str, ...]:
    """The problems of a conversion to modelzoo that must fail and leave nothing."""
    source = save(folder / "source.safetensors", arrays)
    before = sorted(folder.iterdir())
    with pytest.raises(MismatchError) as caught:
        convert(source, folder / "out.ckpt", to="modelzoo", **options)  # type: ignore[arg-type]
    assert sorted(folder.iterdir()) == before
    assert len(set(caught.value.problems)) == len(caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize(("to", "rule"), [("hf", as_hf), ("modelzoo", as_modelzoo)])
def test_everything_square_is_right_by_table(to: str, rule: Callable[[Arrays], Arrays], tmp_path: Path) -> None:
    arrays = google_bert(**SQUARE)
    source = save(tmp_path / "square.safetensors", arrays)
    convert(source, tmp_path / "there", to=to)
    assert differences(load(tmp_path / "there"), rule(arrays)) == []
    convert(tmp_path / "there", tmp_path / "back", to="google")
    assert differences(load(tmp_path / "back"), arrays) == []


@pytest.mark.parametrize("square", [{"vocab": 8}, {"positions": 8}, {"inner": 8}, {"vocab": 8, "positions": 8}])
def test_partly_square(square: dict[str, int], tmp_path: Path) -> None:
    """Embeddings that are as wide as they are long are not turned, whatever a reference's vocabulary is."""
    arrays = google_bert(**square)
    source = save(tmp_path / "partly.safetensors", arrays)
    convert(source, tmp_path / "there", to="modelzoo")
    assert differences(load(tmp_path / "there"), as_modelzoo(arrays)) == []


def test_wrong_vocabulary_by_config(tmp_path: Path) -> None:
    configure(tmp_path, vocab_size=21128, hidden_size=8)
    (problem,) = refused(tmp_path, google_bert())
    assert problem == (
        "vocab: bert_config.json says 21128, the checkpoint has 30 (bert/embeddings/word_embeddings (30, 8))"
    )


def test_wrong_vocabulary_by_reference(tmp_path: Path) -> None:
    like = save(tmp_path / "like.safetensors", as_modelzoo(google_bert(vocab=21)))
    problems = refused(tmp_path, google_bert(), like=like)
    assert problems == (
        "bert.bert.bert_embedding_lookup.embedding_table: like.safetensors has (21, 8), the conversion gives (30, 8)",
        "bert.cls1.output_bias: like.safetensors has (21,), the conversion gives (30,)",
    )


def test_missing_layer_by_config(tmp_path: Path) -> None:
    configure(tmp_path, num_hidden_layers=4)
    problems = refused(tmp_path, google_bert())
    assert problems[0] == "layer: bert_config.json says 4, the checkpoint has 2"
    assert "bert/encoder/layer_{2-3}/intermediate/dense/kernel  missing" in problems
    assert len(problems) == 17, "16 rows of a layer, collapsed, and the count"


def test_extra_layer_by_config(tmp_path: Path) -> None:
    configure(tmp_path, num_hidden_layers=1)
    problems = refused(tmp_path, google_bert(layers=3))
    assert "layer: bert_config.json says 1, the checkpoint has 3" in problems
    assert "bert/encoder/layer_{1-2}/output/dense/bias  extra: the config has fewer" in problems


def test_missing_layer_by_gap(tmp_path: Path) -> None:
    arrays = {name: value for name, value in google_bert(layers=4).items() if "/layer_1/" not in name}
    problems = refused(tmp_path, arrays)
    assert len(problems) == 16
    assert all(problem.startswith("bert/encoder/layer_1/") and problem.endswith("  missing") for problem in problems)


def test_missing_tensors_are_collapsed_over_layers(tmp_path: Path) -> None:
    arrays = {n: v for n, v in google_bert(layers=5).items() if not n.endswith("intermediate/dense/bias")}
    del arrays["bert/encoder/layer_3/output/dense/kernel"]
    assert refused(tmp_path, arrays) == (
        "bert/encoder/layer_{0-4}/intermediate/dense/bias  missing",
        "bert/encoder/layer_3/output/dense/kernel  missing",
    )


def test_half_a_group(tmp_path: Path) -> None:
    arrays = google_bert()
    del arrays["bert/pooler/dense/bias"]
    del arrays["cls/predictions/transform/LayerNorm/gamma"]
    assert refused(tmp_path, arrays) == (
        "bert/pooler/dense/bias  missing",
        "cls/predictions/transform/LayerNorm/gamma  missing",
    )


def test_no_backbone(tmp_path: Path) -> None:
    arrays = {n: v for n, v in google_bert().items() if n.startswith("cls/")}
    with pytest.raises(PortError, match="no family fits"):
        convert(save(tmp_path / "heads.npz", arrays, "npz"), tmp_path / "out", to="modelzoo")
    assert [file.name for file in tmp_path.iterdir()] == ["heads.npz"]


def test_unknown_tensors(tmp_path: Path) -> None:
    arrays = google_bert() | {f"bert/encoder/layer_{i}/adapter/kernel": np.ones((2, 2), "f4") for i in range(2)}
    assert refused(tmp_path, arrays | {"what": np.ones(3, "f4")}) == (
        "bert/encoder/layer_{0-1}/adapter/kernel  unexpected: no row of bert google",
        "what  unexpected: no row of bert google",
    )


def test_a_transposed_source_where_the_shape_shows_it(tmp_path: Path) -> None:
    arrays = google_bert()
    for layer in range(2):
        name = f"bert/encoder/layer_{layer}/intermediate/dense/kernel"
        arrays[name] = np.ascontiguousarray(arrays[name].T)
    (problem,) = refused(tmp_path, arrays)
    assert problem == (
        "bert/encoder/layer_{0-1}/intermediate/dense/kernel: google wants (hidden 8, inner 12), got (12, 8), "
        "which is the transpose"
    )


def test_another_rank(tmp_path: Path) -> None:
    arrays = google_bert() | {"bert/pooler/dense/bias": np.ones((1, 8), "f4")}
    assert refused(tmp_path, arrays) == ("bert/pooler/dense/bias: google wants (hidden' 8), got (1, 8)",)


def test_text_is_no_parameter(tmp_path: Path) -> None:
    arrays = google_bert() | {"bert/pooler/dense/bias": np.array([b"x"] * 8, dtype=object)}
    save(tmp_path / "text.ckpt", arrays, "tf-bundle")
    with pytest.raises(MismatchError) as caught:
        convert(tmp_path / "text.ckpt", tmp_path / "out.npz", to="modelzoo", format="npz")
    assert caught.value.problems == ("bert/pooler/dense/bias: google wants (hidden' 8), got text",)


def test_a_stacked_axis_of_other_length(tmp_path: Path, golden: Callable[[str], Path]) -> None:
    arrays = {n: v for n, v in load(golden("xlnet_b1/xlnet_model.ckpt")).items() if "Adam" not in n}
    arrays["model/transformer/r_w_bias"] = arrays["model/transformer/r_w_bias"][:2]
    arrays["model/transformer/seg_embed"] = np.repeat(arrays["model/transformer/seg_embed"], 2, axis=0)
    source = save(tmp_path / "stacked.safetensors", arrays)
    with pytest.raises(MismatchError) as caught:
        convert(source, tmp_path / "out", to="hf", config="none")
    assert caught.value.problems == (
        "model/transformer/r_w_bias: google wants (layer 3, head 4, d 8), got (2, 4, 8)",
        "model/transformer/seg_embed: google wants (layer 3, segment 2, head 4, d 8), got (6, 2, 4, 8)",
    )


def test_a_config_whose_variant_is_not_the_checkpoints(tmp_path: Path, golden: Callable[[str], Path]) -> None:
    golden("xlnet_b1/xlnet_model.ckpt")
    config = configure(tmp_path, "tied.json", untie_r=False)
    with pytest.raises(MismatchError) as caught:
        convert(tmp_path / "xlnet_model.ckpt", tmp_path / "out", to="hf", config=config)
    (problem,) = caught.value.problems
    assert problem == (
        "untie_r: tied.json says false, but model/transformer/r_r_bias, model/transformer/r_s_bias, "
        "model/transformer/r_w_bias shows true"
    )


def test_another_family(tmp_path: Path, golden: Callable[[str], Path]) -> None:
    source = golden("bert_a1/bert_model.ckpt")
    with pytest.raises(MismatchError, match="no family fits"):
        convert(source, tmp_path / "out", to="hf", family="xlnet")
    gpt = {f"h.{i}.attn.c_attn.weight": np.ones((4, 12), "f4") for i in range(3)}
    with pytest.raises(MismatchError, match=r"h\.\{0-2\}\.attn"):
        convert(save(tmp_path / "gpt.npz", gpt, "npz"), tmp_path / "out", to="hf")
    assert not (tmp_path / "out").exists()


def test_several_problems_are_one_message(tmp_path: Path) -> None:
    """Config, shapes, gaps, strangers and required groups: nobody has to mend and try again five times."""
    configure(tmp_path, vocab_size=99)
    arrays = google_bert(groups=("pooler",), layers=3)
    arrays["bert/encoder/layer_0/output/dense/kernel"] = np.ones((8, 12), "f4")
    del arrays["bert/encoder/layer_1/output/dense/bias"]
    arrays["stranger"] = np.ones(1, "f4")
    problems = refused(tmp_path, arrays, require=("mlm", "nope"))
    assert [problem.split(":")[0].split("  ")[0] for problem in problems] == [
        "vocab",
        "bert/encoder/layer_0/output/dense/kernel",
        "bert/encoder/layer_1/output/dense/bias",
        "stranger",
        "group mlm",
        "group nope",
    ]


def test_problems_of_names_and_of_a_reference_are_one_message(tmp_path: Path) -> None:
    like = save(tmp_path / "like.safetensors", as_modelzoo(google_bert(inner=16)))
    arrays = google_bert(layers=2) | {"stranger": np.ones(1, "f4")}
    problems = refused(tmp_path, arrays, like=like)
    assert problems[0].startswith("stranger  unexpected")
    at = "bert.bert.bert_encoder.layers.{0-1}."
    assert problems[1:] == (
        f"{at}intermediate.weight: like.safetensors has (16, 8), the conversion gives (12, 8)",
        f"{at}intermediate.bias: like.safetensors has (16,), the conversion gives (12,)",
        f"{at}output.dense.weight: like.safetensors has (8, 16), the conversion gives (8, 12)",
    )
    del arrays["bert/pooler/dense/bias"]
    problems = refused(tmp_path, arrays, like=like)
    assert "inner: like.safetensors has 16, the checkpoint has 12" in problems
    assert any(problem.startswith("stranger") for problem in problems)
    assert "bert/pooler/dense/bias  missing" in problems


@pytest.mark.parametrize("number", ["4000000000", "9" * 5000])
def test_numbers_that_no_model_has_end_at_once(number: str, tmp_path: Path) -> None:
    arrays = google_bert() | {f"bert/encoder/layer_{number}/output/dense/bias": np.ones(8, "f4")}
    assert any(number[:9] in problem for problem in refused(tmp_path, arrays))
    configure(tmp_path, "huge.json", num_hidden_layers=10**9)
    assert refused(tmp_path, google_bert(), config=tmp_path / "huge.json")[-1].startswith("layer 1000000000: wanted")


def test_names_with_leading_zeros_are_no_layers(tmp_path: Path) -> None:
    arrays = google_bert() | {"bert/encoder/layer_00/output/dense/bias": np.ones(8, "f4")}
    assert refused(tmp_path, arrays) == ("bert/encoder/layer_00/output/dense/bias  unexpected: no row of bert google",)


def test_both_spellings_of_one_tensor_are_not_merged(tmp_path: Path) -> None:
    arrays = as_hf(google_bert())
    arrays["bert.embeddings.LayerNorm.gamma"] = arrays["bert.embeddings.LayerNorm.weight"] + 1
    (problem,) = refused(tmp_path, arrays)
    assert problem.startswith("bert.embeddings.LayerNorm.")
    assert problem.endswith("  unexpected: no row of bert hf")


@pytest.mark.parametrize("groups", [(), ("pooler",), ("pooler", "mlm"), ("mlm", "nsp")])
def test_absent_groups_are_said(groups: tuple[str, ...], tmp_path: Path) -> None:
    arrays = google_bert(groups)
    ledger = convert(save(tmp_path / "some.safetensors", arrays), tmp_path / "out", to="modelzoo")
    assert differences(load(tmp_path / "out"), as_modelzoo(arrays)) == []
    assert [name for name in ("pooler", "mlm", "nsp") if name not in groups] == [
        name for name in ledger.absent_groups if name in {"pooler", "mlm", "nsp"}
    ]
