"""Checkpoints that the original implementations wrote, through every direction and back to the byte."""

from __future__ import annotations

import re
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from made import as_hf, as_modelzoo, differences, load, save

from porting.checkpoint.registry import formats
from porting.convert.convert import convert
from porting.convert.registry import families

GOLDEN = Path(__file__).parent.parent / "golden"
SLOT = re.compile(r"(^adam_[mv]\.|/adam_[mv]$|^global_step$|^learning_rate$|^scale_sense$|_step$|_power$)")

CASES = {
    "bert_a1/bert_model.ckpt": ("bert", "google"),
    "bert_a1/finetuned.ckpt": ("bert", "google"),
    "xlnet_b1/pretrained.ckpt": ("xlnet", "google"),
    "xlnet_b1/finetuned.ckpt": ("xlnet", "google"),
    "tinybert_c1/teacher_pretrained.ckpt": ("bert", "modelzoo"),
    "tinybert_c1/teacher_cls.ckpt": ("bert", "modelzoo"),
    "tinybert_c1/student_gd.ckpt": ("tinybert", "modelzoo"),
    "tinybert_c1/student_td1.ckpt": ("bert", "modelzoo"),
}
CARRIERS = ("tf-bundle", "mindspore-ckpt", "mindspore-safetensors", "safetensors", "torch", "npz")


def through(source: Path, folder: Path, hops: list[str], family: str) -> Path:
    """Convert from dialect to dialect. The config is that of the golden case; transformers forgets the task's name."""
    config = next(iter(source.parent.glob("*config.json")), "none")
    task = {"task": "mnli"} if family == "xlnet" else None
    at = source
    for number, hop in enumerate(hops):
        to = folder / f"{number}.{hop}"
        ledger = convert(at, to, to=hop, family=family, config=config, variables=task, overwrite=True)
        assert ledger.verified
        assert ledger.target.dialect == hop
        at = to
    return at


@pytest.mark.parametrize("case", CASES)
def test_every_direction_and_back_is_the_same_to_the_byte(case: str, tmp_path: Path) -> None:
    family, home = CASES[case]
    source = GOLDEN / case
    want = {name: value for name, value in load(source).items() if not SLOT.search(name)}
    assert want
    dialects = [dialect.name for dialect in families()[family].dialects]
    for one, two in permutations(dialects, 2):
        hops = [hop for hop, before in ((one, home), (two, one), (home, two)) if hop != before]
        back = through(source, tmp_path, hops, family)
        assert differences(load(back), want) == [], f"{home} -> {' -> '.join(hops)}"


def test_bert_becomes_what_a_person_wrote_down(tmp_path: Path) -> None:
    source = GOLDEN / "bert_a1/bert_model.ckpt"
    arrays = {name: value for name, value in load(source).items() if not name.startswith("output_")}
    for dialect, rule in (("hf", as_hf), ("modelzoo", as_modelzoo)):
        convert(source, tmp_path / dialect, to=dialect)
        got = {n: v for n, v in load(tmp_path / dialect).items() if not re.search(r"(classifier|dense_1)\.", n)}
        assert differences(got, rule(arrays)) == []


def test_xlnet_becomes_what_a_person_wrote_down(tmp_path: Path) -> None:
    source = GOLDEN / "xlnet_b1/pretrained.ckpt"
    want = load(source)
    convert(source, tmp_path / "hf", to="hf")
    got = load(tmp_path / "hf")
    at = "model/transformer/"
    for layer in range(3):
        here = f"transformer.layer.{layer}."
        for name in ("r_w_bias", "r_r_bias", "r_s_bias", "seg_embed"):
            assert np.array_equal(got[f"{here}rel_attn.{name}"], want[at + name][layer])
        for name in "qkvor":
            assert np.array_equal(got[f"{here}rel_attn.{name}"], want[f"{at}layer_{layer}/rel_attn/{name}/kernel"])
        for name in ("layer_1", "layer_2"):
            assert np.array_equal(got[f"{here}ff.{name}.weight"], want[f"{at}layer_{layer}/ff/{name}/kernel"].T)
        assert np.array_equal(got[f"{here}ff.layer_norm.weight"], want[f"{at}layer_{layer}/ff/LayerNorm/gamma"])
    assert np.array_equal(got["transformer.mask_emb"], want[at + "mask_emb/mask_emb"])
    assert np.array_equal(got["lm_loss.bias"], want["model/lm_loss/bias"])


@pytest.mark.parametrize(("read_from", "write_to"), [(a, b) for a in CARRIERS for b in CARRIERS])
def test_every_pair_of_formats_carries(read_from: str, write_to: str, tmp_path: Path) -> None:
    """The same dialect in another format, and another dialect in the same: values do not depend on the carrier."""
    arrays = {n: v for n, v in load(GOLDEN / "bert_a1/bert_model.ckpt").items() if not n.startswith("output_")}
    save(tmp_path / "source", arrays, read_from)
    ledger = convert(tmp_path / "source", tmp_path / "there", to="hf", format=write_to, config="none")
    assert (ledger.source.format, ledger.target.format) == (read_from, write_to)
    assert differences(load(tmp_path / "there"), as_hf(arrays)) == []
    convert(tmp_path / "there", tmp_path / "back", to="google", format=read_from, config="none")
    assert differences(load(tmp_path / "back"), arrays) == []


def test_carriers_are_all_formats_that_hold_plain_tensors() -> None:
    assert {name for name, kind in formats().items() if kind.plan and name != "onnx"} == set(CARRIERS)


def test_a_distillation_net_keeps_its_two_models_apart(tmp_path: Path) -> None:
    """Teacher and student in one file, of different sizes, and both come back."""
    teacher = load(GOLDEN / "tinybert_c1/teacher_pretrained.ckpt")
    student = load(GOLDEN / "tinybert_c1/student_gd.ckpt")
    inside = "bert.bert."
    net = {f"teacher.{n.removeprefix(inside)}": v for n, v in teacher.items() if n.startswith(inside)} | student
    assert len(net) > 60
    save(tmp_path / "net.ckpt", net, "mindspore-ckpt")
    convert(tmp_path / "net.ckpt", tmp_path / "net.hf", to="hf", config="none")
    convert(tmp_path / "net.hf", tmp_path / "net.back", to="modelzoo", like=tmp_path / "net.ckpt", config="none")
    assert differences(load(tmp_path / "net.back"), net) == []
