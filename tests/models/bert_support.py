"""What the tests of the BERT and RoBERTa ports share: sessions, golden data, weights carried between dialects."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from porting.backends.protocol import Build
from porting.checkpoint.registry import read
from porting.convert.convert import convert
from porting_bert.spec import SPEC

GOLDEN = Path(__file__).parents[1] / "golden" / "bert_a1"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
LIMITS = MANIFEST["suggested_tolerances"]
FRAMEWORKS = ("pytorch", "tensorflow", "mindspore")
PACKAGES = {"pytorch": "torch", "tensorflow": "tensorflow", "mindspore": "mindspore"}


def config(**changes):
    """The golden case's config, with changes."""
    return replace(SPEC.configure(json.loads((GOLDEN / "bert_config.json").read_text())), **changes)


def session(framework, spec, config, build, recipe=None):
    """A session of a framework, or a skip where it is not installed."""
    pytest.importorskip(PACKAGES[framework])
    return import_module(f"porting.backends.{PACKAGES[framework]}.run").open_session(spec, config, build, recipe)


def loaded(framework, spec, config, build, weights, tmp_path, recipe=None):
    """A session that holds weights in the spec's PyTorch dialect, or Google's for BERT, carried into its own."""
    opened = session(framework, spec, config, build, recipe)
    opened.load(carried(weights, spec, framework, tmp_path, opened.parameters))
    return opened


def carried(tensors, spec, framework, tmp_path, wanted=None, source=None):
    """Tensors by name under another dialect's names, through the conversion engine; only those wanted."""
    dialect = source or _dialect(tensors, spec)
    target = spec.dialects.get(framework, framework)
    if dialect == target:
        found = tensors
    else:
        origin, result = tmp_path / "origin.npz", tmp_path / f"{target}.npz"
        np.savez(origin, **tensors)
        convert(
            origin,
            result,
            to=target,
            family=spec.family,
            source_dialect=dialect,
            format="npz",
            config="none",
            overwrite=True,
        )
        checkpoint = read(result)
        found = {name: checkpoint[name].read() for name in checkpoint}
    return {name: np.array(value) for name, value in found.items() if wanted is None or name in wanted}


def _dialect(tensors, spec):
    return spec.dialects["tensorflow"] if any("/" in name for name in tensors) else "hf"


def golden(name):
    """Arrays of a golden file."""
    return dict(np.load(GOLDEN / f"{name}.npz", allow_pickle=False))


def golden_weights(prefix="bert_model.ckpt"):
    """The golden checkpoint, in Google's dialect."""
    checkpoint = read(GOLDEN / prefix)
    return {name: np.asarray(checkpoint[name].read()) for name in checkpoint}


def features(task, arrays, spec=SPEC):
    """What a task takes of a file of arrays."""
    return {name: arrays[name] for name in spec.task(task).features if name in arrays}


def build(task="classification", mode="eager", **more):
    """A Build with the golden case's labels."""
    return Build(task, **{"labels": 3, "mode": mode, **more})
