"""No series, however broken, stops the judgement, warns, or passes."""

from __future__ import annotations

import numpy as np
import pytest

from porting.acceptance.judge import judge_trajectory
from porting.acceptance.permutation import band, z_of
from porting.acceptance.speed import judge_speed
from porting.acceptance.task import judge_task
from porting.acceptance.trajectory import Metric, Runs, Series, Trajectory
from porting.parity.state import Level, State, Verdict

ODD = (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e308, -1e308, 5e-324, 1.0)
NAMES = ("loss", "grad_norm", "grad_norm/layer.0", "lr", "overflow", "seconds")
BELOW = [Verdict(level, State.PASS, (), 1, 1) for level in Level]


def odd_series(random):
    count = int(random.choice([0, 1, 2, 9, 10, 11, 60]))
    steps = np.unique(random.integers(-3, 80, count))
    plain = random.normal(2, 1, steps.size)
    values = np.where(random.random(steps.size) < random.choice([0, 0.1, 1]), random.choice(ODD, steps.size), plain)
    return Series(steps, values, float(random.choice([0, 0.01, np.inf])))


def odd_run(random, name):
    series = {each: odd_series(random) for each in NAMES if random.random() < 0.8}
    return Trajectory(name, "log", (), series, environment={"precision": str(random.choice(["", "float32", "odd"]))})


@pytest.mark.parametrize("seed", range(60))
def test_broken_runs(seed):
    random = np.random.default_rng(seed)
    count = int(random.choice([1, 2, 6]))
    sides = [[odd_run(random, f"{side} {i}") for i in range(count)] for side in ("source", "target")]
    source, target = (Runs(side[0], tuple(side[1:]), seeds=tuple(side)) for side in sides)
    verdict = judge_trajectory(source, target, planted={"odd": sides[1]})
    assert verdict.state is not State.PASS
    assert judge_speed(source.run, target.run, below=BELOW).level is Level.SPEED
    for name in NAMES:
        band(source, name)
        z_of(source, target, name)


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("name", ["accuracy", "matthews", "f1"])
def test_broken_metrics(name, value):
    verdict = judge_task({name: Metric(0.5, 10)}, {name: Metric(value, 0)})
    assert verdict.state is not State.PASS
    assert judge_task({name: Metric(value, 10**9)}, {name: Metric(0.5, 10**9)}).state is not State.PASS
