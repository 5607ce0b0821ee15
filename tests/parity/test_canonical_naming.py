"""Names and axes of parameters, gradients and moments in the family's first dialect: over every model and framework."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib import import_module

import numpy as np
import pytest

from porting.backends.protocol import Build
from porting.convert.registry import family_named
from porting.errors import MismatchError
from porting.model.registry import models
from porting.parity.naming import naming_of
from porting.testing.tiny import tiny

PACKAGES = {"pytorch": "torch", "tensorflow": "tensorflow", "mindspore": "mindspore"}
CASES = [(spec.name, task.name, {}) for spec in models().values() for task in spec.tasks]
CASES += [("xlnet", task.name, {"untie_r": False}) for task in models()["xlnet"].tasks]

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
everywhere = pytest.mark.parametrize("framework", list(PACKAGES))
cases = pytest.mark.parametrize(("name", "task", "changes"), CASES)


@cache
def _ported(framework, name, task, changes):
    """Shapes of a port's parameters, the names of those it trains, and their naming."""
    pytest.importorskip(PACKAGES[framework])
    spec = models()[name]
    config = replace(tiny(spec), **dict(changes))
    build = Build(task, labels=1 if task == "regression" else 3)
    session = import_module(f"porting.backends.{PACKAGES[framework]}.run").open_session(spec, config, build)
    shapes = session.parameters
    return shapes, session.trainable, naming_of(spec, config, build, framework, shapes)


def ported(framework, name, task, changes):
    return _ported(framework, name, task, tuple(changes.items()))


def numbered(shapes):
    """Arrays in which no two elements are the same."""
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes.values())])
    flat = np.arange(ends[-1], dtype=np.float64)
    return {name: flat[a:b].reshape(shapes[name]) for name, a, b in zip(shapes, ends, ends[1:], strict=False)}


@everywhere
@cases
def test_there_and_back_is_the_same_bits(framework, name, task, changes):
    shapes, _, naming = ported(framework, name, task, changes)
    tensors = numbered(shapes)
    carried = dict(naming.canonical(tensors))
    assert {key: value.shape for key, value in carried.items()} == naming.shapes
    back = dict(naming.to_native(carried))
    assert back.keys() == tensors.keys()
    for key, value in tensors.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)


@everywhere
@cases
def test_and_the_other_way_round(framework, name, task, changes):
    _, _, naming = ported(framework, name, task, changes)
    tensors = numbered(naming.shapes)
    found = dict(naming.canonical(dict(naming.to_native(tensors))))
    assert list(found) == list(tensors)
    for key, value in tensors.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


@everywhere
@cases
def test_gradients_of_what_is_trained_are_all_carried(framework, name, task, changes):
    """A part of the parameters: a distillation's teacher has no gradient."""
    shapes, trainable, naming = ported(framework, name, task, changes)
    tensors = {key: value for key, value in numbered(shapes).items() if key in trainable}
    assert tensors
    carried = dict(naming.canonical(tensors))
    elements = sum(value.size for value in tensors.values())
    assert sum(value.size for value in carried.values()) == elements
    assert dict(naming.to_native(carried)).keys() == tensors.keys()


@cases
def test_frameworks_agree_on_names_order_and_shapes(name, task, changes):
    found = {framework: ported(framework, name, task, changes)[2].shapes for framework in PACKAGES}
    first = found["pytorch"]
    for framework, shapes in found.items():
        assert list(shapes.items()) == list(first.items()), framework


def test_names_are_those_of_the_first_dialect():
    spec = models()["bert"]
    assert family_named(spec.family).dialects[0].name == "google"
    names = ported("pytorch", "bert", "classification", {})[2].shapes
    assert names["bert/encoder/layer_1/intermediate/dense/kernel"] == (32, 64)
    assert "output_bias" in names


def test_kernels_are_transposed_and_gradients_with_them():
    shapes, _, naming = ported("pytorch", "bert", "classification", {})
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    tensor = numbered({name: shapes[name]})[name]
    found = dict(naming.canonical({name: tensor}))
    np.testing.assert_array_equal(found["bert/encoder/layer_0/intermediate/dense/kernel"], tensor.T)


def test_a_tied_bias_is_one_and_may_be_named_in_every_layer():
    """XLNet without untie_r: ports name it in the first layer; a checkpoint of the dialect, in all of them."""
    shapes, _, naming = ported("pytorch", "xlnet", "encoder", {"untie_r": False})
    names = [name for name in shapes if name.endswith("r_w_bias")]
    assert names == ["transformer.layer.0.rel_attn.r_w_bias"]
    assert naming.shapes["model/transformer/r_w_bias"] == shapes[names[0]]
    layered = {**shapes, "transformer.layer.1.rel_attn.r_w_bias": shapes[names[0]]}
    spec = models()["xlnet"]
    every = naming_of(spec, replace(tiny(spec), untie_r=False), Build("encoder"), "pytorch", layered)
    ones = {name: np.ones(shape) for name, shape in layered.items()}
    assert dict(every.canonical(ones))["model/transformer/r_w_bias"].shape == shapes[names[0]]
    with pytest.raises(MismatchError, match=r"r_w_bias is one for all of them") as error:
        dict(every.canonical({**ones, "transformer.layer.1.rel_attn.r_w_bias": np.zeros(shapes[names[0]])}))
    assert error.value.problems == ("transformer.layer.1.rel_attn.r_w_bias  differs from " + names[0],)


def test_what_does_not_fit_is_refused():
    shapes, _, naming = ported("pytorch", "xlnet", "encoder", {})
    with pytest.raises(MismatchError) as error:
        dict(naming.canonical({"transformer.nothing": np.zeros(3)}))
    assert error.value.problems == ("transformer.nothing  unexpected",)
    name = "transformer.layer.0.rel_attn.r_w_bias"
    with pytest.raises(MismatchError) as error:
        dict(naming.canonical({name: np.zeros((1, 2))}))
    assert error.value.problems == (f"{name}: wanted {shapes[name]}, got (1, 2)",)
    with pytest.raises(MismatchError, match=r"r_w_bias is made of more") as error:
        dict(naming.canonical({name: np.zeros(shapes[name])}))
    assert error.value.problems == ("transformer.layer.1.rel_attn.r_w_bias  missing",)


def test_parameters_that_the_table_does_not_know_are_named():
    spec = models()["bert"]
    shapes, _, _ = ported("pytorch", "bert", "encoder", {})
    with pytest.raises(MismatchError) as error:
        naming_of(spec, tiny(spec), Build("encoder"), "pytorch", {**shapes, "bert.adapter.weight": (2, 2)})
    assert error.value.problems == ("bert.adapter.weight  not known to the table",)
