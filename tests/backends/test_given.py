"""Taps that are replaced by given values: teacher forcing, in every port of every model and task."""

from __future__ import annotations

from functools import cache
from importlib import import_module

import numpy as np
import pytest

from porting.backends.protocol import Build
from porting.errors import UsageError
from porting.model.registry import models
from porting.parity.probe import probe_batch, probe_weights
from porting.testing.tiny import tiny

PACKAGES = {"pytorch": "torch", "tensorflow": "tensorflow", "mindspore": "mindspore"}
CASES = [(spec.name, task.name) for spec in models().values() if spec.probe for task in spec.tasks]
ONE_OF_EACH = list({name: (name, task) for name, task in CASES}.values())
FIRST_LAYER = ("layer.0.attention.scores", "layer.0.attention.output", "layer.0.ffn.output", "layer.0.output")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


class Net:
    """A tiny model of a task, its batch, and its taps in the order of computation."""

    def __init__(self, framework, name, task, seed=0):
        pytest.importorskip(PACKAGES[framework])
        self.spec = models()[name]
        config = tiny(self.spec)
        build = Build(task, labels=1 if task == "regression" else 3)
        run = import_module(f"porting.backends.{PACKAGES[framework]}.run")
        self.session = run.open_session(self.spec, config, build)
        dialect = self.spec.dialects[framework]
        self.session.load(probe_weights(self.spec, config, build, self.session.parameters, dialect, seed=seed))
        self.batch = probe_batch(self.spec, config, build)
        numbers = range(config.to_dict().get("num_hidden_layers") or config.to_dict().get("n_layer") or 2)
        every = dict.fromkeys(tap.name.replace("{layer}", str(i)) for tap in self.spec.taps for i in numbers)
        self.taps = [tap for tap in every if self._has(tap)]

    def _has(self, tap):
        try:
            return tap in self.session.forward(self.batch, [tap])
        except UsageError:
            return False

    def forward(self, given=None):
        return self.session.forward(self.batch, self.taps, given)


@cache
def opened(framework, name, task):
    """A net that no test changes."""
    return Net(framework, name, task)


@pytest.fixture(scope="module", params=list(PACKAGES))
def framework(request):
    return request.param


@pytest.mark.parametrize(("name", "task"), CASES)
def test_its_own_taps_change_nothing(framework, name, task):
    net = opened(framework, name, task)
    free = net.forward()
    forced = net.forward({tap: free[tap] for tap in net.taps})
    assert list(forced) == list(free)
    for tap, value in free.items():
        np.testing.assert_array_equal(forced[tap], value, err_msg=tap)


@pytest.mark.parametrize(("name", "task"), ONE_OF_EACH)
def test_a_value_changes_what_follows_and_nothing_before(framework, name, task):
    net = opened(framework, name, task)
    free = net.forward()
    tap = next(tap for tap in net.taps if tap.endswith("layer.0.output"))
    forced = net.forward({tap: free[tap] + np.float32(0.5) * np.sign(free[tap])})
    scope = tap.removesuffix("layer.0.output")
    for before in (scope + name for name in ("embeddings", *FIRST_LAYER)):
        np.testing.assert_array_equal(forced[before], free[before], err_msg=before)
    last = tap.replace("layer.0.output", "layer.1.output")
    assert np.abs(forced[last] - free[last]).max() > 1e-3


def test_all_taps_given_is_every_module_by_itself(framework):
    """With another run's taps given, a module's output is that of the other run where its weights are the same."""
    net, other = Net(framework, "bert", "classification"), Net(framework, "bert", "classification", seed=1)
    theirs = other.forward()
    weights = net.session.weights()
    same = {name: value for name, value in other.session.weights().items() if ".0." in name or "_0/" in name}
    assert same
    net.session.load({**weights, **same})
    forced = net.forward({tap: theirs[tap] for tap in net.taps if tap in theirs})
    for tap in ("layer.0.attention.output", "layer.0.ffn.output", "layer.0.output"):
        np.testing.assert_allclose(forced[tap], theirs[tap], rtol=0, atol=2e-5, err_msg=tap)  # float32, eager or not
    assert np.abs(forced["layer.1.output"] - theirs["layer.1.output"]).max() > 1e-3
    assert np.abs(forced["embeddings"] - theirs["embeddings"]).max() > 1e-3


def test_what_cannot_be_given_is_refused(framework):
    net = opened(framework, "bert", "classification")
    with pytest.raises(UsageError, match=r"bert: no tap layer\.0\.nothing"):
        net.forward({"layer.0.nothing": np.zeros(1, np.float32)})
    with pytest.raises(UsageError, match=r"tap embeddings: wanted \(.*\), got \(1, 2\)"):
        net.forward({"embeddings": np.zeros((1, 2), np.float32)})
