"""Other ways to judge: forced taps, emulation, half precision, presets, mappings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_support import (
    BUILD,
    Tensors,
    level,
    near,
    save,
    scaled,
    target,
    tensors,
)

from porting.parity.compare import compare
from porting.parity.compare_text import comparison_lines
from porting.parity.floor import Floor
from porting.parity.mapping import Correspondence, Matched, Pairing
from porting.parity.reader import Capture
from porting.parity.state import Level, State


def forced(known: Tensors, source: Capture) -> dict[str, Any]:
    """Add forced taps, as computed from the source's inputs."""
    for name in source.section("forward"):
        known["forced", name] = known["forward", name].copy()
    return {"forced_by": source.manifest.content}


def test_forced_taps_are_held_against_the_sources_own(source: Capture, floor: Floor, tmp_path: Path) -> None:
    known = near(tensors(), 9)
    changes = forced(known, source)
    for name in ("layer.0.output", "layer.1.output", "logits"):
        known["forward", name] = known["forward", name] * np.float32(1.01)
    known["forced", "layer.0.output"] = known["forced", "layer.0.output"] * np.float32(1.01)
    found = compare(source, save(tmp_path / "t", known, **changes), floor=floor)
    wrong = [(one.what, one.mode) for one in found.levels[2].findings if one.state is State.FAIL]
    assert wrong == [
        ("layer.0.output", "free"), ("layer.0.output", "forced"), ("layer.1.output", "free"), ("logits", "free"),
    ]  # fmt: skip


def test_taps_forced_by_another_capture_say_nothing(source: Capture, floor: Floor, tmp_path: Path) -> None:
    known = near(tensors(), 9)
    forced(known, source)
    found = compare(source, save(tmp_path / "t", known, forced_by="other"), floor=floor)
    assert found.first is not None
    assert (found.first.what, found.first.state) == ("forced taps", State.UNMATCHED)


def test_emulation_is_no_pass_on_the_device_and_a_failure_stays_one(
    source: Capture, tmp_path: Path, floor: Floor
) -> None:
    found = compare(source, target(tmp_path, emulated="float16 saturate"), floor=floor)
    assert found.overall.emulated
    assert not found.passed
    lines = comparison_lines(found)
    assert any("EMULATED (float16 saturate)" in line for line in lines[:4])
    assert "EMULATED" in lines[0]


def lower(known: Tensors, seed: int, scale: float) -> Tensors:
    """As near as half precision comes."""
    return near(known, seed, scale)


def precise(tmp_path: Path, scale: float) -> tuple[Capture, Capture, Capture]:
    """A run in float64, the source in float16, and a target that errs `scale` times as much."""
    build = {name: BUILD | {"compute": name} for name in ("float64", "float16")}
    exact = {key: value.astype(np.float64) for key, value in tensors().items()}
    truth = save(tmp_path / "truth", exact, build=build["float64"])
    reference = save(tmp_path / "reference", near(tensors(), 4, 1e-3), build=build["float16"])
    ours = save(tmp_path / "target", near(tensors(), 5, 1e-3 * scale), build=build["float16"])
    return truth, reference, ours


@pytest.mark.parametrize(("scale", "state"), [(1.0, State.PASS), (2.0, State.FAIL), (10.0, State.FAIL)])
def test_half_precision_is_judged_by_its_error(source: Capture, tmp_path: Path, scale: float, state: State) -> None:
    truth, reference, ours = precise(tmp_path, scale)
    found = compare(source, ours, truth=truth, reference=reference)
    assert level(found, Level.FORWARD) is state
    assert level(found, Level.SETTINGS) is State.PASS
    medians = [one for one in found.levels[2].findings if one.what.startswith("median")]
    assert [one.state for one in medians] == [state]


def test_half_precision_without_float64_is_conditional(source: Capture, floor: Floor, tmp_path: Path) -> None:
    *_, ours = precise(tmp_path, 1.0)
    found = compare(source, ours, floor=floor)
    assert level(found, Level.FORWARD) is State.CONDITIONAL
    assert "no run in float64" in found.levels[2].findings[0].reason


def test_half_precision_against_a_truth_of_other_weights_is_not_three_way(source: Capture, tmp_path: Path) -> None:
    truth, reference, ours = precise(tmp_path, 1.0)
    strange = replace(truth, manifest=replace(truth.manifest, weights="other"))
    assert level(compare(source, ours, truth=strange, reference=reference), Level.FORWARD) is State.CONDITIONAL


def test_a_mapping_pairs_names_and_axes(source: Capture, floor: Floor, tmp_path: Path) -> None:
    known = near(tensors(), 9)
    renamed: Tensors = {}
    for (section, name), value in known.items():
        turned = value.T if value.ndim == 2 else value
        renamed[section, name.replace("layer.", "block_")] = np.array(turned, order="C")
    other = save(tmp_path / "t", renamed, model="theirs")
    assert compare(source, other, floor=floor).overall.state is State.FAIL
    taps, weights = (
        Matched(tuple(Pairing(name, name.replace("layer.", "block_"), (1, 0) if axes else ()) for name, axes in rows))
        for rows in (
            [(name, False) for name in source.section("forward")],
            [(name, name.endswith("weight")) for name in source.section("weights")],
        )
    )
    found = compare(source, other, floor=floor, mapping=Correspondence("a", "b", taps, weights))
    assert found.overall.state is State.PASS
    assert found.overall.coverage == 1


@pytest.mark.parametrize(
    ("criteria", "states"),
    [
        ("mindformers", [State.CONDITIONAL] * 3),
        ("verl", [State.CONDITIONAL]),
        ("mindspeed", [State.CONDITIONAL] * 2 + [State.NOT_RUN] * 2),
        ("modelzoo", [State.NOT_RUN]),
    ],
)
def test_presets_stand_beside_the_calibrated_verdict(
    source: Capture, floor: Floor, tmp_path: Path, criteria: str, states: list[State]
) -> None:
    found = compare(source, target(tmp_path), floor=floor, criteria=criteria)
    assert found.overall.state is State.PASS
    assert found.rule is not None
    assert [one.state for one in found.rule.findings] == states
    assert all(one.source for one in found.rule.findings)
    assert not found.passed


def test_a_mistake_that_a_preset_accepts_is_still_no_pass(source: Capture, floor: Floor, tmp_path: Path) -> None:
    """Cosine 1.0 and a largest error of 3e-4, as a wrong LayerNorm epsilon makes (PARITY.md)."""
    path = tmp_path / "ours.toml"
    path.write_text('[[check]]\non = "taps"\nsource = "ours"\nany = [{ measure = "cosine", limit = 0.99 }]\n')
    found = compare(source, target(tmp_path, scaled(("forward", "logits"), 1.0001)), floor=floor, criteria=str(path))
    assert found.rule is not None
    assert (found.rule.state, found.overall.state, found.passed) == (State.PASS, State.FAIL, False)
