"""float64 in PyTorch's ports: nothing is rounded to float32 on the way, in any model or task; others refuse it."""

from __future__ import annotations

from functools import cache
from importlib import import_module

import numpy as np
import pytest

from porting.backends.feed import NoSuchTaps
from porting.backends.protocol import Build
from porting.errors import UsageError
from porting.model.registry import models
from porting.parity.probe import STEPS, probe_batch, probe_recipe, probe_weights
from porting.parity.taps import candidates
from porting.testing.tiny import tiny

CASES = [(spec.name, task.name) for spec in models().values() if spec.probe for task in spec.tasks]
EPSILON = float(np.finfo(np.float32).eps)

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
everywhere = pytest.mark.parametrize(("name", "task"), CASES)
torch = pytest.importorskip("torch")


def opened(name, task, compute):
    """A tiny session with the probe's weights, its batch, and whether the task has a loss."""
    spec, build = models()[name], Build(task, labels=1 if task == "regression" else 3, compute=compute)
    config = tiny(spec)
    session = import_module("porting.backends.torch.run").open_session(spec, config, build, probe_recipe(spec))
    session.load(probe_weights(spec, config, build, session.parameters, spec.dialects["pytorch"]))
    return session, probe_batch(spec, config, build)


def everything(session, batch, name):
    """All taps, and where there is a loss the gradients, the weights after a step, and the moments."""
    spec = models()[name]
    taps = list(candidates(spec, tiny(spec)))
    try:
        session.forward(batch, taps)
    except NoSuchTaps as error:
        taps = [tap for tap in taps if tap not in error.names]
    found = {"forward": session.forward(batch, taps)}
    if "loss" in taps:
        found["gradients"] = session.gradients(batch)[1]
        for _ in range(STEPS):
            session.step(batch)
        found |= {"weights": session.weights(), **session.slots()}
    return {(section, key): value for section, values in found.items() for key, value in values.items()}


@cache
def computed(name, task, compute):
    session, batch = opened(name, task, compute)
    return everything(session, batch, name)


@everywhere
def test_all_that_comes_out_is_float64(name, task):
    kinds = {key: value.dtype for key, value in computed(name, task, "float64").items() if value.dtype.kind == "f"}
    assert kinds
    assert {key: dtype for key, dtype in kinds.items() if dtype != np.float64} == {}


@everywhere
def test_float32_is_near_and_not_the_same(name, task):
    """Of the whole forward pass: the median distance is rounding of float32, neither less nor far more."""
    exact, rounded = computed(name, task, "float64"), computed(name, task, "float32")
    assert exact.keys() == rounded.keys()
    apart = [
        float(np.linalg.norm(rounded[key] - value) / np.linalg.norm(value))
        for key, value in exact.items()
        if key[0] == "forward" and value.dtype.kind == "f" and np.linalg.norm(value)
    ]
    # A gather is exact; a fully masked row holds scores near -10000, whose steps are 1e-3 of what is left of them.
    assert 0.05 * EPSILON < np.median(apart) < 100 * EPSILON


@everywhere
def test_no_operator_gives_float32(name, task):
    """Forward, backward and the step: had any value been rounded on the way, an operator had made it."""
    from torch.utils._python_dispatch import TorchDispatchMode

    narrow, double = set(), set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for each in result if isinstance(result, tuple | list) else (result,):
                if isinstance(each, torch.Tensor) and each.is_floating_point():
                    (double if each.dtype == torch.float64 else narrow).add(str(func))
            return result

    session, batch = opened(name, task, "float64")
    with Watch():
        everything(session, batch, name)
    assert narrow == set()
    assert {"aten.native_layer_norm.default", "aten._softmax.default"} <= double  # they were seen


def test_weights_go_in_and_out_to_the_last_bit():
    session, _ = opened("bert", "encoder", "float64")
    random = np.random.default_rng(0)
    wanted = {name: random.standard_normal(shape) for name, shape in session.parameters.items()}
    session.load(wanted)
    found = session.weights()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("framework", ["tensorflow", "mindspore", "onnxruntime"])
def test_other_frameworks_refuse_it(framework):
    pytest.importorskip(framework)
    spec = models()["bert"]
    run = import_module(f"porting.backends.{framework}.run")
    with pytest.raises(UsageError, match=r"^compute float64: "):
        run.open_session(spec, tiny(spec), Build("encoder", compute="float64"))
