"""Records of a session: which tensors, under which names, in which order; and what cannot be recorded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from porting.backends.feed import NoSuchTaps
from porting.errors import UsageError
from porting.model.registry import models
from porting.parity.capture import Manifest
from porting.parity.naming import naming_of
from porting.parity.prepare import batch_of, canonical_dialect, weights_of
from porting.parity.probe import probe_recipe
from porting.parity.reader import read_capture
from porting.parity.record import LEVELS, Net, record, taps_of
from porting.parity.replica import replica_of
from porting.parity.state import Level
from porting.parity.subject import subject
from porting.parity.writer import CaptureWriter

run = pytest.importorskip("porting.backends.torch.run")
pytestmark = pytest.mark.torch

CASES = [(spec.name, task.name) for spec in models().values() for task in spec.tasks]
NO_LOSS = ("encoder", "student", "teacher")
MANIFEST = Manifest("bert", {}, {}, "torch:cpu", "torch", "cpu")


def net(name="bert", task="classification", *, recipe=True, seed=None, compute="float32"):
    """A tiny net of a task with the probe's weights, or a replica of it."""
    one = subject(name, task=task, labels=1 if task == "regression" else 3)
    spec, config, build = one.spec, one.configured(), one.build(compute=compute)
    session = run.open_session(spec, config, build, probe_recipe(spec) if recipe else None)
    naming = naming_of(spec, config, build, "pytorch", session.parameters)
    weights, batch = weights_of(one, build, naming.shapes)[0], batch_of(one, build)
    replica = None
    if seed is not None:
        replica = replica_of(spec, config, build, seed, naming.shapes, canonical_dialect(spec))
        weights = {key: replica.parameter(key, value) for key, value in weights.items()}
        batch = {key: replica.feature(key, value) for key, value in batch.items()}
    session.load(dict(naming.to_native(weights)))
    return Net(spec, config, build, session, naming, batch, replica)


def recorded(folder, made, *, whole=True, levels=LEVELS, steps=1, **more):
    taps = taps_of(made)
    with CaptureWriter(folder, replace(MANIFEST, taps=taps), whole=whole) as writer:
        record(made, writer, levels=levels, taps=taps, steps=steps, **more)
        return read_capture(writer.finish())


@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_section_of_every_task(tmp_path, name, task):
    made = net(name, task)
    trained = task not in NO_LOSS
    levels = LEVELS if trained else (Level.WEIGHTS, Level.FORWARD)
    capture = recorded(tmp_path / "c", made, levels=levels, steps=1 if trained else 0)
    assert list(capture.section("weights")) == list(made.naming.shapes)
    assert tuple(capture.section("forward")) == capture.manifest.taps == taps_of(made)
    assert set(made.spec.task(task).outputs) - {"new_mems"} - BEAMS <= set(capture.manifest.taps)
    parameters = set(dict(made.naming.canonical({key: made.session.weights()[key] for key in made.session.trainable})))
    for section in ("gradients", "step.weights", "step.m", "step.v") if trained else ():
        found = capture.section(section)
        assert set(found) == (set(made.naming.shapes) if section == "step.weights" else parameters), section
        assert {key: summary.shape for key, summary in found.items()}.items() <= made.naming.shapes.items()
    assert len(capture.steps) == (1 if trained else 0)


BEAMS = {"start_top_log_probs", "start_top_index", "end_top_log_probs", "end_top_index"}
"""Outputs of XLNet's spans where no start is given; the drawn batch gives one."""


def test_values_are_those_of_the_session(tmp_path):
    made, twin = net(), net()
    capture = recorded(tmp_path / "c", made, steps=3)
    forward = twin.session.forward(twin.batch, capture.manifest.taps)
    for name, value in forward.items():
        np.testing.assert_array_equal(capture.tensor("forward", name), value, err_msg=name)
    for section, values in (("weights", twin.session.weights()), ("gradients", twin.session.gradients(twin.batch)[1])):
        for name, value in twin.naming.canonical(values):
            np.testing.assert_array_equal(capture.tensor(section, name), value, err_msg=f"{section} {name}")
    first, second = (twin.session.step(twin.batch) for _ in range(2))
    assert first.lr == 0 < second.lr
    for section, values in (("step.weights", twin.session.weights()), ("step.v", twin.session.slots()["v"])):
        for name, value in twin.naming.canonical(values):
            np.testing.assert_array_equal(capture.tensor(section, name), value, err_msg=f"{section} {name}")
    assert [step["step"] for step in capture.steps] == [0, 1, 2]
    assert (capture.steps[0]["loss"], capture.steps[0]["grad_norm"]) == (first.loss, first.grad_norm)
    assert [step["loss"] for step in capture.steps[1:]] == [second.loss, twin.session.step(twin.batch).loss]
    assert all(step["seconds"] > 0 for step in capture.steps)


