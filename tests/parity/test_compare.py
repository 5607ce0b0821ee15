"""Whole comparisons: an honest port passes, nothing unmatched does, and the first difference comes first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compare_support import (
    STEPS,
    Tensors,
    level,
    near,
    put,
    save,
    scaled,
    target,
    tensors,
)

from porting.errors import FormatError
from porting.parity.capture import Manifest
from porting.parity.compare import compare
from porting.parity.compare_text import comparison_lines
from porting.parity.floor import Floor
from porting.parity.layout import ROOM
from porting.parity.reader import Capture, read_capture
from porting.parity.state import Level, State


def forward_only(known: Tensors) -> None:
    for key in [key for key in known if key[0] != "forward"]:
        del known[key]


def test_an_honest_port_passes_with_everything_covered(source: Capture, floor: Floor, tmp_path: Path) -> None:
    found = compare(source, target(tmp_path), floor=floor)
    assert found.passed
    assert [verdict.state for verdict in found.levels] == [State.PASS] * 5
    assert (found.overall.coverage, found.first) == (1.0, None)
    assert [one.what for one in found.information] == ["backend", "framework"]


def test_fifty_honest_ports_pass(source: Capture, floor: Floor, tmp_path: Path) -> None:
    states = []
    for seed in range(50):
        capture = save(tmp_path / str(seed), near(tensors(), 100 + seed))
        states.append(compare(source, capture, floor=floor, measures="core").overall.state)
    assert states == [State.PASS] * 50


def test_a_nan_in_the_source_only_is_no_pass(source: Capture, floor: Floor, tmp_path: Path) -> None:
    bad = target(tmp_path, put(("forward", "logits"), np.nan))
    found = compare(bad, source, floor=floor)
    assert found.overall.state is State.FAIL
    assert any("0 NaN (target), 1 NaN (source)" in one.reason for one in found.overall.findings)


def test_two_empty_captures_are_not_equal(tmp_path: Path) -> None:
    sides = [save(tmp_path / name, {}, steps=()) for name in "ab"]
    found = compare(*sides)
    assert found.overall.state is State.UNMATCHED
    assert not found.passed


def test_only_settings_are_no_comparison(tmp_path: Path) -> None:
    sides = [save(tmp_path / name, {("weights", "x"): np.ones(3, np.float32)}, steps=()) for name in "ab"]
    found = compare(*sides)
    assert (found.overall.state, found.overall.reason) == (
        State.CONDITIONAL,
        "no taps of a forward pass were compared",
    )


def test_the_first_difference_is_the_first_of_the_computation(source: Capture, floor: Floor, tmp_path: Path) -> None:
    def change(known: Tensors) -> None:
        for name in ("layer.0.output", "layer.1.output", "logits"):
            scaled(("forward", name), 1.01)(known)

    found = compare(source, target(tmp_path, change), floor=floor)
    assert found.first is not None
    assert (found.first.level, found.first.what, found.first.mode) == (Level.FORWARD, "layer.0.output", "free")


def test_without_a_floor_the_first_difference_is_no_conditional_one(source: Capture, tmp_path: Path) -> None:
    found = compare(source, target(tmp_path, scaled(("forward", "logits"), 1.01)))
    assert found.first is not None
    assert (found.first.what, found.first.state) == ("logits", State.FAIL)
    honest = compare(source, save(tmp_path / "honest", near(tensors(), 3)))
    assert honest.overall.state is State.CONDITIONAL
    assert honest.first is not None
    assert honest.first.reason == "no floor was measured"


def test_a_floor_of_something_else_is_no_floor(source: Capture, floor: Floor, tmp_path: Path) -> None:
    found = compare(source, target(tmp_path), floor=replace(floor, batch="other"))
    assert found.overall.state is State.CONDITIONAL
    assert "batch: the floor was measured for" in found.overall.findings[20].reason


def test_the_same_captures_can_be_judged_again(source: Capture, floor: Floor, tmp_path: Path) -> None:
    other = target(tmp_path)
    first, second, third = (
        compare(source, other, floor=floor),
        compare(source, other),
        compare(source, other, floor=floor),
    )
    assert (first.overall.state, second.overall.state) == (State.PASS, State.CONDITIONAL)
    assert first.to_json() == third.to_json()


def test_summaries_alone_find_the_mistake_and_pass_nothing(source: Capture, floor: Floor, tmp_path: Path) -> None:
    honest = compare(source, target(tmp_path / "a", whole=False), floor=floor)
    assert honest.overall.state is State.NOT_RUN
    assert level(honest, Level.FORWARD) is State.CONDITIONAL
    assert "wants whole tensors" in next(
        one.reason for one in honest.overall.findings if one.what.startswith("step.weights")
    )
    wrong = compare(
        source, target(tmp_path / "b", scaled(("forward", "layer.0.output"), 1.01), whole=False), floor=floor
    )
    assert wrong.first is not None
    assert (wrong.first.what, wrong.first.state) == ("layer.0.output", State.FAIL)


def test_a_tensor_altered_on_the_disk_is_an_error_not_a_verdict(source: Capture, tmp_path: Path) -> None:
    folder = target(tmp_path).folder
    path = folder / "tensors-00000.safetensors"
    data = bytearray(path.read_bytes())
    data[ROOM + 5000] ^= 64
    path.write_bytes(data)
    with pytest.raises(FormatError, match="not those that were written"):
        compare(source, read_capture(folder))


def test_weights_that_were_not_captured_are_judged_by_their_hash(source: Capture, tmp_path: Path) -> None:
    for weights, state in (("w", State.PASS), ("other", State.FAIL), ("", State.NOT_RUN)):
        other = target(tmp_path / state, forward_only, weights=weights)
        assert level(compare(source, other), Level.WEIGHTS) in (state, State.UNMATCHED, State.FAIL)
        small = save(tmp_path / f"{state}-small", {k: v for k, v in tensors().items() if k[0] == "forward"})
        found = compare(small, other)
        assert level(found, Level.WEIGHTS) is state


def test_a_level_that_nobody_captured_does_not_count_and_is_named(tmp_path: Path) -> None:
    taps = {key: value for key, value in tensors().items() if key[0] == "forward"}
    found = compare(save(tmp_path / "a", taps, steps=()), save(tmp_path / "b", taps, steps=()))
    assert found.overall.state is State.PASS
    assert level(found, Level.BACKWARD) is State.NOT_RUN
    assert any(line.split()[:3] == ["L3", "backward", "NOT_RUN"] for line in comparison_lines(found))


def test_hostile_names_stay_on_their_line(tmp_path: Path) -> None:
    name = "layer\n.0\x1b[2J" + "x" * 5000
    sides = [save(tmp_path / side, {("forward", name): np.float32([1 + i])}) for i, side in enumerate("ab")]
    lines = comparison_lines(compare(*sides))
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) < 3000


def test_the_floor_of_a_replica_is_named_in_the_text(source: Capture, floor: Floor, tmp_path: Path) -> None:
    lines = comparison_lines(compare(source, target(tmp_path), floor=floor))
    assert lines[0] == "PASS  bert: torch:cpu -> mindspore:cpu"
    assert any("layer.{0-1}.output" in line and "(replicas)" in line for line in lines)


def test_what_was_recorded_and_is_not_judged_is_named(source: Capture, tmp_path: Path) -> None:
    more = tuple({**STEPS[0], "step": i} for i in range(3))
    known = tensors()
    known["forced", "logits"] = known["forward", "logits"]
    ours = save(tmp_path / "a", known, steps=more, notes=("ran on battery",))
    found = compare(ours, save(tmp_path / "b", tensors(), steps=more))
    assert found.notes == (
        "source: ran on battery",
        "not judged: loss and norm of steps 1 to 2, which are a trajectory (L5)",
        "not compared: the source's forced taps, which were made from another capture's inputs",
    )
    assert {f"  {note}" for note in found.notes} <= set(comparison_lines(found))


def test_a_manifest_may_lack_everything_that_is_optional(tmp_path: Path) -> None:
    bare = save(tmp_path / "a", {("forward", "x"): np.float32([1])}, steps=())
    stripped = replace(bare, manifest=Manifest("m", {}, {}, "b", "f", "d"))
    assert compare(stripped, stripped).overall.state is State.NOT_RUN
