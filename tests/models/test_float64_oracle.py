"""PyTorch's ports in float64 against transformers in float64, to 1e-12: nothing between is rounded to float32.

Two honest float64 implementations of two or three layers differ by less than 1e-13 of the greatest value; a single
tensor rounded to float32 on the way, by 1e-8 or more.
"""

from __future__ import annotations

import numpy as np
import pytest
import test_bert_oracle as bert
import test_xlnet_oracle as xlnet
from xlnet_support import random_batch
from xlnet_support import session as xlnet_session

from porting.backends.protocol import Build
from porting.model.registry import model_named
from porting_bert.config import BertConfig
from porting_xlnet.config import configure
from porting_xlnet.positions import frequencies

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
NEAR = 1e-12


def near(found, wanted, name):
    assert found.dtype == np.float64, name
    scale = max(1.0, float(np.abs(wanted).max()))
    assert float(np.abs(found - wanted).max()) <= NEAR * scale, name


def in_float64(batch):
    return {name: value if value.dtype.kind == "i" else value.astype(np.float64) for name, value in batch.items()}


@pytest.mark.parametrize("act", ["gelu_erf", "gelu_tanh"])
@pytest.mark.parametrize(("kind", "task"), bert.ORACLES)
def test_bert_and_roberta(kind, task, act):
    labels = {"regression": 1, "question_answering": 2}.get(task, 3)
    types, epsilon = (2, 1e-12) if kind == "bert" else (1, 1e-5)
    config = BertConfig(40, 32, 3, 4, 48, act, 0.1, 0.1, 16, types, layer_norm_eps=epsilon, model_type=kind)
    case = bert.Case(config, task, labels, batch=3, seq=9, masks="right", seed=1)
    spec = model_named(kind)
    model = bert.oracle_of(case).double()
    batch = in_float64(bert.batch_of(case, spec, np.random.default_rng(1)))
    wanted = bert.of_oracle(model, case, batch)
    session = bert.session("pytorch", spec, config, Build(task, labels, compute="float64"))
    weights = bert.weights_of(model, spec)
    session.load({name: weights[name] for name in session.parameters})
    found = session.forward(batch, [name for name in wanted if name.startswith("layer.")])
    for name, value in wanted.items():
        near(found[name], value.detach().numpy(), name)
    if "loss" in wanted:
        wanted["loss"].backward()
        gradients = session.gradients(batch)[1]
        prefix = "" if any(name.startswith(f"{kind}.") for name, _ in model.named_parameters()) else f"{kind}."
        for name, parameter in model.named_parameters():
            # transformers learns no row of padding through the lookup, Google's code does; see BERT_TRAPS.
            if parameter.grad is not None and not name.endswith("word_embeddings.weight"):
                near(gradients[prefix + name], parameter.grad.numpy(), name)


@pytest.mark.parametrize("task", xlnet.CLASSES)
def test_xlnet(task, monkeypatch):
    values = {"vocab_size": 30, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 20, "mem_len": 4, "dropout": 0.0}
    model = xlnet.theirs(task, values).double()
    # The sines are of constants that the original rounds to float32, and that transformers rounds in another order.
    plain = transformers.XLNetModel.positional_embedding
    constants = torch.from_numpy(frequencies(16)).double()
    exact = staticmethod(lambda places, _, batch=None: plain(places.double(), constants, batch))
    monkeypatch.setattr(transformers.XLNetModel, "positional_embedding", exact)
    config = configure(model.config.to_dict())
    batch = in_float64(random_batch(config, task, batch=2, seq=8, mems=4 if task in ("encoder", "pretraining") else 0))
    if task == "question_answering":
        batch = {name: value for name, value in batch.items() if name not in ("start_positions", "end_positions")}
        batch["p_mask"] = np.zeros_like(batch["p_mask"])
    build = Build(task, labels=3 if task == "classification" else 1, compute="float64")
    session = xlnet_session("pytorch", config, build)
    prefix = "transformer." if task == "encoder" else ""
    weights = {prefix + name: value.numpy() for name, value in model.state_dict().items()}
    session.load({name: weights[name] for name in session.parameters})
    found = session.forward(batch)
    for name, value in xlnet.answers(task, model, batch).items():
        if not name.endswith("index"):
            near(found[name], value.numpy(), name)
