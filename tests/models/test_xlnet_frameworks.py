"""The three ports against each other: every tap, gradients with shared masks of dropout, half precision."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from xlnet_support import (
    FRAMEWORKS,
    build,
    everywhere,
    farthest,
    loaded,
    random_batch,
    random_weights,
    session,
    to_google,
)

from porting.errors import UsageError
from porting.model.dropout import Dropout
from porting_xlnet.config import XLNetConfig

pytestmark = pytest.mark.filterwarnings("ignore")

# d_head is not d_model / n_head, and every size that can be confused with another is one of them
ODD = XLNetConfig(24, 24, 2, 3, 4, 24, mem_len=6, reuse_len=4, clamp_len=4)
TIED = replace(ODD, untie_r=False, ff_activation="gelu_erf", attn_type="uni", same_length=True)
SQUARE = XLNetConfig(
    16, 16, 2, 4, 4, 16, ff_activation="relu", bi_data=True, summary_type="attn", start_n_top=3, end_n_top=2
)
CASES = {
    "pretraining": (ODD, "pretraining", 5),
    "pretraining, tied": (TIED, "pretraining", 3),
    "classification": (SQUARE, "classification", 0),
    "question answering": (replace(SQUARE, ff_activation="silu"), "question_answering", 0),
    "encoder": (TIED, "encoder", 5),
}
STREAM = ("attention.scores", "attention.output", "ffn.output", "output")


def taps_of(config, task):
    streams = ("", ".query") if task == "pretraining" else ("",)
    layers = [f"layer.{layer}{stream}.{tap}" for layer, stream, tap in product(range(config.n_layer), streams, STREAM)]
    more = {
        "pretraining": ["query.embeddings", "new_mems", "per_example_loss"],
        "classification": ["pooled", "per_example_loss"],
        "encoder": ["new_mems"],
    }
    return ["embeddings", "positions", *layers, "sequence", *more.get(task, [])]


def made(case, folder):
    config, task, mems = CASES[case]
    return config, task, random_batch(config, task, mems=mems), random_weights(config, task)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What PyTorch gives, computed once per case and dropout."""
    known = {}

    def compute(case, dropout):
        if (case, dropout) not in known:
            known[case, dropout] = outcome("pytorch", "eager", case, dropout, tmp_path_factory.mktemp("reference"))
        return known[case, dropout]

    return compute


def outcome(framework, mode, case, dropout, folder):
    """Taps and outputs of an evaluation, the loss and gradients of training."""
    config, task, batch, weights = made(case, folder)
    model = loaded(framework, config, build(task, mode, dropout=dropout), weights, folder)
    values = model.forward(batch, taps_of(config, task))
    if task == "encoder":
        return values, {}
    loss, grads = model.gradients(batch)
    grads = to_google(framework, grads, folder, task="mnli", untie_r=config.untie_r)
    return values | {"loss of training": np.float32(loss)}, grads


@everywhere
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dropout", [Dropout(), Dropout("shared", 3)], ids=["off", "shared"])
def test_every_tap_and_gradient_is_equal(framework, mode, case, dropout, reference, tmp_path):
    if (framework, mode) == ("pytorch", "eager"):
        pytest.skip("the reference itself")
    if case == "encoder" and dropout.mode == "shared":
        pytest.skip("an encoder alone is not trained")
    wanted, slopes = reference(case, dropout)
    found, grads = outcome(framework, mode, case, dropout, tmp_path)
    assert set(found) == set(wanted)
    for name in wanted:
        # a masked score is -1e30, equal in every framework
        scale = max(1.0, float(np.abs(np.where(wanted[name] < -1e29, 0, wanted[name])).max()))
        assert farthest(np.asarray(found[name]), np.asarray(wanted[name])) <= 1e-5 * scale, name
    assert set(grads) == set(slopes)
    for name in slopes:
        assert farthest(grads[name], slopes[name]) <= 2e-5 * max(1e-2, float(np.abs(slopes[name]).max())), name


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_own_dropout_acts_in_training_only(framework, tmp_path):
    config, task, batch, weights = made("pretraining", tmp_path)
    model = loaded(framework, config, build(task, dropout=Dropout("own", 1)), weights, tmp_path)
    plain = float(model.forward(batch)["loss"])
    assert float(model.forward(batch)["loss"]) == plain
    losses = {model.gradients(batch)[0] for _ in range(3)}
    assert len(losses) == 3
    assert plain not in losses


def test_shared_masks_change_what_they_drop(reference):
    """The mask of a step is not of ones: else the frameworks' agreement would mean nothing."""
    plain, _ = reference("pretraining", Dropout())
    dropped, _ = reference("pretraining", Dropout("shared", 3))
    assert abs(float(plain["loss of training"]) - float(dropped["loss of training"])) > 1e-3


NARROW = [(f, c) for f, c in product(FRAMEWORKS, ("float16", "bfloat16")) if (f, c) != ("mindspore", "bfloat16")]


@pytest.mark.parametrize(("framework", "compute"), NARROW)
@pytest.mark.parametrize("case", ["pretraining", "classification"])
def test_half_precision_stays_near(framework, compute, case, reference, tmp_path):
    """1e30 is subtracted in float32, so a fully masked row is as uniform in float16 as it is in float32."""
    config, task, batch, weights = made(case, tmp_path)
    model = loaded(framework, config, build(task, compute=compute), weights, tmp_path)
    found = model.forward(batch)
    wanted, slopes = reference(case, Dropout())
    near = {"float16": 3e-2, "bfloat16": 2e-1}[compute]
    for name in ("sequence", "logits", "loss"):
        if name in found:
            assert np.isfinite(found[name]).all()
            assert 0 < farthest(found[name], wanted[name]) <= near * max(1.0, float(np.abs(wanted[name]).max())), name
    _, grads = model.gradients(batch)
    grads = to_google(framework, grads, tmp_path, task="mnli")
    assert all(np.isfinite(grads[name]).all() for name in slopes)
    assert {grad.dtype for grad in grads.values()} == {np.dtype(np.float32)}


def test_mindspore_has_no_bfloat16_on_the_cpu():
    with pytest.raises(UsageError, match="bfloat16: MindSpore has no kernels for it on the CPU"):
        session("mindspore", ODD, build("encoder", compute="bfloat16"))


@pytest.mark.parametrize(("framework", "compute"), [*product(FRAMEWORKS, ("float32",)), *NARROW])
def test_a_fully_masked_query_attends_evenly(framework, compute, tmp_path):
    """perm_mask hides every token from query 0; only mems, of which there are none, would be left."""
    config, task = replace(ODD, mem_len=0), "pretraining"
    batch = random_batch(config, task)
    batch["perm_mask"][:, 0] = 1
    batch["target_mapping"] = np.eye(7, dtype=np.float32)[None, :3].repeat(2, 0)
    model = loaded(framework, config, build(task, compute=compute), random_weights(config, task), tmp_path)
    scores = model.forward(batch, ["layer.0.query.attention.scores"])["layer.0.query.attention.scores"]
    assert np.unique(scores[:, :, 0]).tolist() == [np.float32(-1e30)]
