"""Captures that are not what was written are refused, each with its own line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_support import save, tensors

from porting.errors import FormatError
from porting.parity.layout import MANIFEST, ROOM, SELF, STEPS, SUMMARIES, self_hash
from porting.parity.reader import read_capture

TENSORS = "tensors-00000.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "c", tensors()).folder


def edit(path: Path, change: Callable[[dict[str, Any]], Any], *, sign: bool = True) -> None:
    """Change a manifest, and make its own hash fit again if `sign`."""
    values = json.loads(path.read_text())
    change(values)
    values.pop(SELF)
    path.write_text(json.dumps({**values, SELF: self_hash(values) if sign else "xxh3_128:0"}))


def cut(path: Path, by: int) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - by)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "no folder"),
    "no manifest": (lambda c: (c / MANIFEST).unlink(), "is no capture"),
    "empty manifest": (lambda c: (c / MANIFEST).write_text(""), "manifest.json"),
    "manifest of another kind": (lambda c: (c / MANIFEST).write_text("[1]"), "wanted the manifest of a capture"),
    "manifest edited": (lambda c: edit(c / MANIFEST, lambda v: v.update(batch="other"), sign=False), "was changed"),
    "version": (lambda c: edit(c / MANIFEST, lambda v: v.update(version=2)), "wanted 1, got 2"),
    "field missing": (lambda c: edit(c / MANIFEST, lambda v: v.pop("taps")), "missing or unknown: taps"),
    "field unknown": (lambda c: edit(c / MANIFEST, lambda v: v.update(passed=True)), "missing or unknown: passed"),
    "files missing": (lambda c: edit(c / MANIFEST, lambda v: v["files"].pop(STEPS)), "lacks steps.jsonl"),
    "content": (lambda c: edit(c / MANIFEST, lambda v: v.update(content="x")), "is not the hash of what"),
    "summaries edited": (lambda c: flip(c / SUMMARIES, 30), "summaries.jsonl: was changed"),
    "summaries cut": (lambda c: cut(c / SUMMARIES, 10), "summaries.jsonl: was changed or cut short"),
    "summaries gone": (lambda c: (c / SUMMARIES).unlink(), "summaries.jsonl: cannot be read"),
    "steps edited": (lambda c: (c / STEPS).write_text('{"loss":0}\n'), "steps.jsonl: was changed"),
    "tensors cut": (lambda c: cut(c / TENSORS, 4), "wanted .* bytes by the header"),
    "tensors cut in the header": (lambda c: cut(c / TENSORS, (c / TENSORS).stat().st_size - 100), "cut short"),
    "tensors empty": (lambda c: (c / TENSORS).write_bytes(b""), "is empty"),
    "tensors gone": (lambda c: (c / TENSORS).unlink(), "cannot be read"),
    "tensors not listed": (lambda c: edit(c / MANIFEST, lambda v: v["files"].pop(TENSORS)), "is not in the files"),
    "header edited": (lambda c: flip(c / TENSORS, 20), "header: was changed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_refused_with_its_own_line(folder: Path, fault: str) -> None:
    damage, reason = FAULTS[fault]
    read_capture(folder)
    damage(folder)
    with pytest.raises(FormatError, match=reason) as caught:
        read_capture(folder)
    assert "\n" not in str(caught.value)


def test_a_byte_of_a_tensor_is_noticed_when_it_is_read(folder: Path) -> None:
    flip(folder / TENSORS, ROOM + 17)
    capture = read_capture(folder)
    first, *others = capture.summaries
    with pytest.raises(FormatError, match="not those that were written"):
        capture.tensor(*first)
    assert all(capture.tensor(*key) is not None for key in others)


def test_tensors_of_another_capture_are_refused(folder: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "other", {("forward", "x"): np.ones(3, np.float32)}).folder
    shutil.copy(other / TENSORS, folder / TENSORS)
    with pytest.raises(FormatError, match="header"):
        read_capture(folder)


def test_everything_comes_back(folder: Path) -> None:
    capture, known = read_capture(folder), tensors()
    assert list(capture.summaries) == list(known)
    assert list(capture.section("forward")) == [name for section, name in known if section == "forward"]
    for key, wanted in known.items():
        found = capture.tensor(*key)
        assert found is not None
        assert np.array_equal(found, wanted)
        assert not found.flags.writeable
    assert capture.steps[0]["loss"] == 3.4
    with pytest.raises(KeyError):
        capture.tensor("forward", "nothing")


def test_values_of_a_manifest_that_json_has_no_word_for(tmp_path: Path) -> None:
    config = {"epsilon": float("inf"), "sizes": (1, 2), 3: "a number for a key", 10: "another", "none": None}
    capture = save(tmp_path / "c", {}, config=config)
    assert capture.manifest.config == {
        "epsilon": "inf", "sizes": [1, 2], "3": "a number for a key", "10": "another", "none": None,
    }  # fmt: skip
    assert replace(capture.manifest, config={}).taps == ()
