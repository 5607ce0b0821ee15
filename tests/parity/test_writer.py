"""Captures as they are written: whole or not at all, in open formats, in bounded memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from compare_support import manifest, save, tensors
from safetensors.numpy import load_file

from porting.errors import FormatError, UsageError
from porting.parity import layout, writer
from porting.parity.reader import read_capture
from porting.parity.sketch import decode, sketch_of
from porting.parity.writer import CaptureWriter

DTYPES = [np.dtype(name) for name in "bool int8 uint8 int16 int32 int64 float16 float32 float64".split()]
DTYPES.append(np.dtype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("kind", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)], ids=str)
def test_what_is_written_is_read_in_its_own_dtype(tmp_path: Path, kind: np.dtype, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.random.default_rng(0).integers(0, 2, shape)).astype(kind)
    capture = save(tmp_path / "c", {("forward", "x"): array})
    found = capture.tensor("forward", "x")
    assert found is not None
    assert (found.dtype, found.shape, found.tobytes()) == (kind, shape, array.tobytes())


def test_the_files_are_safetensors_that_the_official_library_reads(tmp_path: Path) -> None:
    known = tensors()
    save(tmp_path / "c", known)
    found = load_file(tmp_path / "c" / "tensors-00000.safetensors")
    assert found.keys() == {f"{section}/{name}" for section, name in known}
    assert all(np.array_equal(found[f"{section}/{name}"], tensor) for (section, name), tensor in known.items())


def test_sections_names_and_steps_keep_their_order(tmp_path: Path) -> None:
    known = {("forward", name): np.ones(2, np.float32) for name in ("z", "a", "m/n", "ü b")}
    capture = save(tmp_path / "c", known, steps=({"step": 1, "loss": float("nan")}, {"step": 0, "loss": float("-inf")}))
    assert list(capture.summaries) == list(known)
    assert [str(step["loss"]) for step in capture.steps] == ["nan", "-inf"]


def test_a_summary_says_what_the_tensor_is(tmp_path: Path) -> None:
    values = np.array([[3.0, -4.0, np.nan], [np.inf, 0.0, -np.inf]], np.float32)
    for whole in (True, False):
        found = save(tmp_path / str(whole), {("forward", "x"): values}, whole=whole).summaries["forward", "x"]
        assert (found.l2, found.largest, found.mean, found.nan, found.inf) == (5.0, 4.0, pytest.approx(-1 / 3), 1, 2)
        assert (found.shape, found.dtype, found.stored) == ((2, 3), "float32", whole)
    finite = np.nan_to_num(values, nan=0, posinf=0, neginf=0)
    assert np.array_equal(decode(found.sketch), sketch_of(finite))


def test_summaries_are_the_same_whether_the_tensors_are_stored(tmp_path: Path) -> None:
    known = tensors()
    whole, brief = save(tmp_path / "w", known), save(tmp_path / "b", known, whole=False)
    assert whole.manifest.content == brief.manifest.content
    assert all(whole.summaries[key].hash == brief.summaries[key].hash for key in known)
    assert all(brief.tensor(*key) is None for key in known)
    assert not list((tmp_path / "b").glob("*.safetensors"))


def test_layout_in_memory_does_not_change_what_is_written(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    variants = {"plain": array, "fortran": np.asfortranarray(array), "view": np.stack([array, array], -1)[..., 0]}
    variants["swapped"] = array.astype(">f4")
    capture = save(tmp_path / "c", {("forward", name): value for name, value in variants.items()})
    assert len({summary.hash for summary in capture.summaries.values()}) == 1


def test_files_are_closed_when_they_are_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "FILE", 1000)
    known = {("forward", f"x{i}"): np.full(60, i, np.float32) for i in range(11)}
    known["forward", "big"] = np.ones(5000, np.float32)
    capture = save(tmp_path / "c", known)
    sizes = [path.stat().st_size - layout.ROOM for path in sorted((tmp_path / "c").glob("*.safetensors"))]
    assert sizes == [960, 960, 720, 20000]
    assert all(np.array_equal(capture.tensor(*key), value) for key, value in known.items())


def test_a_header_that_is_full_closes_a_file_too(tmp_path: Path) -> None:
    known = {("forward", f"{'x' * 2000}{i}"): np.ones(1, np.float32) for i in range(70)}
    capture = save(tmp_path / "c", known)
    assert len(list((tmp_path / "c").glob("*.safetensors"))) == 3
    assert list(capture.summaries) == list(known)


@pytest.mark.parametrize(
    ("section", "name", "array", "reason"),
    [
        ("backward", "x", np.ones(1), "no section backward"),
        ("forward", "x" * 70_000, np.ones(1), "too long"),
        ("forward", "x", np.ones(1, complex), "complex128"),
        ("forward", "x", np.array(["a"]), "string"),
        ("forward", "x", np.array([object()]), "string"),
        ("forward", "x", np.ones(2, ml_dtypes.int4), "int4"),
        ("forward", "\ud800", np.ones(1), "Unicode"),
    ],
)
def test_what_a_capture_cannot_hold_is_refused(
    tmp_path: Path, section: str, name: str, array: np.ndarray, reason: str
) -> None:
    with CaptureWriter(tmp_path / "c", manifest(), whole=True) as capture:
        with pytest.raises(UsageError, match=reason):
            capture.add(section, name, array)
        capture.add("forward", "good", np.ones(1))
        with pytest.raises(UsageError, match="written before"):
            capture.add("forward", "good", np.ones(1))
    assert not list(tmp_path.iterdir())


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    def crash() -> None:
        with CaptureWriter(tmp_path / "c", manifest(), whole=True) as capture:
            capture.add("forward", "x", np.ones(1))
            raise KeyError

    with pytest.raises(KeyError):
        crash()
    assert not list(tmp_path.iterdir())


def test_without_finish_there_is_no_capture(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "c", manifest(), whole=True) as capture:
        capture.add("forward", "x", np.ones(1))
    assert not list(tmp_path.iterdir())


def test_an_old_capture_is_replaced_only_on_demand(tmp_path: Path) -> None:
    save(tmp_path / "c", {("forward", "old"): np.ones(1)})
    with pytest.raises(UsageError, match="--overwrite"):
        CaptureWriter(tmp_path / "c", manifest(), whole=True)
    with CaptureWriter(tmp_path / "c", manifest(), whole=True, overwrite=True) as capture:
        capture.add("forward", "new", np.ones(1))
        assert list(read_capture(tmp_path / "c").summaries) == [("forward", "old")]
        capture.finish(model="other")
    found = read_capture(tmp_path / "c")
    assert (list(found.summaries), found.manifest.model) == ([("forward", "new")], "other")
    assert list(tmp_path.iterdir()) == [tmp_path / "c"]


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="other things"):
            CaptureWriter(tmp_path, manifest(), whole=True, overwrite=overwrite)
    with pytest.raises(UsageError, match="wanted a folder"):
        CaptureWriter(tmp_path / "thesis.tex", manifest(), whole=True, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    save(tmp_path / "c", {})
    assert read_capture(tmp_path / "c").summaries == {}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match="cannot be written"):
        CaptureWriter(tmp_path / "file" / "c", manifest(), whole=True)


KILLED = """
import sys, time, numpy
from pathlib import Path
sys.path.insert(0, {tests!r})
from compare_support import manifest
from porting.parity.writer import CaptureWriter
with CaptureWriter(Path({folder!r}), manifest(), whole=True) as capture:
    for i in range(10**6):
        capture.add("forward", f"x{{i}}", numpy.ones(1000, numpy.float32))
        if i == 50:
            print("going", flush=True)
"""


def test_kill_9_leaves_nothing_that_reads_and_the_next_run_cleans_up(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(folder))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"going\n"
        process.send_signal(signal.SIGKILL)
    left = list(tmp_path.iterdir())
    assert len(left) == 1
    for path in (folder, *left):
        with pytest.raises(FormatError):
            read_capture(path)
    save(folder, {("forward", "x"): np.ones(1)})
    assert list(tmp_path.iterdir()) == [folder]


def test_the_part_of_a_run_that_lives_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / f".c.{os.getppid()}.part"
    other.mkdir()
    save(tmp_path / "c", {("forward", "x"): np.ones(1)})
    assert other.exists()
