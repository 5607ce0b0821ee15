"""From paths to evidence to a verdict: captures, folders, logs, and what is none of them."""

from __future__ import annotations

import gzip

import pytest
from accept_support import capture, descent, estimator

from porting.acceptance.accept import SAME, accept
from porting.acceptance.chain import LOGS
from porting.acceptance.evidence import BY_HAND, evidence_of
from porting.errors import FormatError, PortError, UsageError
from porting.parity.state import Level, State

LEVELS = (Level.WEIGHTS, Level.SETTINGS, Level.FORWARD, Level.BACKWARD)


def test_captures_are_judged_at_their_levels(tmp_path):
    found = accept(capture(tmp_path / "a"), capture(tmp_path / "b", scale=1 + 1e-7, backend="mindspore:ascend"))
    assert (found.source.kind, found.target.kind) == ("capture", "capture")
    for level in LEVELS:
        assert found.level(level).compared, level
    assert found.missing == (Level.STEP, Level.TRAJECTORY, Level.SPEED, Level.TASK)
    assert found.state in (State.CONDITIONAL, State.NOT_RUN), "without a floor nothing passes"
    assert "backend" in {one.what for one in found.differences}
    assert found.target.environment["device"] == "ascend"


@pytest.mark.parametrize(
    ("changes", "level", "advice"),
    [
        ({"weights": 2.0}, Level.WEIGHTS, "weights"),
        ({"scale": 1.5}, Level.FORWARD, "forward"),
        ({"taps": ("layer.0.out", "logits")}, Level.FORWARD, "forward"),
    ],
)
def test_a_difference_fails_its_level_and_is_what_to_look_at_next(tmp_path, changes, level, advice):
    found = accept(capture(tmp_path / "a"), capture(tmp_path / "b", **changes))
    assert found.state in (State.FAIL, State.UNMATCHED)
    assert found.level(level).state in (State.FAIL, State.UNMATCHED)
    assert advice in [one.key for one in found.advice]


def test_a_folder_of_parity_gives_each_side_its_own(tmp_path):
    for side, changes in (("source", {}), ("target", {"scale": 1 + 1e-7, "backend": "tensorflow:cpu"})):
        capture(tmp_path / "run" / side, **changes)
    found = accept(tmp_path / "run", tmp_path / "run")
    assert (found.source.kind, found.target.kind) == ("parity", "parity")
    assert found.source.name == "toy on torch:cpu"
    assert found.target.name == "toy on tensorflow:cpu"
    assert SAME not in found.overall.reason


def test_an_emulated_side_is_never_a_pass(tmp_path):
    target = capture(tmp_path / "b", emulated="float16 saturate", backend="torch:npu")
    found = accept(capture(tmp_path / "a"), target)
    assert found.emulated
    assert not found.passed
    assert "emulated" in [one.key for one in found.advice]


def test_a_comparison_of_a_thing_with_itself_is_no_pass(tmp_path):
    path = capture(tmp_path / "a")
    found = accept(path, path)
    assert SAME in found.overall.reason
    assert found.state is not State.PASS
    assert "same" in [one.key for one in found.advice]


def test_a_copy_under_another_name_is_the_same_thing(tmp_path):
    log = estimator(tmp_path / "gpu.log", descent(50))
    (tmp_path / "npu.log").write_bytes(log.read_bytes())
    assert SAME in accept(log, tmp_path / "npu.log").overall.reason


def test_logs_are_at_most_conditional_and_say_why(tmp_path):
    a = estimator(tmp_path / "a.log", descent(noise=1e-4))
    b = estimator(tmp_path / "b.log", descent(noise=1e-4, seed=1))
    for criteria in ("calibrated", "mindformers", "verl"):
        found = accept(a, b, criteria=criteria)
        assert found.state is State.CONDITIONAL, found.decisive
        assert LOGS in found.overall.reason
        assert found.missing == tuple(level for level in Level if level is not Level.TRAJECTORY)


def test_calibrated_and_preset_disagree_on_the_first_loss(tmp_path):
    """2 % of the mean loss is enough for verl; the step-0 gap is a broken precondition all the same."""
    a = estimator(tmp_path / "a.log", descent())
    b = estimator(tmp_path / "b.log", {**descent(), 0: 11.0})
    found = accept(a, b, criteria="verl")
    assert found.rule is not None
    assert found.rule.state is State.CONDITIONAL
    assert found.overall.state is State.FAIL
    assert found.state is State.FAIL
    assert found.disagree


