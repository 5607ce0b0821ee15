"""Optimizer state between TensorFlow, MindSpore and PyTorch, on golden checkpoints and made-up ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from porting.checkpoint.registry import read
from porting.checkpoint.write import write
from porting.convert.adam_powers import Power, product, take_apart
from porting.convert.convert import convert
from porting.convert.verify import verify
from porting.errors import FormatError, MismatchError, UsageError

GOLDEN = Path(__file__).parent.parent / "golden"
BERT = GOLDEN / "bert_a1/finetuned.ckpt"
XLNET = GOLDEN / "xlnet_b1/finetuned.ckpt"
PRETRAINED = GOLDEN / "xlnet_b1/pretrained.ckpt"


def tensors(path):
    return {name: entry.read() for name, entry in read(path).items()}


def assert_same(one, two):
    assert set(one) == set(two)
    for name, value in one.items():
        assert (value.dtype, value.shape, value.tobytes()) == (two[name].dtype, two[name].shape, two[name].tobytes()), (
            name
        )


def reasons(ledger):
    return {line["name"]: line["reason"] for line in ledger.dropped}


@pytest.fixture
def adam(tmp_path):
    """XLNet as tf.train.AdamOptimizer leaves it after 7 steps."""
    made = {}
    random = np.random.default_rng(0)
    weights = tensors(GOLDEN / "xlnet_b1/xlnet_model.ckpt")
    for name, value in weights.items():
        if not name.startswith(("model/transformer/", "model/lm_loss/")):
            continue
        made[name] = value
        made[f"{name}/Adam"] = random.normal(size=value.shape).astype(np.float32)
        made[f"{name}/Adam_1"] = random.random(value.shape).astype(np.float32)
    made["global_step"] = np.array(7, np.int64)
    made["beta1_power"] = np.array(product(0.9, 8), np.float32)
    made["beta2_power"] = np.array(product(0.999, 8), np.float32)
    write(tmp_path / "adam", made, format="tf-bundle")
    return tmp_path / "adam"


@pytest.mark.parametrize(
    ("source", "to", "out"),
    [
        (BERT, "modelzoo", "x.ckpt"),
        (BERT, "mindnlp", "x.ckpt"),
        (BERT, "hf", "x.pt"),
        (XLNET, "kit_ms", "x.ckpt"),
        (XLNET, "hf", "x.pt"),
        (PRETRAINED, "kit_ms", "x.ckpt"),
        (PRETRAINED, "hf", "x.pt"),
    ],
)
def test_there_and_back_is_the_same_to_the_byte(source, to, out, tmp_path):
    first = convert(source, tmp_path / out, to=to, with_optimizer=True)
    task = {"task": "mnli"} if source == XLNET else {}
    convert(tmp_path / out, tmp_path / "back", to="google", with_optimizer=True, variables=task)
    assert_same(tensors(source), tensors(tmp_path / "back"))
    assert not first.dropped
    assert verify(tmp_path / f"{out}.port.json").problems == ()


@pytest.mark.parametrize(("to", "out"), [("kit_ms", "x.ckpt"), ("hf", "x.pt")])
def test_plain_adam_and_its_powers(adam, to, out, tmp_path):
    convert(adam, tmp_path / out, to=to, with_optimizer=True)
    convert(tmp_path / out, tmp_path / "back", to="google", with_optimizer=True)
    assert_same(tensors(adam), tensors(tmp_path / "back"))


def test_mindspore_is_a_factor_behind_tensorflow(adam, tmp_path):
    ledger = convert(adam, tmp_path / "x.ckpt", to="kit_ms", with_optimizer=True)
    out = tensors(tmp_path / "x.ckpt")
    assert out["beta1_power"] == np.float32(product(0.9, 7))
    assert out["beta2_power"] == np.float32(product(0.999, 7))
    assert out["global_step"].tolist() == [7]
    assert out["global_step"].dtype == np.int32
    slots = {record.target: record for record in ledger.tensors}
    assert slots["moment1.transformer.word_embedding.embedding_table"].slot == "m"
    assert slots["global_step"].operation == ("int64 -> int32",)
    assert slots["beta1_power"].sources == ("beta1_power",)


def test_slots_are_transposed_with_their_parameter(tmp_path):
    convert(BERT, tmp_path / "x.ckpt", to="modelzoo", with_optimizer=True)
    out, source = tensors(tmp_path / "x.ckpt"), tensors(BERT)
    kernel = "bert/encoder/layer_0/intermediate/dense/kernel"
    for before, after in (("adam_m", "adam_m."), ("adam_v", "adam_v.")):
        name = next(n for n in out if n.startswith(after) and n.endswith("layers.0.intermediate.weight"))
        np.testing.assert_array_equal(out[name], source[f"{kernel}/{before}"].T)


def test_layers_take_their_slots_along(tmp_path):
    ledger = convert(BERT, tmp_path / "x.ckpt", to="modelzoo", with_optimizer=True, layers=(1,))
    out, source = tensors(tmp_path / "x.ckpt"), tensors(BERT)
    name = next(n for n in out if n.startswith("adam_v.") and n.endswith("layers.0.output.dense.bias"))
    np.testing.assert_array_equal(out[name], source["bert/encoder/layer_1/output/dense/bias/adam_v"])
    assert not any("layers.1." in name for name in out)
    assert "--layers" in reasons(ledger)["bert/encoder/layer_0/output/dense/bias/adam_v"]


def test_layers_are_chosen_from_a_stacked_axis(tmp_path):
    convert(XLNET, tmp_path / "x.ckpt", to="kit_ms", with_optimizer=True, layers=(2, 0))
    out, source = tensors(tmp_path / "x.ckpt"), tensors(XLNET)
    slot = source["model/transformer/r_w_bias/adam_m"]
    np.testing.assert_array_equal(out["adam_m.transformer.layer.0.rel_attn.r_w_bias"], slot[2])
    np.testing.assert_array_equal(out["adam_m.transformer.layer.1.rel_attn.r_w_bias"], slot[0])


def test_without_the_option_everything_is_named(tmp_path):
    ledger = convert(BERT, tmp_path / "x.ckpt", to="modelzoo")
    state = {name for name in read(BERT) if name.endswith(("/adam_m", "/adam_v"))} | {"global_step"}
    assert set(reasons(ledger)) == state
    assert all("--with-optimizer" in reason for reason in reasons(ledger).values())
    assert not any(record.slot for record in ledger.tensors)


def test_a_source_without_state_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no optimizer state"):
        convert(GOLDEN / "bert_a1/bert_model.ckpt", tmp_path / "x.ckpt", to="modelzoo", with_optimizer=True)


def test_shared_biases_leave_their_slots(adam, tmp_path):
    """One bias for all layers gets the sum of their gradients: its moments are nobody's."""
    made = tensors(adam)
    for name in [n for n in made if n.split("/")[2:3] and n.split("/")[2] in {"r_w_bias", "r_r_bias", "r_s_bias"}]:
        made[name] = made[name][0]
    write(tmp_path / "tied", made, format="tf-bundle")
    ledger = convert(tmp_path / "tied", tmp_path / "x.ckpt", to="kit_ms", with_optimizer=True)
    assert "one for several" in reasons(ledger)["model/transformer/r_w_bias/Adam"]
    assert any("layer.{0-2}.rel_attn.r_w_bias" in note for note in ledger.notes)
    assert not any(record.slot and "r_w_bias" in record.target for record in ledger.tensors)


