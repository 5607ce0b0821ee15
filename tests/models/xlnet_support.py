"""What the tests of the XLNet ports share: sessions, the golden case, and tensors carried between dialects."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from porting.backends.protocol import Build
from porting.checkpoint.registry import read
from porting.convert.convert import convert
from porting_xlnet.spec import SPEC

GOLDEN = Path(__file__).parents[1] / "golden" / "xlnet_b1"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
CONFIG = SPEC.configure(json.loads((GOLDEN / "xlnet_config.json").read_text()))
PACKAGES = {"pytorch": "torch", "tensorflow": "tensorflow", "mindspore": "mindspore"}
FRAMEWORKS = tuple(PACKAGES)
TASK = {"classification": "mnli", "regression": "sts-b"}
"""What the heads of the golden case are called."""


def modes(*fast):
    """Every framework in both modes, of which only these are fast enough for the fast tier."""
    every = [(framework, mode) for framework in FRAMEWORKS for mode in ("eager", "graph")]
    return pytest.mark.parametrize(
        ("framework", "mode"),
        [pytest.param(*pair, marks=[] if pair in fast else [pytest.mark.slow]) for pair in every],
    )


EAGER = tuple((framework, "eager") for framework in FRAMEWORKS)
everywhere = modes(*EAGER)
trained = modes(("pytorch", "eager"), ("tensorflow", "graph"), ("mindspore", "graph"))


def changed(**fields):
    """The golden case's config with other values."""
    return replace(CONFIG, **fields)


def build(task, mode="eager", *, dropout=None, compute="float32", labels=3, **extra):
    """A Build whose head has the golden case's name."""
    more = {} if dropout is None else {"dropout": dropout}
    extra = {"task_name": TASK.get(task, "task"), **extra}
    return Build(task, labels=labels, mode=mode, compute=compute, extra=extra, **more)


def session(framework, config, build, recipe=None):
    """A session of a framework, or a skip where it is not installed."""
    pytest.importorskip(PACKAGES[framework])
    return import_module(f"porting.backends.{PACKAGES[framework]}.run").open_session(SPEC, config, build, recipe)


def loaded(framework, config, build, weights, folder, recipe=None):
    """A session with weights in Google's dialect, of which it takes what its task has."""
    opened = session(framework, config, build, recipe)
    heads = {"classification": "regression_", "regression": "classification_"}
    other = heads.get(build.task, "(none)")
    kept = {name: tensor for name, tensor in weights.items() if other not in name}
    tensors = carried(kept, "google", SPEC.dialects[framework], folder, untie_r=config.untie_r)
    opened.load({name: tensors[name] for name in opened.parameters})
    return opened


def to_google(framework, tensors, folder, task=None, *, untie_r=True):
    """A session's tensors under Google's names, in Google's layout."""
    if not untie_r and framework != "tensorflow":
        # One parameter for all layers, which a session names once, for the first layer.
        layers = {name.split(".")[2] for name in tensors if name.startswith("transformer.layer.")}
        for name in [name for name in tensors if name.endswith(("r_w_bias", "r_r_bias", "r_s_bias"))]:
            tensors = tensors | {name.replace("layer.0.", f"layer.{layer}."): tensors[name] for layer in layers}
    return carried(tensors, SPEC.dialects[framework], "google", folder, task=task, untie_r=untie_r)


def carried(tensors, source, target, folder, task=None, *, untie_r=True):
    """Tensors of one dialect in another, by the conversion engine."""
    if source == target:
        return dict(tensors)
    origin, result, config = folder / "origin.npz", folder / "result.npz", folder / "xlnet_config.json"
    np.savez(origin, **tensors)
    config.write_text(json.dumps({"untie_r": untie_r}))
    convert(
        origin,
        result,
        to=target,
        family="xlnet",
        source_dialect=source,
        format="npz",
        config=config,
        variables={} if task is None else {"task": task},
        overwrite=True,
    )
    return arrays(result)


def arrays(path):
    """All tensors of a checkpoint."""
    checkpoint = read(path)
    return {name: np.array(checkpoint[name].read()) for name in checkpoint}


@cache
def golden(name):
    """Arrays of a golden file."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


@cache
def checkpoint(name="xlnet_model.ckpt"):
    """Tensors of a golden checkpoint."""
    return arrays(GOLDEN / name)


def part(stored, prefix):
    """Arrays whose names begin so, without it."""
    return {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}


def farthest(found, wanted):
    """The greatest deviation."""
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max())


def random_batch(config, task, *, batch=2, seq=7, predict=3, mems=0, seed=0):
    """Features of a task with holes in every mask, one fully masked row, and labels."""
    random = np.random.default_rng(seed)

    def bits(*shape, share=0.3):
        return (random.random(shape) < share).astype(np.float32)

    ids = random.integers(0, config.n_token, (batch, seq), np.int32)
    places = np.stack([random.permutation(seq)[:predict] for _ in range(batch)])
    made = {
        "input_ids": ids,
        "input_k": ids,
        "segment_ids": random.integers(0, 3, (batch, seq), np.int32),
        "input_mask": bits(batch, seq),
        "perm_mask": bits(batch, seq, seq),
        "input_q": bits(batch, seq),
        "target_mapping": np.eye(seq, dtype=np.float32)[places],
        "target": random.integers(0, config.n_token, (batch, predict), np.int32),
        "target_mask": np.concatenate((np.ones((batch, 1), np.float32), bits(batch, predict - 1, share=0.7)), 1),
        "label_ids": random.integers(0, 3, batch, np.int32),
        "label_values": random.standard_normal(batch, np.float32),
        "p_mask": np.concatenate((bits(batch, seq - 2), np.zeros((batch, 2), np.float32)), 1),
        "cls_index": np.full(batch, seq - 1, np.int32),
        "start_positions": np.full(batch, seq - 2, np.int32),
        "end_positions": np.full(batch, seq - 1, np.int32),
        "is_impossible": bits(batch, share=0.5),
    }
    made["seg_id"] = made["segment_ids"]
    made["perm_mask"][0, 0] = 1
    if mems:
        made["mems"] = random.standard_normal((config.n_layer, mems, batch, config.d_model), np.float32)
    return {name: made[name] for name in SPEC.task(task).features if name in made}


def random_weights(config, task, *, seed=0, **extra):
    """Weights of a task in Google's dialect, wide enough to tell models apart."""
    random = np.random.default_rng(seed)
    shapes = session("tensorflow", config, build(task, **extra)).parameters
    return {
        name: (0.2 * random.standard_normal(shape) + name.endswith("gamma")).astype(np.float32)
        for name, shape in shapes.items()
    }
