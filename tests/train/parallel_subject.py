"""What a rank of the tests does, or one process for comparison: FRAMEWORK CASES STEPS FOLDER."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np

from porting.backends.names import BackendName
from porting.backends.protocol import Build
from porting.errors import PortError
from porting.model import recipes
from porting.model.dropout import Dropout
from porting.model.recipe import LossScale
from porting.terminal import fail
from porting.train.batches import Records, Shuffled
from porting.train.loop import Plan, train
from porting.train.parallel import meet, world
from porting_bert.config import BertConfig
from porting_bert.spec import SPEC

CONFIG = BertConfig(
    vocab_size=53, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=12,
)  # fmt: skip
COUNT, LENGTH, SIZE = 16, 8, 4
CASES = {
    "classification": recipes.bert_finetune(1e-2, 8, warmup=2),
    "mlm": recipes.bert_pretrain(1e-2, 8, warmup=2),
    "pretraining": recipes.bert_pretrain(1e-2, 8, warmup=2),
    "overflow": replace(recipes.bert_pretrain(1e-2, 8, warmup=2), loss_scale=LossScale("dynamic", 1024.0, 2.0, 2)),
}
TASKS = {"overflow": "classification"}


def records(task):
    """Examples whose labels are unequally many in each."""
    drawn = np.random.default_rng(5)
    ids = drawn.integers(1, CONFIG.vocab_size, (COUNT, LENGTH), np.int32)
    labelled = drawn.random((COUNT, LENGTH)) < np.linspace(0.1, 0.9, COUNT)[:, None]
    features = {"input_ids": ids}
    if task == "mlm":
        features["token_labels"] = np.where(labelled, ids, -100).astype(np.int32)
    elif task == "pretraining":
        features |= {
            "masked_lm_positions": np.tile(np.arange(LENGTH, dtype=np.int32), (COUNT, 1)),
            "masked_lm_ids": ids,
            "masked_lm_weights": labelled.astype(np.float32),
            "next_sentence_labels": drawn.integers(0, 2, (COUNT, 1), np.int32),
        }
    else:
        features["label_ids"] = drawn.integers(0, 2, COUNT, np.int32)
    return Records(features, COUNT)


def opened(framework, case):
    """A session of a tiny BERT, its weights drawn."""
    build = Build(
        TASKS.get(case, case), mode="graph" if framework == "mindspore" else "eager", dropout=Dropout("shared", 3)
    )
    run = import_module(f"porting.backends.{framework}.run")
    session = run.open_session(SPEC, CONFIG, build, CASES[case])
    drawn = np.random.default_rng(7)
    session.load(
        {
            name: drawn.normal(1.0 if "norm" in name.lower() and "bias" not in name else 0.0, 0.1, shape)
            for name, shape in session.parameters.items()
        }
    )
    return session


def spoilt(session, step):
    """Make the gradients of a step overflow, in this process alone."""
    import torch

    grad = torch.autograd.grad

    def infinite(*given, **more):
        first, *rest = grad(*given, **more)
        return (first * float("inf") if session.counters().steps == step else first, *rest)

    torch.autograd.grad = infinite


def trained(framework, case, steps, folder):
    """Train, and leave what every rank has come to."""
    here = world()
    ranks = meet(BackendName.parse(f"{framework}:cpu"))
    session = opened(framework, case)
    if ranks:
        ranks.join(session)
    if case == "overflow" and here.rank == here.size - 1:
        spoilt(session, 1)
    seen = []

    def told(place, step, result):
        seen.append((result.loss, result.grad_norm, result.loss_scale, result.overflow))
        if os.environ.get("DIES") == f"{here.rank} {step}":
            os.kill(os.getpid(), signal.SIGKILL)

    run = {"case": case, "batch_size": SIZE}
    data = Shuffled(records(TASKS.get(case, case)), SIZE, seed=1)
    train(session, data, Plan(steps, folder, run, save_every=2, keep=9), told)
    np.savez(folder / f"rank-{here.rank}.npz", **session.weights())
    (folder / f"rank-{here.rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    try:
        for one in sys.argv[2].split(","):
            trained(sys.argv[1], one, int(sys.argv[3]), Path(sys.argv[4]) / one)
    except PortError as error:
        fail(str(error))
        sys.exit(2)