def test_slots_of_dropped_and_of_absent_parameters_are_named(adam, tmp_path):
    made = tensors(adam)
    hidden = made["model/transformer/word_embedding/lookup_table"].shape[1]
    extra = {"model/sequnece_summary/summary_bias": np.zeros(hidden, np.float32)}
    extra |= {f"{name}/{slot}": value for name, value in extra.items() for slot in ("Adam", "Adam_1")}
    extra["gone/kernel/Adam"] = np.zeros(3, np.float32)
    write(tmp_path / "more", made | extra, format="tf-bundle")
    allow = ("model/sequnece_summary/*",)
    ledger = convert(
        tmp_path / "more", tmp_path / "x.pt", to="hf", with_optimizer=True, allow_unexpected=allow, allow_missing=("*",)
    )
    said = reasons(ledger)
    assert said["gone/kernel/Adam"] == "its parameter is not in the checkpoint"
    assert "its parameter is dropped" in said["model/sequnece_summary/summary_bias/Adam"]


def test_a_slot_of_another_shape_is_refused(adam, tmp_path):
    made = tensors(adam)
    made["model/lm_loss/bias/Adam"] = np.zeros(3, np.float32)
    write(tmp_path / "wrong", made, format="tf-bundle")
    with pytest.raises(MismatchError, match=r"model/lm_loss/bias/Adam: wanted .* got \(3,\)"):
        convert(tmp_path / "wrong", tmp_path / "x.ckpt", to="kit_ms", with_optimizer=True)
    assert not (tmp_path / "x.ckpt").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("global_step", np.array([1, 2], np.int64)),
        ("global_step", np.array(-1, np.int64)),
        ("global_step", np.array(float("nan"), np.float64)),
        ("beta1_power", np.array(2, np.float32)),
        ("beta1_power", np.array(float("nan"), np.float32)),
        ("beta1_power", np.array(True)),
    ],
)
def test_scalars_that_are_none(adam, name, value, tmp_path):
    write(tmp_path / "wrong", tensors(adam) | {name: value}, format="tf-bundle")
    if value.dtype.kind == "f" and name == "global_step":  # a float is no count of this optimizer's
        ledger = convert(tmp_path / "wrong", tmp_path / "x.ckpt", to="kit_ms", with_optimizer=True)
        assert "count in float32" in reasons(ledger)[name]
        return
    with pytest.raises(FormatError, match=name):
        convert(tmp_path / "wrong", tmp_path / "x.ckpt", to="kit_ms", with_optimizer=True)


