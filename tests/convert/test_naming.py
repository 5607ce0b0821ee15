"""How outputs are named: by the first scope, by --prefix, by free fields."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from made import as_hf, as_modelzoo, differences, google_bert, load, save

from porting.convert.convert import convert
from porting.errors import MismatchError, UsageError


def names(tmp_path: Path, to: str, prefix: str | None) -> tuple[str, str, str]:
    """What a weight of the encoder, the pooler's bias and a head's bias are called."""
    source = save(tmp_path / "source.npz", google_bert(), "npz")
    got = list(load(Path(convert(source, tmp_path / "out", to=to, prefix=prefix, overwrite=True).target.path)))
    assert len(got) == len(set(got)) == len(google_bert())
    return (
        next(name for name in got if "0" in name and ("query" in name) and ("weight" in name or "kernel" in name)),
        next(n for n in got if n.endswith(("dense.bias", "dense/bias")) and not re.search("encoder|cls", n)),
        next(name for name in got if "cls" in name and name.endswith("bias")),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("to", "prefix", "begin"),
    [
        ("hf", None, ("bert.", "bert.", "")),
        ("hf", "bert.", ("bert.", "bert.", "")),
        ("hf", "", ("", "", "")),
        ("hf", "model.bert.", ("model.bert.", "model.bert.", "model.")),
        ("hf", "net.", ("net.", "net.", "net.")),
        ("modelzoo", None, ("bert.bert.bert_", "bert.bert.", "bert.")),
        ("modelzoo", "bert.bert_", ("bert.bert_", "bert.", "")),
        ("modelzoo", "bert_", ("bert_", "", "")),
        ("modelzoo", "network.bert.bert.bert_", ("network.bert.bert.bert_", "network.bert.bert.", "network.bert.")),
        ("modelzoo", "student_", ("student_", "student_", "student_")),
        ("google", "bert/", ("bert/", "bert/", "")),
        ("google", "tower/bert/", ("tower/bert/", "tower/bert/", "tower/")),
        ("google", "student/", ("student/", "student/", "student/")),
        ("google", "", ("", "", "")),
    ],
)
def test_prefix_of_the_encoder_decides_the_rest(
    to: str, prefix: str | None, begin: tuple[str, str, str], tmp_path: Path
) -> None:
    inside = {
        "hf": ("encoder.layer.", "pooler.dense.bias", "cls."),
        "modelzoo": ("encoder.layers.", "dense.bias", "cls"),
        "google": ("encoder/layer_", "pooler/dense/bias", "cls/"),
    }[to]
    for name, start, rest in zip(names(tmp_path, to, prefix), begin, inside, strict=True):
        assert name.startswith(start + rest), name


@pytest.mark.parametrize("prefix", ["bert.", "", "model.bert.", "bert.bert_", "module."])
def test_whatever_prefix_is_written_is_read_again(prefix: str, tmp_path: Path) -> None:
    arrays = google_bert()
    source = save(tmp_path / "source.npz", arrays, "npz")
    for to in ("hf", "modelzoo", "mindnlp"):
        convert(source, tmp_path / to, to=to, prefix=prefix)
        ledger = convert(tmp_path / to, tmp_path / f"{to}.back", to="google", source_dialect=to)
        assert ledger.source.dialect == to
        assert differences(load(tmp_path / f"{to}.back"), arrays) == []


def test_wrappers_before_names_are_left_behind(tmp_path: Path) -> None:
    """`module.` of DataParallel says nothing about the model."""
    arrays = google_bert()
    for wrapper in ("module.", "model.net."):
        wrapped = {wrapper + name: value for name, value in as_hf(arrays).items()}
        convert(save(tmp_path / "w.npz", wrapped, "npz"), tmp_path / "out", to="modelzoo", overwrite=True)
        assert differences(load(tmp_path / "out"), as_modelzoo(arrays)) == []


def test_prefix_and_like_exclude_each_other(tmp_path: Path) -> None:
    source = save(tmp_path / "source.npz", google_bert(), "npz")
    like = save(tmp_path / "like.npz", as_hf(google_bert()), "npz")
    with pytest.raises(UsageError, match="--prefix"):
        convert(source, tmp_path / "out", to="hf", prefix="bert.", like=like)


def test_free_fields_keep_their_value_or_take_the_users(tmp_path: Path, golden: Callable[[str], Path]) -> None:
    source = golden("xlnet_b1/finetuned.ckpt")
    convert(source, tmp_path / "ms", to="kit_ms")
    assert "classification_mnli.logit.weight" in load(tmp_path / "ms")
    convert(source, tmp_path / "hf", to="hf")
    convert(tmp_path / "hf", tmp_path / "tf", to="google")
    assert "model/classification_task/logit/kernel" in load(tmp_path / "tf")
    convert(tmp_path / "hf", tmp_path / "tf.sst", to="google", variables={"task": "sst-2"})
    assert "model/classification_sst-2/logit/kernel" in load(tmp_path / "tf.sst")
    with pytest.raises(MismatchError, match="field tasks: not known; there are score, task"):
        convert(tmp_path / "hf", tmp_path / "no", to="google", variables={"tasks": "sst-2"})
    with pytest.raises(MismatchError, match="field task: wanted a word without"):
        convert(tmp_path / "hf", tmp_path / "no", to="google", variables={"task": "sst/2"})
