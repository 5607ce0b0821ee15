"""What nobody looks at, the system copies from file to file: the same bytes, whatever it refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import as_hf, google_bert, save

import porting
from porting.checkpoint import pieces
from porting.checkpoint.output import WRITE, put
from porting.checkpoint.registry import formats
from porting.checkpoint.storage import MappedFile
from porting.checkpoint.unread import Unread
from porting.convert.asked import Asked, laid_out
from porting.convert.fill import Way, handled
from porting.errors import FormatError

BARE = Way("none", verify=False)
WRITABLE = [kind for kind in formats().values() if kind.plan is not None and kind.name != "onnx"]
DIALECTS = {"tensorflow": "google", "mindspore": "modelzoo", "pytorch": "hf", "numpy": "google"}

Copy = Callable[[int, int, int, int, int], int]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small BERT as PyTorch names it."""
    (tmp_path / "in").mkdir()
    return save(tmp_path / "in" / "m.bin", as_hf(google_bert(layers=2)), "torch")


def contents(folder: Path) -> dict[str, bytes]:
    """The files of an output, without the ledger."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith(".port.json")}


def converted(source: Path, folder: Path, to: str, kind: str, **choices: object) -> dict[str, bytes]:
    folder.mkdir()
    extension = formats()[kind].extension
    porting.convert(source, folder / f"o{extension}", to=to, format=kind, **choices)  # type: ignore[arg-type]
    return contents(folder)


@pytest.mark.parametrize("kind", WRITABLE, ids=lambda kind: kind.name)
def test_the_same_bytes_as_where_all_are_hashed(tmp_path: Path, source: Path, kind: porting.checkpoint.format.Format):
    to = DIALECTS[kind.framework]
    hashed = converted(source, tmp_path / "a", to, kind.name)
    assert converted(source, tmp_path / "b", to, kind.name, verify=False, hash="none") == hashed


def refusing(_source: int, _target: int, _count: int, _from: int, _to: int) -> int:
    raise OSError(errno.EXDEV, "another file system")


def nothing(_source: int, _target: int, _count: int, _from: int, _to: int) -> int:
    return 0


def a_little(source: int, target: int, count: int, start: int, to: int) -> int:
    """As the system does where a signal comes in between."""
    return os.pwrite(target, os.pread(source, min(count, 1000), start), to)


def once(source: int, target: int, count: int, start: int, to: int) -> int:
    """Some of the first piece of each tensor, and then no more."""
    if count % 7:
        return refusing(source, target, count, start, to)
    return os.pwrite(target, os.pread(source, count // 7, start), to)


@pytest.mark.parametrize("copy", [refusing, nothing, a_little, once])
def test_the_same_bytes_where_the_system_does_not_copy(
    tmp_path: Path, source: Path, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = converted(source, tmp_path / "a", "modelzoo", "mindspore-ckpt")
    calls: list[int] = []

    def counted(*words: int) -> int:
        calls.append(words[2])
        return copy(*words)

    monkeypatch.setattr(os, "copy_file_range", counted)
    bare = converted(source, tmp_path / "b", "modelzoo", "mindspore-ckpt", verify=False, hash="none")
    assert bare == hashed
    assert len(calls) >= 39


def test_the_same_bytes_without_such_a_call(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = converted(source, tmp_path / "a", "modelzoo", "mindspore-ckpt")
    monkeypatch.delattr(os, "copy_file_range")
    bare = converted(source, tmp_path / "b", "modelzoo", "mindspore-ckpt", verify=False, hash="none")
    assert bare == hashed


@pytest.mark.parametrize(
    ("kind", "to", "algorithm", "all_of_it"),
    [
        ("mindspore-ckpt", "modelzoo", "none", False),
        ("safetensors", "hf", "none", False),
        ("mindspore-ckpt", "modelzoo", "xxh3_128", True),
        ("npz", "google", "none", True),
        ("torch", "modelzoo", "none", True),
    ],
)
def test_what_passes_through_the_process(
    tmp_path: Path, source: Path, kind: str, to: str, algorithm: str, *, all_of_it: bool
) -> None:
    """What is hashed, has a checksum in the file, or is transposed; npz has both of these."""
    job = laid_out(Asked(str(source), str(tmp_path / "o"), to, format=kind))
    assert handled(job, Way(algorithm, verify=False)) == (job.ready.layout.nbytes if all_of_it else 0)


def test_what_is_transposed_passes_and_the_rest_does_not(tmp_path: Path) -> None:
    source = save(tmp_path / "m.ckpt", google_bert(layers=1), "tf-bundle")
    job = laid_out(Asked(str(source), str(tmp_path / "o.safetensors"), "hf"))
    kernels = sum(entry.nbytes for name, entry in porting.read(source).items() if name.endswith("kernel"))
    assert handled(job, BARE) == kernels > 0


@pytest.mark.parametrize("copy", ["system", "process"])
def test_a_source_that_ends_before_is_an_error(tmp_path: Path, copy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(3 * WRITE))
    run = Unread(MappedFile(path), 100, 2 * WRITE)
    os.truncate(path, WRITE)
    if copy == "process":
        monkeypatch.delattr(os, "copy_file_range")
    with (tmp_path / "b").open("wb") as file, pytest.raises(FormatError, match=rf"a: offset {WRITE}: wanted .* ends"):
        put(file.fileno(), 0, run)


def test_a_full_disk_is_told_as_ever() -> None:
    path = Path(__file__)
    run = Unread(MappedFile(path), 0, path.stat().st_size)
    with Path("/dev/full").open("wb") as file, pytest.raises(OSError, match="No space left"):
        put(file.fileno(), 0, run)


@given(st.integers(0, 50), st.integers(0, 50), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=3))
def test_parts_are_those_of_the_bytes(tmp_path_factory: pytest.TempPathFactory, start: int, count: int, parts) -> None:
    path = tmp_path_factory.mktemp("unread") / "a"
    data = np.arange(100, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    run, want = Unread(MappedFile(path), start, count), data[start : start + count]
    for low, high in parts:
        run, want = run[low:high], want[low:high]
        assert len(run) == len(want)
    with path.with_name("b").open("w+b") as file:
        put(file.fileno(), 3, run)
        assert file.read() == (bytes(3) + want if want else b"")


@pytest.mark.parametrize("choices", [{"fork": True}, {"threads": 4}, {"workers": 2}], ids=str)
def test_the_same_bytes_by_every_way(tmp_path: Path, source: Path, choices: dict[str, object]) -> None:
    hashed = converted(source, tmp_path / "a", "modelzoo", "mindspore-ckpt")
    assert (
        converted(source, tmp_path / "b", "modelzoo", "mindspore-ckpt", verify=False, hash="none", **choices) == hashed
    )


@pytest.mark.parametrize("size", [64, 1000, 1 << 20])
def test_tensors_of_many_pieces(tmp_path: Path, source: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = converted(source, tmp_path / "a", "modelzoo", "mindspore-safetensors")
    monkeypatch.setattr(pieces, "UNREAD", size)
    bare = converted(source, tmp_path / "b", "modelzoo", "mindspore-safetensors", verify=False, hash="none")
    assert bare == hashed


def test_from_another_file_system_all_of_it_passes(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = laid_out(Asked(str(source), str(tmp_path / "o"), "modelzoo"))
    assert handled(job, BARE) == 0
    monkeypatch.setattr(Unread, "device", property(lambda _: -1))
    assert handled(job, BARE) == job.ready.layout.nbytes


def test_what_is_written_from_a_checkpoint_is_copied_too(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, copied, copy = porting.read(source), [], Unread.copy

    def counted(run: Unread, fd: int, offset: int) -> int:
        copied.append(len(run))
        return copy(run, fd, offset)

    monkeypatch.setattr(Unread, "copy", counted)
    porting.write(tmp_path / "o.safetensors", checkpoint, format="safetensors")
    assert sum(copied) == sum(entry.nbytes for entry in checkpoint.values() if entry.tied is None) > 0
    again = porting.read(tmp_path / "o.safetensors")
    assert all(again[name].read().tobytes() == entry.read().tobytes() for name, entry in checkpoint.items())
