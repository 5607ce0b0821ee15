"""A session that goes on where another stood makes the same steps, to the bit."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from toy_port import spec as toy

from porting.backends.protocol import Build, Counters
from porting.errors import MismatchError, UsageError
from porting.model import recipes
from porting.model.dropout import Dropout
from porting.model.recipe import LossScale

DIALECTS = {"torch": "hf", "tensorflow": "google", "mindspore": "modelzoo"}
BUILD = Build("classify", labels=toy.LABELS, dropout=Dropout("shared", 5))
RECIPE = replace(recipes.adamw(1e-2, 8, warmup=2), loss_scale=LossScale("dynamic", 1024.0, 2.0, 2))

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(
    params=[
        pytest.param((backend, mode), marks=getattr(pytest.mark, backend), id=f"{backend}-{mode}")
        for backend in DIALECTS
        for mode in ("eager", "graph")
        if (backend, mode) != ("torch", "graph")
    ]
)
def opened(request):
    """How to open a session with weights of the toy in it."""
    backend, mode = request.param
    pytest.importorskip(backend)

    def start(recipe=RECIPE):
        run = import_module(f"porting.backends.{backend}.run")
        session = run.open_session(toy.TOY, toy.ToyConfig(), replace(BUILD, mode=mode), recipe)
        session.load(toy.weights(DIALECTS[backend]))
        return session

    return start


def test_a_resumed_session_makes_the_same_steps(opened):
    whole, first = opened(), opened()
    wanted = [whole.step(toy.batch()) for _ in range(5)]
    assert [first.step(toy.batch()) for _ in range(3)] == wanted[:3]
    counters, slots, weights = first.counters(), first.slots(), first.weights()
    assert (counters.steps, counters.updates) == (3, 3)
    assert counters.loss_scale == 2048.0
    assert counters.good == 1
    second = opened()
    second.step(toy.batch())  # what it did before is forgotten, a compiled step included
    second.load(weights)
    second.resume(counters, slots)
    assert second.counters() == counters
    assert [second.step(toy.batch()) for _ in range(2)] == wanted[3:]
    assert all(np.array_equal(second.weights()[name], value) for name, value in whole.weights().items())
    for role, moments in whole.slots().items():
        assert all(np.array_equal(second.slots()[role][name], value) for name, value in moments.items())


def test_moments_that_do_not_fit_are_listed_and_nothing_is_changed(opened):
    session = opened()
    session.step(toy.batch())
    counters, slots = session.counters(), session.slots()
    name, other = session.trainable[:2]
    spoilt = {
        "m": {**slots["m"], name: np.zeros((1, 1, 1), np.float32)},
        "v": {key: value for key, value in slots["v"].items() if key != other},
    }
    with pytest.raises(MismatchError) as caught:
        session.resume(Counters(7, 7), spoilt)
    assert any(line.startswith(f"m.{name}: the model wants") for line in caught.value.problems)
    assert f"v.{other}  missing" in caught.value.problems
    assert session.counters() == counters
    assert all(np.array_equal(session.slots()["m"][key], value) for key, value in slots["m"].items())


def test_without_a_recipe_there_is_nothing_to_resume(opened):
    with pytest.raises(UsageError, match="a step needs a recipe"):
        opened(None).resume(Counters(), {})