def test_summaries_are_those_of_the_whole(tmp_path):
    whole, summed = recorded(tmp_path / "whole", net()), recorded(tmp_path / "summed", net(), whole=False)
    assert whole.summaries.keys() == summed.summaries.keys()
    for key, summary in whole.summaries.items():
        assert summed.summaries[key].hash == summary.hash, key
        assert summed.tensor(*key) is None
    assert summed.manifest.content == whole.manifest.content


def test_a_replica_is_the_source_but_for_rounding(tmp_path):
    source, replica = recorded(tmp_path / "source", net()), recorded(tmp_path / "replica", net(seed=1))
    assert source.summaries.keys() == replica.summaries.keys()
    differing = 0
    for section, name in source.summaries:
        one, two = source.tensor(section, name), replica.tensor(section, name)
        if section == "weights":
            np.testing.assert_array_equal(one, two, err_msg=name)
        else:
            differing += not np.array_equal(one, two)
            seen = np.abs(one) < 1000  # what is masked is near -10000, where float32 has steps of 1e-3
            scale = max(float(np.abs(one[seen]).max(initial=0)), 1e-6)
            assert float(np.abs(one - two)[seen].max(initial=0)) < 0.05 * scale, (section, name)
    assert differing


def test_forced_taps_are_computed_from_the_given(tmp_path):
    """By its own taps every module computes the same again; by another's what that one's would be."""
    own = recorded(tmp_path / "own", net(), levels=[Level.FORWARD], steps=0)
    again = recorded(tmp_path / "again", net(), levels=[], steps=0, forced_by=own)
    for name in own.manifest.taps:
        np.testing.assert_array_equal(again.tensor("forced", name), own.tensor("forward", name), err_msg=name)
    other = net()
    other.session.load({key: value * np.float32(1.01) for key, value in other.session.weights().items()})
    free = recorded(tmp_path / "free", other, levels=[Level.FORWARD], steps=0)
    forced = recorded(tmp_path / "forced", other, levels=[], steps=0, forced_by=own)
    last = "layer.1.output"

    def apart(capture, section):
        return np.abs(capture.tensor(section, last) - own.tensor("forward", last)).mean()

    assert 0 < apart(forced, "forced") < apart(free, "forward")


def test_what_cannot_be_forced_is_refused(tmp_path):
    summed = recorded(tmp_path / "summed", net(), whole=False, levels=[Level.FORWARD], steps=0)
    with pytest.raises(UsageError, match=r"tap embeddings: .*summed, whose taps are to be given, holds no whole"):
        recorded(tmp_path / "one", net(), levels=[], steps=0, forced_by=summed)
    other = recorded(tmp_path / "other", net(task="encoder"), levels=[Level.FORWARD], steps=0)
    with pytest.raises(UsageError, match=r"tap logits: .*other, whose taps are to be given, holds no whole tensor"):
        recorded(tmp_path / "two", net(), levels=[], steps=0, forced_by=other)
    assert {path.name for path in tmp_path.iterdir()} == {"summed", "other"}


def test_steps_want_a_recipe(tmp_path):
    with pytest.raises(UsageError, match="a step needs a recipe"):
        recorded(tmp_path / "c", net(recipe=False), levels=[Level.STEP])
    assert list(tmp_path.iterdir()) == []


def test_float64_is_recorded_as_float64(tmp_path):
    capture = recorded(tmp_path / "c", net(compute="float64"))
    assert {summary.dtype for summary in capture.summaries.values()} == {"float64"}


@dataclass
class Fake:
    """A session that has only some taps. silent: those that it leaves out without a word."""

    has: tuple[str, ...]
    silent: tuple[str, ...] = ()

    def forward(self, batch: Any, taps: Any) -> dict[str, Any]:
        del batch
        missing = [name for name in taps if name not in self.has]
        if missing:
            raise NoSuchTaps("bert", missing)
        return {name: np.ones(2, np.float32) for name in taps if name not in self.silent}


def test_a_net_without_any_tap_is_refused():
    with pytest.raises(UsageError, match="bert classification: none of its taps gave a value"):
        taps_of(replace(net(), session=Fake(())))


LAYERED = ("layer.0.ffn.output", "layer.0.output", "layer.1.ffn.output", "layer.1.output")


@pytest.mark.parametrize(
    "session",
    [Fake(LAYERED, silent=("layer.1.ffn.output",)), Fake(tuple(name for name in LAYERED if name != LAYERED[2]))],
    ids=["left out", "refused"],
)
def test_a_tap_that_gives_nothing_is_not_passed_over(session):
    """A port that is asked for a tap and does not give it, or gives it in some layers only, is at fault."""
    message = r"^bert classification: taps that gave nothing: layer\.1\.ffn\.output"
    with pytest.raises(RuntimeError, match=message):
        taps_of(replace(net(), session=session))
