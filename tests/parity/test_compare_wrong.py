"""Everything that can be wrong with a target: never a pass, each at its level and with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_support import (
    BUILD,
    CONFIG,
    RECIPE,
    STEPS,
    Tensors,
    level,
    put,
    scaled,
    target,
    tensors,
)

from porting.parity.compare import compare
from porting.parity.compare_text import comparison_lines
from porting.parity.floor import Floor
from porting.parity.reader import Capture
from porting.parity.state import Level, State


def reshaped(key: tuple[str, str]) -> Callable[[Tensors], None]:
    def change(known: Tensors) -> None:
        known[key] = known[key].reshape(-1)

    return change


def other_inputs(known: Tensors) -> None:
    known |= {key: value for key, value in tensors(5).items() if key[0] != "weights"}


WRONG: dict[str, tuple[Callable[[Tensors], Any], dict[str, Any], State, Level, str, str]] = {
    "a transposed weight": (
        lambda k: k.update({("weights", "layer.0.query.weight"): k["weights", "layer.0.query.weight"].T}),
        {}, State.FAIL, Level.WEIGHTS, "layer.0.query.weight", "not the same bits",
    ),
    "a weight that is missing": (
        lambda k: k.pop(("weights", "layer.1.key.bias")),
        {}, State.UNMATCHED, Level.WEIGHTS, "layer.1.key.bias", "the target has none",
    ),
    "another model": (lambda _: None, {"model": "xlnet"}, State.FAIL, Level.SETTINGS, "model", "another model"),
    "different random inputs": (other_inputs, {"batch": "b2"}, State.FAIL, Level.SETTINGS, "batch", "inputs are not"),
    "different inputs without a hash": (
        other_inputs, {"batch": ""}, State.NOT_RUN, Level.SETTINGS, "batch", "no hash of it was recorded by target",
    ),
    "epsilon": (
        lambda _: None, {"config": CONFIG | {"layer_norm_eps": 1e-7}},
        State.FAIL, Level.SETTINGS, "config.layer_norm_eps", "source 1e-12, target 1e-07",
    ),
    "a setting on one side only": (
        lambda _: None, {"config": CONFIG | {"mask": -1e4}},
        State.FAIL, Level.SETTINGS, "config.mask", "source none, target -10000",
    ),
    "dropout": (
        lambda _: None, {"build": BUILD | {"dropout": {"mode": "own"}}},
        State.FAIL, Level.SETTINGS, "build.dropout.mode", "source off, target own",
    ),
    "schedule": (
        lambda _: None, {"recipe": RECIPE | {"schedule": {"kind": "bert", "peak": 1e-3}}},
        State.FAIL, Level.SETTINGS, "recipe.schedule.kind", "source constant, target bert",
    ),
    "no recipe": (lambda _: None, {"recipe": None}, State.UNMATCHED, Level.SETTINGS, "recipe", "without one"),
    "precision": (
        lambda _: None, {"build": BUILD | {"compute": "float16"}},
        State.CONDITIONAL, Level.SETTINGS, "build.compute", "no run in float64",
    ),
    "a crash": (
        lambda k: [k.pop(key) for key in list(k) if key[0] != "weights"],
        {"state": "crashed", "reason": "OutOfMemory", "steps": ()},
        State.CRASHED, Level.FORWARD, "target run", "OutOfMemory",
    ),
    "a tap that is off": (
        scaled(("forward", "layer.1.output"), 1.0001),
        {}, State.FAIL, Level.FORWARD, "layer.1.output", "relative L2 0.0001, limit",
    ),
    "one element": (put(("forward", "embeddings"), 9), {}, State.FAIL, Level.FORWARD, "embeddings", "max/scale"),
    "a NaN": (put(("forward", "logits"), np.nan), {}, State.FAIL, Level.FORWARD, "logits", "1 NaN (target)"),
    "a tap that is missing": (
        lambda k: k.pop(("forward", "layer.0.output")),
        {}, State.UNMATCHED, Level.FORWARD, "layer.0.output", "the target has none, the source does",
    ),
    "a tap too many": (
        lambda k: k.update({("forward", "more"): np.ones(3, np.float32)}),
        {}, State.UNMATCHED, Level.FORWARD, "more", "the source has none, the target does",
    ),
    "a tap of another shape": (
        reshaped(("forward", "layer.0.output")),
        {}, State.UNMATCHED, Level.FORWARD, "layer.0.output", "shape (4, 8, 16) in the source, (512,) in the target",
    ),
    "an empty capture": (
        lambda k: k.clear(), {"steps": ()}, State.UNMATCHED, Level.FORWARD, "target capture", "it is empty",
    ),
    "a gradient scale": (
        scaled(("gradients", "layer.0.query.weight"), 0.5),
        {}, State.FAIL, Level.BACKWARD, "layer.0.query.weight", "relative L2 0.5",
    ),
    "a gradient where there is none": (
        lambda k: k.update({("gradients", "layer.0.key.bias"): np.full(16, 1e-3, np.float32)}),
        {}, State.FAIL, Level.BACKWARD, "layer.0.key.bias", "of its section",
    ),
    "a step that is too long": (
        lambda k: k.update({
            ("step.weights", "layer.0.query.weight"): k["weights", "layer.0.query.weight"]
            + np.float32(1.01) * (k["step.weights", "layer.0.query.weight"] - k["weights", "layer.0.query.weight"])
        }),
        {}, State.FAIL, Level.STEP, "step.weights/layer.0.query.weight", "limit",
    ),
    "a second moment": (
        scaled(("step.v", "layer.1.query.weight"), 1.001),
        {}, State.FAIL, Level.STEP, "step.v/layer.1.query.weight", "limit",
    ),
    "a learning rate": (
        lambda _: None, {"steps": ({**STEPS[0], "lr": 1.001e-3},)},
        State.FAIL, Level.STEP, "step 0 lr", "source 0.001, target 0.001001",
    ),
    "a norm": (
        lambda _: None, {"steps": ({**STEPS[0], "grad_norm": 0.51},)},
        State.FAIL, Level.STEP, "step 0 grad_norm", "0.51",
    ),
    "an overflow": (
        lambda _: None, {"steps": ({**STEPS[0], "overflow": True},)},
        State.FAIL, Level.STEP, "step 0 overflow", "True",
    ),
    "another batch in a step": (
        lambda _: None, {"steps": ({**STEPS[0], "batch": "b1"},)},
        State.FAIL, Level.STEP, "step 0 batch", "b1",
    ),
    "a step that was not made": (
        lambda _: None, {"steps": ()}, State.UNMATCHED, Level.STEP, "steps", "the source made 1",
    ),
    "a loss that is none": (
        lambda _: None, {"steps": ({**STEPS[0], "loss": float("nan")},)},
        State.FAIL, Level.STEP, "step 0 loss", "not finite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_never_a_pass_and_has_its_reason(
    name: str, source: Capture, floor: Floor, tmp_path: Path
) -> None:
    change, changes, state, where, what, reason = WRONG[name]
    found = compare(source, target(tmp_path, change, **changes), floor=floor)
    assert not found.passed
    assert level(found, where) is not State.PASS
    findings = [one for one in found.overall.findings if (one.level, one.what) == (where, what)]
    assert [one.state for one in findings if reason in one.reason] == [state]
    assert comparison_lines(found)[0].startswith(found.overall.state)
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("name", ["a transposed weight", "different random inputs", "a tap that is off"])
def test_the_same_mistake_the_other_way_round(name: str, source: Capture, floor: Floor, tmp_path: Path) -> None:
    change, changes, *_ = WRONG[name]
    assert not compare(target(tmp_path, change, **changes), source, floor=floor).passed
