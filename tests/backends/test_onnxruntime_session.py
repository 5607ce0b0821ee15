"""A port in onnxruntime: what PyTorch's port computes, on the provider that was asked for or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from toy_port import spec as toy

from porting.backends.protocol import Build
from porting.errors import MismatchError, UsageError
from porting.model import recipes

pytestmark = [
    pytest.mark.torch,
    pytest.mark.onnx,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of onnxscript and torch.onnx
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

from porting.backends.onnxruntime import device  # noqa: E402 - after the skips
from porting.backends.onnxruntime.run import open_session  # noqa: E402 - likewise

BUILD = Build("classify", labels=toy.LABELS)
TAPS = ("embeddings", "layer.0.output", "layer.1.output")


def opened(**changes):
    session = open_session(toy.TOY, toy.ToyConfig(), Build("classify", labels=toy.LABELS, **changes))
    session.load(toy.weights("hf"))
    return session


@pytest.fixture(scope="module")
def session():
    return opened()


def in_torch(batch, taps=(), seed=0):
    from porting.backends.torch import run

    other = run.open_session(toy.TOY, toy.ToyConfig(), BUILD)
    other.load(toy.weights("hf", seed))
    return other.forward(batch, taps)


def test_outputs_loss_and_taps_are_those_of_torch(session):
    wanted = in_torch(toy.batch(), TAPS)
    found = session.forward(toy.batch(), TAPS)
    assert set(found) == set(wanted) == {"logits", "loss", *TAPS}
    for name, value in wanted.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        # Two libraries' sums of six float32 products each, through three layers.
        np.testing.assert_allclose(found[name], value, rtol=0, atol=2e-6, err_msg=name)


def test_one_graph_takes_batches_of_any_size(session):
    exported = len(session._graphs)
    for size, seq in ((1, 2), (5, 8)):
        batch = toy.batch(size=size, seq=seq)
        np.testing.assert_allclose(session.forward(batch, TAPS)["loss"], in_torch(batch)["loss"], rtol=0, atol=2e-6)
    assert len(session._graphs) <= max(exported, 1)


def test_without_labels_there_is_no_loss(session):
    batch = {name: value for name, value in toy.batch().items() if name != "label_ids"}
    assert set(session.forward(batch)) == {"logits"}


def test_parameters_are_those_of_torchs_port_and_loading_again_counts():
    session = opened()
    assert session.parameters == toy.shapes("hf")
    assert set(session.trainable) == set(toy.shapes("hf")) - {toy.name_in("hf", toy.FROZEN)}
    session.forward(toy.batch())
    session.load(toy.weights("hf", 5))
    assert all((session.weights()[name] == value).all() for name, value in toy.weights("hf", 5).items())
    wanted = in_torch(toy.batch(), seed=5)["logits"]
    np.testing.assert_allclose(session.forward(toy.batch())["logits"], wanted, rtol=0, atol=2e-6)


def test_what_does_not_fit_is_refused(session):
    with pytest.raises(UsageError, match=r"toy: no tap layer\.x; there are"):
        session.forward(toy.batch(), ["layer.x"])
    with pytest.raises(UsageError, match=r"this model and task have no tap layer\.7\.output"):
        session.forward(toy.batch(), ["layer.7.output"])
    with pytest.raises(UsageError, match="label_ids"):
        session.forward({**toy.batch(), "label_ids": np.array([9, 0, 0], np.int32)})
    with pytest.raises(MismatchError, match="toy in onnxruntime"):
        session.load({})


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [("gradients", [{}]), ("step", [{}]), ("slots", []), ("forward", [{}, (), {"embeddings": np.zeros(1)}])],
)
def test_what_onnxruntime_cannot_do_says_why(verb, arguments, session):
    with pytest.raises(UsageError, match=r"onnxruntime: no .*: an ONNX graph is run forward only; PyTorch's port"):
        getattr(session, verb)(*arguments)


def test_a_recipe_is_refused_when_the_session_is_opened():
    with pytest.raises(UsageError, match="onnxruntime: no step: an ONNX graph"):
        open_session(toy.TOY, toy.ToyConfig(), BUILD, recipes.bert_finetune(peak=1e-3, steps=10, warmup=0))


@pytest.mark.parametrize(("field", "value"), [("device", "npu"), ("device", "tpu"), ("compute", "bfloat16")])
def test_a_device_or_dtype_that_it_has_not_is_refused(field, value):
    with pytest.raises(UsageError, match=f"{field} {value}: onnxruntime"):
        opened(**{field: value})


def test_half_precision_goes_out_as_float32():
    half = opened(compute="float16").forward(toy.batch())
    assert half["logits"].dtype == np.float32


class Fallen:
    """An InferenceSession that has fallen back, as onnxruntime-cann does where it finds no CANN."""

    def __init__(self, *_arguments, **_options):
        pass

    def get_providers(self):
        return ["CPUExecutionProvider"]


@pytest.mark.parametrize("name", ["cuda", "cann"])
def test_a_provider_that_is_listed_and_falls_back_is_an_error(name, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(device.PROVIDERS.values()))
    monkeypatch.setattr(onnxruntime, "InferenceSession", Fallen)
    with pytest.raises(UsageError, match=rf"fell back from {device.PROVIDERS[name]} to CPUExecutionProvider"):
        opened(device=name)


@pytest.mark.parametrize("name", sorted({"cuda", "cann"}))
def test_a_provider_that_is_not_built_in_is_an_error(name):
    if device.PROVIDERS[name] in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has {name}")
    with pytest.raises(UsageError, match=rf"built without {device.PROVIDERS[name]}; it has .*CPUExecutionProvider"):
        opened(device=name)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["encoder", "classification", "pretraining"])
def test_all_taps_of_bert(task):
    from porting.backends.torch import run
    from porting_bert.config import BertConfig
    from porting_bert.spec import SPEC

    config = BertConfig(31, 12, 2, 3, 20, max_position_embeddings=40)
    random = np.random.default_rng(0)
    batch = {
        "input_ids": random.integers(0, 31, (2, 7)),
        "input_mask": random.integers(0, 2, (2, 7)),
        "segment_ids": random.integers(0, 2, (2, 7)),
        "label_ids": random.integers(0, 2, 2),
        "masked_lm_positions": random.integers(0, 7, (2, 3)),
        "masked_lm_ids": random.integers(0, 31, (2, 3)),
        "masked_lm_weights": np.ones((2, 3), np.float32),
        "next_sentence_labels": random.integers(0, 2, (2, 1)),
    }
    batch = {name: value for name, value in batch.items() if name in SPEC.task(task).features}
    taps = [tap.name.replace("{layer}", "1") for tap in SPEC.taps if tap.name.startswith(("layer", "emb", "seq"))]
    other = run.open_session(SPEC, config, Build(task))
    session = open_session(SPEC, config, Build(task))
    session.load(other.weights())
    wanted, found = other.forward(batch, taps), session.forward(batch, taps)
    assert set(found) == set(wanted) >= set(taps)
    for name, value in wanted.items():
        # Scores hold the mask's -10000, of which float32 keeps 1e-3.
        np.testing.assert_allclose(found[name], value, rtol=2e-6, atol=5e-6, err_msg=name)
