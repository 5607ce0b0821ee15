"""What the tests of the TinyBERT ports share: golden data under the names of PyTorch, and sessions that speak them."""

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
from porting.model.names import names_in
from porting_tinybert.spec import SPEC

GOLDEN = Path(__file__).parents[1] / "golden" / "tinybert_c1"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
LABELS = MANIFEST["num_labels"]
PACKAGES = {"pytorch": "torch", "tensorflow": "tensorflow", "mindspore": "mindspore"}
FRAMEWORKS = tuple(PACKAGES)
TASKS = {"gd": "general_distill", "td1": "task_distill_1", "td2": "task_distill_2"}
TEXT = ("input_ids", "input_mask", "segment_ids")


def config(**changes):
    """The golden case's config as ModelZoo reads it, with changes."""
    values = {**MANIFEST["student_config"], "teacher": MANIFEST["teacher_config"]}
    return replace(SPEC.configure(values), **changes)


def original_config():
    """The golden case's config as Huawei's PyTorch code reads it: erf gelu, epsilon 1e-12, padding_idx 0."""

    def huawei(values):
        kept = {
            k: v
            for k, v in values.items()
            if k not in ("compute_type", "dtype", "seq_length", "use_relative_positions")
        }
        return {**kept, "pre_trained": ""}

    return SPEC.configure({**huawei(MANIFEST["student_config"]), "teacher": huawei(MANIFEST["teacher_config"])})


class Net:
    """A session whose tensors are under PyTorch's names, in PyTorch's layout."""

    def __init__(self, framework, config, build, recipe=None):
        pytest.importorskip(PACKAGES[framework])
        run = import_module(f"porting.backends.{PACKAGES[framework]}.run")
        self.session = run.open_session(SPEC, config, build, recipe)
        self.names = as_hf(self.session.parameters, SPEC.dialects[framework])
        self.transposed = framework == "tensorflow"

    def load(self, tensors):
        self.session.load({own: self._turned(own, tensors[name]) for own, name in self.names.items()})
        return self

    def gradients(self, batch):
        loss, grads = self.session.gradients(batch)
        return loss, self._named(grads)

    def weights(self):
        return self._named(self.session.weights())

    def slots(self):
        return {role: self._named(moments) for role, moments in self.session.slots().items()}

    def trained(self):
        return {self.names[name] for name in self.session.trainable}

    def _named(self, tensors):
        return {self.names[own]: self._turned(own, tensor) for own, tensor in tensors.items()}

    def _turned(self, own, tensor):
        return np.asarray(tensor).T if self.transposed and own.endswith("/kernel") else np.asarray(tensor)


def as_hf(names, dialect):
    """PyTorch's name of each name of a dialect."""
    if dialect == "hf":
        return {name: name for name in names}
    return {name: found.name for name, found in names_in("tinybert", dialect, "hf", tuple(names)).items()}


@cache
def golden(file):
    """Arrays of a golden .npz."""
    return dict(np.load(GOLDEN / f"{file}.npz", allow_pickle=False))


def features(task, arrays, step=None):
    """What a task takes of a file of arrays."""
    wanted = SPEC.task(task).features
    return {name: array if step is None else array[step] for name, array in arrays.items() if name in wanted}


@cache
def checkpoint(file):
    """A golden .ckpt by ModelZoo's names."""
    found = read(GOLDEN / f"{file}.ckpt")
    return {name: np.asarray(found[name].read()) for name in found}


def from_modelzoo(tensors):
    """Tensors of one or both parts under PyTorch's names."""
    names = as_hf(tensors, "modelzoo")
    return {names[name]: tensor for name, tensor in tensors.items()}


@cache
def initial(phase):
    """What the golden net of a phase started from, under PyTorch's names.

    Its student's classifier in phase 1, which no loss reaches there, was that of phase 2.
    """
    teacher = from_modelzoo(checkpoint("teacher_pretrained" if phase == "gd" else "teacher_cls"))
    student = checkpoint("student_gd" if phase == "gd" else "student_td1")
    both = {f"teacher.{name}": tensor for name, tensor in teacher.items()}
    return both | from_modelzoo(student) | checkpoint("fit_dense")


def farthest(found, wanted):
    """The greatest deviation over tensors by name, and whose it is."""
    return max((float(np.abs(found[name] - wanted[name]).max()), name) for name in wanted)


def build(task, mode="eager", **more):
    """A Build with the golden case's labels."""
    return Build(task, **{"labels": LABELS, "mode": mode, **more})


def text(config, seed=0, batch=3, seq=9):
    """Sentences with padding, with a hole in the mask, and with padding first."""
    random = np.random.default_rng(seed)
    mask = np.ones((batch, seq), np.int32)
    mask[0, 5:], mask[1, 3], mask[2, :2] = 0, 0, 0
    ids = random.integers(0, config.vocab_size, (batch, seq), np.int32)
    ids[0, 5:] = 0
    return {
        "input_ids": ids,
        "input_mask": mask,
        "segment_ids": random.integers(0, config.type_vocab_size, (batch, seq), np.int32),
    }
