"""A migration with evidence at every level, from captures, training runs and logs of an evaluation."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from accept_support import capture, evaluation, migration

from porting.acceptance.accept import COPIED, accept
from porting.errors import UsageError
from porting.parity.state import Level, State
from porting.report.words import Words


def test_all_eight_levels_can_be_a_pass(tmp_path, port):
    run = migration(tmp_path / "run")
    sides = [(run, evaluation(tmp_path / f"{side}.log", 0.9)) for side in ("gpu", "npu")]
    found = accept(*sides)
    assert {str(level.level): str(level.state) for level in found.levels} == {str(level): "PASS" for level in Level}
    assert found.passed, (found.decisive, found.overall.reason)
    words = [word for path in sides[0] for word in ("--source", path)]
    words += [word for path in sides[1] for word in ("--target", path)]
    ran = port("accept", *words, "-o", tmp_path / "report")
    assert (ran.code, ran.out.splitlines()[0][:5]) == (0, "PASS ")
    assert port("verify", tmp_path / "report").code == 0


def test_an_emulated_target_is_a_pass_nowhere(tmp_path, port):
    run = migration(tmp_path / "run", emulated="float16 saturate")
    ran = port("accept", "--source", run, "--target", run, "-o", tmp_path / "report")
    assert ran.code == 1
    assert "Emulated evidence (float16 saturate)" in ran.out
    found = accept(run, run)
    assert found.level(Level.SPEED).state is State.NOT_RUN
    assert found.emulated
    log = evaluation(tmp_path / "npu.log", 0.9)
    beside = accept(run / "source", [run / "target", log], source_step_ms=50, target_step_ms=40)
    assert beside.level(Level.SPEED).state is State.NOT_RUN, "a time beside it makes it no device"


def test_a_slower_target_is_held_to_the_limit_that_was_set(tmp_path):
    run = migration(tmp_path / "run", seconds=0.2)
    assert accept(run, run).level(Level.SPEED).state is State.CONDITIONAL
    assert accept(run, run, speed=2.0).level(Level.SPEED).state is State.FAIL
    assert accept(run, run, speed=5.0).level(Level.SPEED).state is State.PASS


@pytest.mark.parametrize(("margin", "state"), [(0.02, State.PASS), (0.002, State.FAIL)])
def test_the_margin_of_the_task_is_the_users(tmp_path, margin, state):
    logs = [evaluation(tmp_path / f"{side}.log", value) for side, value in (("gpu", 0.9), ("npu", 0.89))]
    assert accept(*logs, margin=margin).level(Level.TASK).state is state


def test_curves_have_a_band_and_a_z_of_the_replicas(tmp_path):
    run = migration(tmp_path / "run")
    loss = accept(run, run).curves[0]
    assert loss.name == "loss"
    assert loss.low is not None
    assert loss.high is not None
    assert (loss.low.values <= loss.high.values).all()
    assert loss.z is not None
    assert len(loss.z.steps) == 6, "blocks of 10 of 60 steps"


def test_two_captures_of_one_side_are_one_too_many(tmp_path):
    run = migration(tmp_path / "run")
    with pytest.raises(UsageError, match=r"--source .* and .*: only logs may stand beside"):
        accept([run, run / "source"], run)


@pytest.mark.parametrize(("seconds", "state"), [(0.051, State.PASS), (0.06, State.FAIL)])
def test_a_rule_on_the_step_time(tmp_path, seconds, state):
    run = migration(tmp_path / "run", seconds=seconds)
    found = accept(run, run, criteria="mindspeed")
    assert found.rule is not None
    (timed,) = (one for one in found.rule.findings if one.what == "step_time")
    assert (timed.state, timed.limit) == (state, 1.05)
    assert timed.value == pytest.approx(seconds / 0.05)
    rule = tmp_path / "ours.toml"
    rule.write_text('[[check]]\non = "step_time"\nsource = "ours"\nany = [{ measure = "ratio", limit = 1.5 }]\n')
    ours = accept(run, run, criteria=str(rule))
    assert ours.rule is not None
    assert ours.rule.state is State.PASS
    assert ours.level(Level.SPEED).state is State.PASS, "the limit is the user's to set"


def rewritten(run: Path, from_: str, to: str) -> None:
    shutil.rmtree(run / to)
    shutil.copytree(run / from_, run / to)


@pytest.mark.parametrize("what", ["{}", "runs/{}"])
def test_what_is_copied_from_the_source_is_no_evidence_of_the_target(tmp_path, what):
    run = migration(tmp_path / "run")
    rewritten(run, what.format("source"), what.format("target"))
    logs = [evaluation(tmp_path / f"{side}.log", 0.9) for side in ("gpu", "npu")]
    found = accept([run, logs[0]], [run, logs[1]])
    assert found.state is State.CONDITIONAL
    assert COPIED in found.overall.reason


def test_a_capture_and_runs_of_two_backends_are_no_side(tmp_path):
    run = migration(tmp_path / "run")
    for one, other in (("source", "kept"), ("target", "source"), ("kept", "target")):
        (run / "runs" / one).rename(run / "runs" / other)
    found = accept(run, run)
    assert found.state is not State.PASS
    reason = "the target's capture was made on mindspore:ascend, and its training runs on torch:cuda"
    assert reason in found.overall.reason
    assert "目标的采集在 mindspore:ascend 上完成" in Words("zh").reason(reason)


def test_a_capture_and_runs_of_other_weights_are_no_side(tmp_path):
    run = migration(tmp_path / "run")
    for side, backend in (("source", "torch:cuda"), ("target", "mindspore:ascend")):
        shutil.rmtree(run / side)
        capture(run / side, backend=backend, stepped=True, hashed="xxh3_128:other")
    told = accept(run, run).overall.reason
    for side in ("source", "target"):
        assert f"the {side}'s capture and its training runs have other weights" in told


def test_planted_runs_are_inputs(tmp_path):
    run = migration(tmp_path / "run")
    shutil.copytree(run / "runs/source/run", run / "runs/planted/no_decay-0")
    found = accept(run, run)
    assert any("/planted/no_decay-0/" in one.path for one in found.source.inputs)