def test_calibrated_and_preset_disagree_the_other_way(tmp_path):
    a = estimator(tmp_path / "a.log", descent())
    b = estimator(tmp_path / "b.log", {step: loss * (1 if step == 0 else 1.015) for step, loss in descent().items()})
    lenient, strict = accept(a, b, criteria="verl"), accept(a, b, criteria="mindspeed")
    assert lenient.rule is not None
    assert strict.rule is not None
    assert lenient.rule.state is State.CONDITIONAL
    assert strict.rule.state is State.CONDITIONAL
    assert [one.what for one in strict.rule.findings if one.state is State.NOT_RUN] == [
        "grad_norm",
        "step_time",
        "memory",
    ]
    assert lenient.overall.state is State.CONDITIONAL
    assert accept(a, b).overall.state is State.FAIL, "by the rule that stands for calibration where none can be"
    assert not accept(a, b, criteria="mindformers").disagree


def test_a_rule_of_ones_own(tmp_path):
    rule = tmp_path / "ours.toml"
    rule.write_text('[[check]]\non = "loss"\nsource = "our own"\nany = [{ measure = "mean rel", limit = 1e-9 }]\n')
    a = estimator(tmp_path / "a.log", descent(noise=1e-3))
    b = estimator(tmp_path / "b.log", descent(noise=1e-3, seed=1))
    found = accept(a, b, criteria=str(rule))
    assert found.rule is not None
    assert found.rule.state is State.FAIL
    assert found.rule.decisive.source == "our own"


def test_a_log_against_a_capture(tmp_path):
    losses = descent(40)
    log = estimator(tmp_path / "a.log", losses)
    found = accept(log, capture(tmp_path / "b", losses=list(losses.values())))
    assert found.level(Level.TRAJECTORY).compared
    assert found.level(Level.FORWARD).state is State.NOT_RUN
    assert found.state is not State.PASS


@pytest.mark.parametrize(("steps", "trained"), [(1, False), (3, False), (40, True)])
def test_the_steps_of_a_capture_are_a_training_run_only_if_they_are_many(tmp_path, steps, trained):
    losses = list(descent(40).values())[:steps]
    found = accept(capture(tmp_path / "a", losses=losses), capture(tmp_path / "b", losses=losses, backend="torch:cuda"))
    assert (Level.TRAJECTORY in found.missing) == (not trained)


def test_a_folder_of_logs_is_one_run_and_says_what_it_left_out(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    estimator(folder / "1.log", descent(50))
    estimator(folder / "2.log", descent(50, gap=1.0))
    (folder / "notes.txt").write_text("nothing of training")
    (folder / ".hidden").write_text("x")
    found = evidence_of(folder, "source")
    assert found.party.kind == "logs"
    assert found.run.series["loss"].values[0] == pytest.approx(10.0)
    told = " ".join(found.party.notes)
    assert "notes.txt is left out" in told
    assert "not from" in told
    assert len(found.party.inputs) == 2


def test_step_times_by_hand(tmp_path):
    a, b = estimator(tmp_path / "a.log", descent(50)), estimator(tmp_path / "b.log", descent(50))
    found = accept(a, b, source_step_ms=100.0, target_step_ms=250.0)
    assert found.speed.ratio == pytest.approx(2.5)
    assert found.speed.interval is None
    assert BY_HAND in found.source.limits
    assert "slower" in [one.key for one in found.advice]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_step_times_that_are_none(tmp_path, value):
    log = estimator(tmp_path / "a.log", descent(50))
    with pytest.raises(UsageError, match=r"--target-step-ms .*: wanted a number above 0"):
        accept(log, log, target_step_ms=value)


def test_what_is_no_evidence(tmp_path):
    log = estimator(tmp_path / "a.log", descent(50))
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.log").write_text("hello\n")
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 100)
    with pytest.raises(UsageError, match=r"--target .*none: there is no such file or folder"):
        accept(log, tmp_path / "none")
    with pytest.raises(FormatError, match="wanted a capture, a folder of `port parity`, logs or predictions"):
        accept(log, tmp_path / "empty")
    for name in ("text.log", "binary"):
        with pytest.raises(FormatError):
            accept(log, tmp_path / name)
    with pytest.raises(UsageError, match="criteria wishes: not known"):
        accept(log, log, criteria="wishes")


def test_a_damaged_capture_is_refused(tmp_path):
    folder = capture(tmp_path / "a")
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(PortError):
        accept(folder, folder)


def test_provenance_is_of_the_bytes_on_the_disk(tmp_path):
    log = estimator(tmp_path / "a.log", descent(50))
    packed = tmp_path / "a.log.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    found = accept(log, packed)
    assert found.source.inputs[0].size == log.stat().st_size
    assert found.target.inputs[0].size == packed.stat().st_size
    assert found.source.inputs[0].hash != found.target.inputs[0].hash