def test_a_step_beyond_int32(adam, tmp_path):
    write(tmp_path / "far", tensors(adam) | {"global_step": np.array(1 << 40, np.int64)}, format="tf-bundle")
    with pytest.raises(UsageError, match="int32 and does not hold 1099511627776"):
        convert(tmp_path / "far", tmp_path / "x.ckpt", to="kit_ms", with_optimizer=True)


def test_pytorch_needs_a_step(adam, tmp_path):
    made = tensors(adam)
    del made["global_step"]
    write(tmp_path / "stepless", made, format="tf-bundle")
    with pytest.raises(UsageError, match="does not say how many steps AdamOptimizer took"):
        convert(tmp_path / "stepless", tmp_path / "x.pt", to="hf", with_optimizer=True)


def test_safetensors_has_no_place_for_it(tmp_path):
    with pytest.raises(UsageError, match="--format torch"):
        convert(BERT, tmp_path / "x.safetensors", to="hf", with_optimizer=True)


def test_a_reference_chooses_the_optimizer(adam, tmp_path):
    """AdamWeightDecay's moments for a net that goes on with Adam."""
    like = convert(adam, tmp_path / "like.ckpt", to="kit_ms", with_optimizer=True)
    assert like.tensors
    ledger = convert(
        PRETRAINED,
        tmp_path / "x.ckpt",
        to="kit_ms",
        with_optimizer=True,
        like=tmp_path / "like.ckpt",
        allow_missing=("*",),
        allow_unexpected=("*",),
    )
    assert any(record.target.startswith("moment1.") for record in ledger.tensors)
    assert any("does not correct their bias" in note for note in ledger.notes)
    assert any("beta1_power is not written" in note for note in ledger.notes)


def test_golden_slots_of_mindspore(tmp_path):
    """The state that TinyBERT's original left after ten steps, to TensorFlow's names and to PyTorch's."""
    made = tensors(GOLDEN / "tinybert_c1/student_after_td1.ckpt")
    with np.load(GOLDEN / "tinybert_c1/optimizer_after_td1.npz") as state:
        slots = {name: state[name] for name in state if name.startswith(("adam_m.", "adam_v."))}
    made |= {name: value for name, value in slots.items() if name.partition(".")[2] in made}
    made["global_step"] = np.array([10], np.int32)
    write(tmp_path / "student.ckpt", made, format="mindspore-ckpt")
    for to, out in (("kit_tf", "x"), ("hf", "x.pt")):
        convert(tmp_path / "student.ckpt", tmp_path / out, to=to, family="tinybert", with_optimizer=True)
        convert(
            tmp_path / out,
            tmp_path / "back.ckpt",
            to="modelzoo",
            family="tinybert",
            with_optimizer=True,
            prefix="bert.bert.bert_",
            overwrite=True,
        )
        assert_same(made, tensors(tmp_path / "back.ckpt"))


@pytest.mark.parametrize("beta", [0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999])
@pytest.mark.parametrize("count", [1, 2, 3, 10, 333, 5000])
def test_a_power_gives_its_beta_back(beta, count):
    value = np.float32(1)
    for _ in range(count):
        value = value * np.float32(beta)
    assert product(beta, count) == value
    power = take_apart(float(value), count)
    assert power.at(count) == value
    expected = product(beta, count - 1)
    assert power.at(count - 1) == expected or value < 1e-37  # denormals have forgotten it


def test_powers_without_a_beta():
    assert Power(0.0, 5000, None).at(4999) == 0
    assert take_apart(1.0, 0).at(1) is None
    odd = take_apart(0.123456789, 1)
    assert odd.at(1) == 0.123456789
    assert odd.at(2) == pytest.approx(0.123456789**2, rel=1e-6)
    assert take_apart(0.5, 1 << 60).at(1) == pytest.approx(1)
