"""Taps that are replaced by given values: teacher forcing, in every port of every model and task."""

from __future__ import annotations

from functools import cache
from importlib import import_module

import numpy as np
import pytest

from porting.backends.feed import NoSuchTaps
from porting.backends.protocol import Build
from porting.errors import UsageError
from porting.model.registry import models
from porting.parity.probe import probe_batch, probe_weights
from porting.parity.taps import candidates
from porting.testing.tiny import tiny

PACKAGES = {"pytorch": "torch", "tensorflow": "tensorflow", "mindspore": "mindspore"}
CASES = [(spec.name, task.name) for spec in models().values() if spec.probe for task in spec.tasks]
ENDS = {
    ("bert", "encoder"): "pooled",
    ("roberta", "encoder"): "sequence",
    ("tinybert", "student"): "pooled",
    ("tinybert", "teacher"): "teacher.pooled",
    ("tinybert", "classification"): "log_probs",
    ("tinybert", "token_classification"): "pooled log_probs",
    ("tinybert", "general_distill"): "teacher.pooled pooled",
    ("tinybert", "task_distill_1"): "teacher.log_probs log_probs",
    ("tinybert", "task_distill_2"): "teacher.log_probs log_probs fit.0 fit.1 fit.2",
    ("tinybert", "task_distill_2_tokens"): "teacher.pooled teacher.log_probs pooled log_probs fit.0 fit.1 fit.2",
    ("xlnet", "encoder"): "sequence",
}
"""Taps that nothing is computed from, beside the loss."""

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
        self.taps = list(candidates(self.spec, config))
        while lacking := self._lacking():
            self.taps = [tap for tap in self.taps if tap not in lacking]

    def _lacking(self):
        try:
            self.forward()
        except NoSuchTaps as error:
            return error.names
        return ()

    def forward(self, given=None):
        return self.session.forward(self.batch, self.taps, given)


@cache
def opened(framework, name, task):
    """A net that no test changes."""
    return Net(framework, name, task)


@pytest.fixture(params=list(PACKAGES))
def framework(request):
    return request.param


EVERY = pytest.mark.parametrize(
    ("framework", "name", "task"),
    [
        pytest.param(
            framework, *case, marks=[pytest.mark.slow] if framework == "mindspore" and "task_distill" in case[1] else []
        )
        for framework in PACKAGES
        for case in CASES
    ],
)
"""MindSpore takes half a minute for each of TinyBERT's second phases, whose cells are those of the first."""


@EVERY
def test_its_own_taps_change_nothing(framework, name, task):
    net = opened(framework, name, task)
    free = net.forward()
    forced = net.forward({tap: free[tap] for tap in net.taps})
    assert list(forced) == list(free)
    for tap, value in free.items():
        np.testing.assert_array_equal(forced[tap], value, err_msg=tap)


@EVERY
def test_a_value_changes_what_is_computed_from_it_and_nothing_before(framework, name, task):
    """All taps given, one of them another value: of every tap but the second layer's, whose code is the first's."""
    net = opened(framework, name, task)
    found = net.forward()
    free = {tap: found[tap] for tap in net.taps}
    idle = []
    for at, tap in enumerate(net.taps):
        if "layer.1." in tap:
            continue
        forced = net.forward({**free, tap: other(free[tap])})
        for before in net.taps[: at + 1]:
            np.testing.assert_array_equal(forced[before], free[before], err_msg=f"{tap} given, {before}")
        if all(np.array_equal(forced[after], free[after]) for after in net.taps[at + 1 :]):
            idle.append(tap)
    assert idle == [tap for tap in net.taps if tap in ("loss", *ENDS.get((name, task), "").split())]


def other(value):
    """A value unlike this one, of the same shape; what is masked stays so."""
    bumps = 0.5 * np.cos(np.arange(value.size, dtype=np.float32)).reshape(value.shape)
    return np.where(np.abs(value) < 1000, value + bumps, value)


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
