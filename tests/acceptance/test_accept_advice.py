"""What to look at next comes from the data, the earliest cause first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from porting.acceptance.acceptance import Acceptance, Change, Curve, Pace, Party, Regression, Speed
from porting.acceptance.advice import advice_for
from porting.acceptance.chain import chain, overall
from porting.acceptance.names import DATA, RATE, STEP_0
from porting.acceptance.trajectory import Input, Series
from porting.parity.state import Finding, Level, State, verdict_of
from porting.report.advice_text import advice_text
from porting.report.words import LANGUAGES, Words

STEPS = np.arange(100)
LOSS = 2 + 8 * np.exp(-STEPS / 20)


def judged(level: Level, *failed: str, mode: str = "", reason: str = "", state: State = State.FAIL):
    """A level with one pass and differences of these names."""
    findings = [Finding(level, "good", State.PASS)]
    findings += [Finding(level, what, state, reason, mode) for what in failed]
    return verdict_of(level, findings)


def curve(name: str, source, target) -> Curve:
    return Curve(
        name, *(None if values is None else Series(STEPS[: len(values)], values) for values in (source, target))
    )


def advised(*verdicts, **changes) -> list[str]:
    """Keys of the advice, of an acceptance that is good but for these."""
    known = {level: judged(level) for level in Level} | {one.level: one for one in verdicts}
    levels = chain(known.values())
    party = Party("a", "capture", "a", inputs=(Input("a", 1, "h1"),))
    other = replace(party, path="b", name="b", inputs=(Input("b", 1, "h2"),))
    base = {"curves": (curve("loss", LOSS, LOSS),)}
    found = Acceptance(
        **{"source": party, "target": other, "levels": levels, "overall": overall(levels, logs=False)} | base | changes
    )
    told = advice_for(found)
    for language in LANGUAGES:
        assert all(advice_text(Words(language), one) for one in told)
    return [one.key for one in told]


def test_nothing_to_say_of_what_is_good():
    assert advised() == []


@pytest.mark.parametrize(
    ("verdicts", "first"),
    [
        ([judged(Level.WEIGHTS, "layer.0.weight"), judged(Level.FORWARD, "layer.0")], ["weights", "forward"]),
        ([judged(Level.SETTINGS, "config.epsilon")], ["settings"]),
        ([judged(Level.FORWARD, "layer.3", mode="forced"), judged(Level.BACKWARD, "w")], ["module"]),
        ([judged(Level.FORWARD, "layer.3", mode="free")], ["forward"]),
        ([judged(Level.BACKWARD, "w"), judged(Level.STEP, "w")], ["backward"]),
        ([judged(Level.STEP, "w")], ["step"]),
        ([judged(Level.STEP, "w", state=State.UNMATCHED)], ["step"]),
        ([judged(Level.FORWARD, "run", state=State.CRASHED), judged(Level.STEP, "w")], ["crashed"]),
        ([judged(Level.TRAJECTORY, DATA)], ["batches"]),
        ([judged(Level.TRAJECTORY, RATE)], ["lr"]),
        ([judged(Level.TRAJECTORY, "loss")], ["trajectory"]),
        ([judged(Level.TRAJECTORY, STEP_0, "loss")], ["step0"]),
        ([judged(Level.TASK, "accuracy")], ["task"]),
        ([judged(Level.TRAJECTORY, "loss"), judged(Level.TASK, "accuracy")], ["trajectory", "task_after"]),
    ],
)
def test_the_earliest_cause_first(verdicts, first):
    assert advised(*verdicts) == first


def speed(ratio: float) -> Speed:
    return Speed(Pace(0.05), Pace(0.05 * ratio))


@pytest.mark.parametrize(
    ("ratio", "told"),
    [
        (0.5, []),
        (1.0, []),
        (1.19, []),
        (1.5, ["slower"]),
        (99.0, ["slower"]),
        (100.0, ["ratio_hundreds"]),
        (323.3, ["ratio_hundreds"]),
    ],
)
def test_ratios(ratio, told):
    assert advised(speed=speed(ratio)) == told


def test_counts_speak_for_themselves():
    counts = {"recompilations": (1, 40), "cpu_fallbacks": (None, 3)}
    assert advised(speed=speed(323.3), counts=counts) == ["ratio_hundreds", "recompilations", "fallbacks"]
    assert advised(counts={"recompilations": (0, 2), "cpu_fallbacks": (3, 0)}) == []


@pytest.mark.parametrize(
    ("scale", "told"), [(0.5, ["gradient_scale"]), (2.0, ["gradient_scale"]), (1.1, []), (1 / 1.1, [])]
)
def test_a_scale_of_gradients_that_the_loss_hides(scale, told):
    norm = curve("grad_norm", LOSS, scale * LOSS)
    assert advised(curves=(curve("loss", LOSS, LOSS * 1.0001), norm)) == told
    assert advised(curves=(curve("loss", LOSS, LOSS * 1.2), norm)) == []


def test_what_is_not_finite_and_what_is_zero():
    broken = LOSS.copy()
    broken[7:9] = np.nan, np.inf
    assert advised(curves=(curve("loss", LOSS, broken),)) == ["not_finite"]
    assert advised(curves=(curve("loss", LOSS, 0 * LOSS),)) == ["zero_loss"]
    assert advised(curves=(curve("lr", 0 * LOSS, 0 * LOSS),)) == []


def test_what_the_evidence_lacks():
    party = Party("a", "log", "a", {"precision": "float32"}, (Input("a", 1, "h1"),))
    npu = replace(
        party, name="b", inputs=(Input("b", 1, "h2"),), environment={"precision": "float16", "device": "Ascend 910B"}
    )
    assert advised(source=party, target=npu) == ["precision", "precision_mode", "logs"]
    told = replace(npu, environment={"device": "Ascend 910B", "switches.precision_mode": "must_keep_origin_dtype"})
    assert advised(source=party, target=told) == ["logs"]
    assert advised(source=party, target=party) == ["same", "logs"]
    assert advised(target=replace(party, kind="capture", emulated="float16", inputs=())) == []


def test_an_emulated_side():
    levels = chain([verdict_of(level, [Finding(level, "x", State.PASS)], emulated=True) for level in Level])
    emulated = {"levels": levels, "overall": overall(levels, logs=False)}
    assert advised(**emulated) == ["emulated"]
    assert advised(**emulated, speed=speed(323.3)) == ["emulated"], "its time is that of the emulation"


@pytest.mark.parametrize(
    ("missing", "how"),
    [(Level.BACKWARD, "captures"), (Level.TRAJECTORY, "training"), (Level.SPEED, "speed"), (Level.TASK, "task")],
)
def test_the_way_to_what_is_missing(missing, how):
    levels = chain([judged(level) for level in Level if level is not missing])
    party = Party("a", "capture", "a")
    found = Acceptance(party, party, levels, overall(levels, logs=False))
    (told,) = advice_for(found)
    assert (told.key, told.values) == ("missing", {"levels": missing, "how": how})


def test_a_regression_is_named():
    worse = Regression(
        Input("old", 1, "h"), (Change("L2", "PASS", "FAIL", "worse"), Change("L7", "FAIL", "PASS", "better"))
    )
    assert advised(regression=worse) == ["regression"]
