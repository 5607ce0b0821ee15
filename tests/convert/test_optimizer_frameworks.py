"""The optimizers of TensorFlow and MindSpore themselves: their names, their counts, their powers."""

from __future__ import annotations

import numpy as np
import pytest

from porting.checkpoint.registry import read
from porting.convert.convert import convert

pytestmark = pytest.mark.filterwarnings("ignore")

SHAPES = {
    "bert/embeddings/word_embeddings": (9, 4),
    "bert/embeddings/token_type_embeddings": (2, 4),
    "bert/embeddings/position_embeddings": (6, 4),
    "bert/embeddings/LayerNorm/gamma": (4,),
    "bert/embeddings/LayerNorm/beta": (4,),
    **{f"bert/encoder/layer_0/attention/self/{kind}/kernel": (4, 4) for kind in ("query", "key", "value")},
    **{f"bert/encoder/layer_0/attention/self/{kind}/bias": (4,) for kind in ("query", "key", "value")},
    "bert/encoder/layer_0/attention/output/dense/kernel": (4, 4),
    "bert/encoder/layer_0/attention/output/dense/bias": (4,),
    "bert/encoder/layer_0/attention/output/LayerNorm/gamma": (4,),
    "bert/encoder/layer_0/attention/output/LayerNorm/beta": (4,),
    "bert/encoder/layer_0/intermediate/dense/kernel": (4, 8),
    "bert/encoder/layer_0/intermediate/dense/bias": (8,),
    "bert/encoder/layer_0/output/dense/kernel": (8, 4),
    "bert/encoder/layer_0/output/dense/bias": (4,),
    "bert/encoder/layer_0/output/LayerNorm/gamma": (4,),
    "bert/encoder/layer_0/output/LayerNorm/beta": (4,),
}
STEPS = 5


@pytest.fixture(scope="module")
def tensorflow():
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def mindspore():
    return pytest.importorskip("mindspore")


@pytest.fixture(scope="module")
def saved(tensorflow, tmp_path_factory):
    """What tf.train.Saver writes after five steps of tf.train.AdamOptimizer on every variable of a BERT."""
    tf = tensorflow.compat.v1
    prefix = str(tmp_path_factory.mktemp("tf") / "model.ckpt")
    with tensorflow.Graph().as_default(), tf.Session() as session:
        tf.disable_resource_variables()
        random = np.random.default_rng(0)
        weights = {
            name: tf.get_variable(name, initializer=random.normal(size=shape).astype(np.float32))
            for name, shape in SHAPES.items()
        }
        step = tf.train.get_or_create_global_step()
        loss = tf.add_n([tf.reduce_sum(tf.square(weight)) for weight in weights.values()])
        update = tf.train.AdamOptimizer(1e-3).minimize(loss, global_step=step)
        session.run(tf.global_variables_initializer())
        for _ in range(STEPS):
            session.run(update)
        tf.train.Saver().save(session, prefix, write_meta_graph=False)
    return prefix


@pytest.mark.tensorflow
@pytest.mark.mindspore
def test_adam_of_tensorflow_goes_on_in_mindspore(saved, mindspore, tmp_path):
    """MindSpore's Adam takes every name, and after its own five steps holds the powers that were converted."""
    convert(saved, tmp_path / "out.ckpt", to="modelzoo", with_optimizer=True)
    converted = mindspore.load_checkpoint(str(tmp_path / "out.ckpt"))
    names = [name for name in converted if f"moment1.{name}" in converted]
    assert len(names) == len(SHAPES)
    parameters = [mindspore.Parameter(converted[name], name=name) for name in names]
    optimizer = mindspore.nn.Adam(parameters, 1e-3)
    for _ in range(STEPS):
        optimizer(tuple(mindspore.ops.zeros_like(parameter) for parameter in parameters))
    for name in ("beta1_power", "beta2_power"):
        assert getattr(optimizer, name).asnumpy() == converted[name].asnumpy()
    assert optimizer.global_step.asnumpy() == converted["global_step"].asnumpy() == STEPS
    missing, unused = mindspore.load_param_into_net(optimizer, converted, strict_load=True)
    assert not [name for name in missing if name != "learning_rate"]
    assert not unused
    convert(tmp_path / "out.ckpt", tmp_path / "back", to="google", with_optimizer=True)
    before, after = read(saved), read(tmp_path / "back")
    assert set(before) == set(after)
    assert all(before[name].read().tobytes() == after[name].read().tobytes() for name in before)


@pytest.mark.tensorflow
@pytest.mark.mindspore
@pytest.mark.parametrize("kind", ["AdamWeightDecay", "Adam"])
def test_state_that_mindspore_saved(kind, saved, tensorflow, mindspore, tmp_path):
    """To the names that TensorFlow's savers load, and back to the byte; the rate stays behind by name."""
    convert(saved, tmp_path / "weights.ckpt", to="modelzoo")
    weights = mindspore.load_checkpoint(str(tmp_path / "weights.ckpt"))
    parameters = [mindspore.Parameter(value, name=name) for name, value in weights.items()]
    optimizer = getattr(mindspore.nn, kind)(parameters, 1e-3)
    for _ in range(STEPS):
        optimizer(tuple(mindspore.ops.ones_like(parameter) for parameter in parameters))
    state = {parameter.name: parameter for parameter in [*parameters, *optimizer.get_parameters()]}
    mindspore.save_checkpoint([{"name": n, "data": v} for n, v in state.items()], str(tmp_path / "trained.ckpt"))
    ledger = convert(tmp_path / "trained.ckpt", tmp_path / "out", to="google", with_optimizer=True)
    assert [line["name"] for line in ledger.dropped] == ["learning_rate"]
    reader = tensorflow.train.load_checkpoint(str(tmp_path / "out"))
    slots = {"AdamWeightDecay": ("adam_m", "adam_v"), "Adam": ("Adam", "Adam_1")}[kind]
    assert reader.get_tensor("global_step") == STEPS
    assert all(reader.has_tensor(f"{name}/{slot}") for name in SHAPES for slot in slots)
    if kind == "Adam":
        assert reader.get_tensor("beta1_power") == read(saved)["beta1_power"].read()
        assert reader.get_tensor("beta2_power") == read(saved)["beta2_power"].read()
    convert(tmp_path / "out", tmp_path / "back.ckpt", to="modelzoo", with_optimizer=True)
    before, after = read(tmp_path / "trained.ckpt"), read(tmp_path / "back.ckpt")
    assert set(before) - set(after) == {"learning_rate"}
    assert all(before[name].read().tobytes() == after[name].read().tobytes() for name in after)


@pytest.mark.mindspore
def test_adamw_of_mindspore_counts_as_torch_does(saved, mindspore, tmp_path):
    """mindspore.experimental's AdamW: state_step in int32 from 0, maxima that nobody wrote, no rate."""
    torch = pytest.importorskip("torch")
    convert(saved, tmp_path / "weights.ckpt", to="modelzoo")
    weights = mindspore.load_checkpoint(str(tmp_path / "weights.ckpt"))
    parameters = [mindspore.Parameter(value, name=name) for name, value in weights.items()]
    optimizer = mindspore.experimental.optim.AdamW(parameters, lr=0.25)
    for _ in range(STEPS):
        optimizer(tuple(mindspore.ops.ones_like(parameter) for parameter in parameters))
    state = {parameter.name: parameter for parameter in [*parameters, *optimizer.get_parameters()]}
    mindspore.save_checkpoint([{"name": n, "data": v} for n, v in state.items()], str(tmp_path / "trained.ckpt"))
    ledger = convert(tmp_path / "trained.ckpt", tmp_path / "out.pt", to="hf", with_optimizer=True)
    assert {line["reason"] for line in ledger.dropped} == {"zeros: amsgrad is off"}
    saved_by_us = torch.load(tmp_path / "out.pt")["optimizer"]
    (group,) = saved_by_us["param_groups"]
    assert group["lr"] == 0
    assert any("lr is 0" in note for note in ledger.notes)
    assert "amsgrad" not in group
    assert {kept["step"].item() for kept in saved_by_us["state"].values()} == {STEPS}
    m = 1 - 0.9**STEPS
    assert torch.allclose(saved_by_us["state"][0]["exp_avg"], torch.tensor(m, dtype=torch.float32), rtol=1e-5)
