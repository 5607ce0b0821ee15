"""The command on input that is bad as a file: one clear line, exit code 2, and nothing left behind."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from made import as_hf, configure, google_bert, save

Port = Callable[..., Any]

NOBODY = 65534
SECONDS = 60


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """A command that waits for a pipe would wait for ever."""

    def late(_: int, __: FrameType | None) -> None:
        raise AssertionError(f"no end within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """What can be converted, in a folder of its own."""
    (tmp_path / "good").mkdir()
    return save(tmp_path / "good" / "m.safetensors", as_hf(google_bert()))


def listing(folder: Path) -> list[tuple[str, int]]:
    """Every path below, and its size."""
    return sorted((str(path), path.lstat().st_size) for path in folder.rglob("*"))


def refused(port: Port, folder: Path, *words: object) -> str:
    """The error of a command: exactly one line, exit code 2, nothing else said, nothing changed in the folder."""
    before = listing(folder)
    ran = port(*words)
    assert (ran.code, ran.out) == (2, ""), words
    assert ran.err.startswith("port: error: "), words
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.endswith("\n")
    assert ran.err[:-1].isprintable()
    assert listing(folder) == before, words
    return str(ran.err)


def fifo(at: Path) -> Path:
    os.mkfifo(at)
    return at


def plugged(at: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(at.parent)  # a socket's path may have 108 bytes
        try:
            one.bind(at.name)
        finally:
            os.chdir(here)
    return at


def sparse(at: Path) -> Path:
    with at.open("wb") as file:
        file.truncate(1 << 30)
    return at


def holding(data: bytes) -> Callable[[Path], Path]:
    def make(at: Path) -> Path:
        at.write_bytes(data)
        return at

    return make


def linked(target: str) -> Callable[[Path], Path]:
    def make(at: Path) -> Path:
        at.symlink_to(target)
        return at

    return make


def folder_of(**files: bytes) -> Callable[[Path], Path]:
    def make(at: Path) -> Path:
        at.mkdir()
        for name, data in files.items():
            (at / name).write_bytes(data)
        return at

    return make


def within(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    return lambda at: make(at) / "x"


UNKNOWN = "not a checkpoint of any format known"
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (lambda at: at, "no such file, folder or TensorFlow prefix"),
    "an empty file": (holding(b""), "is empty"),
    "text": (holding(b"hello\n"), UNKNOWN),
    "another JSON": (holding(b'[{"a": [1, 2]}]'), UNKNOWN),
    "an executable": (holding(b"\x7fELF" + bytes(5000)), UNKNOWN),
    "a pickle of something else": (holding(b"\x80\x04K\x01."), UNKNOWN),
    "an empty folder": (folder_of(), UNKNOWN),
    "a folder of other things": (folder_of(README=b"x", weights=b"y"), UNKNOWN),
    "a pipe": (fifo, "is neither a regular file nor a folder"),
    "a socket": (plugged, "is neither a regular file nor a folder"),
    "/dev/zero": (lambda _: Path("/dev/zero"), "is neither a regular file nor a folder"),
    "/dev/full": (lambda _: Path("/dev/full"), "is neither a regular file nor a folder"),
    "this process's memory": (lambda _: Path("/proc/self/mem"), "/proc/self/mem: "),
    "a gigabyte of zeros": (sparse, UNKNOWN),
    "a link to itself": (lambda at: linked(at.name)(at), "a link that leads nowhere"),
    "a link to nothing": (linked("nowhere"), "a link that leads nowhere"),
    "a path through a link to itself": (within(lambda at: linked(at.name)(at)), "Too many levels of symbolic links"),
    "a path through a file": (within(holding(b"x")), "no such file"),
    "a name that is too long": (lambda at: at.with_name("x" * 300), "File name too long"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_checkpoint(name: str, tmp_path: Path, good: Path, port: Port) -> None:
    make, why = BAD[name]
    bad = make(tmp_path / "bad")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for words in (
        ("inspect", bad),
        ("inspect", bad, "--json"),
        ("convert", "pt2ms", bad),
        ("convert", "tf2ms", bad, "-o", tmp_path / "out"),
        ("convert", "pt2ms", bad, "-o", tmp_path / "out", "--source-format", "safetensors"),
        ("convert", "pt2ms", good, "--like", bad),
        ("diff", bad, good),
        ("diff", good, bad),
        ("families", "suggest", good, bad),
    ):
        error = refused(port, tmp_path, *words)
        assert str(bad) in error
        assert why in error or "--source-format" in words
    refused(port, tmp_path, "verify", bad)
    refused(port, tmp_path, "convert", "pt2ms", good, "--config", bad)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 << 10


@pytest.mark.parametrize("kind", ["safetensors", "torch", "npz", "mindspore-ckpt", "tf-bundle"])
def test_cut_off_anywhere(kind: str, tmp_path: Path, port: Port) -> None:
    whole = save(tmp_path / "m", as_hf(google_bert()), kind)
    name = "m.data-00000-of-00001" if kind == "tf-bundle" else "m"
    data = (tmp_path / name).read_bytes()
    for length in (len(data) - 1, len(data) // 2, 20):
        (tmp_path / name).write_bytes(data[:length])
        words = ("convert", "any", whole, "--to", "hf", "-o", tmp_path / "out")
        assert str(tmp_path / "m") in refused(port, tmp_path, *words)


@pytest.mark.parametrize("name", ["Ünïcode Σ 模型", "new\nline", "esc\x1b[31mape", "tab\t", "-o", "%s {0}", "b\udcff"])
def test_names_of_files(name: str, tmp_path: Path, good: Path, port: Port) -> None:
    """Whatever a file is called, it converts, and an error about it is one line."""
    file = tmp_path / f"{name}.bin"
    shutil.copy(good, file)
    ran = port("convert", "pt2ms", file)
    assert ran.code == 0, ran.err
    assert all(line.isprintable() for line in ran.out.splitlines())
    assert (tmp_path / f"{name}.modelzoo.ckpt").exists()
    assert port("verify", tmp_path / f"{name}.modelzoo.ckpt.port.json").code == 0
    ran = port("inspect", file)
    assert ran.code == 0
    assert all(line.isprintable() for line in ran.out.splitlines())
    assert port("inspect", file, "--json").code == 0
    assert port("diff", file, good).code == 0
    file.write_bytes(file.read_bytes()[:-1])
    assert name.isprintable() == (name in refused(port, tmp_path, "inspect", file))


@pytest.mark.parametrize("text", [b"{", b"", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"hidden_size": NaN, '])
def test_a_config_that_is_none(text: bytes, good: Path, port: Port) -> None:
    (good.parent / "config.json").write_bytes(text)
    error = refused(port, good.parent, "convert", "pt2ms", good)
    assert f"{good.parent}/config.json: wanted " in error


def test_a_config_of_another_model(good: Path, port: Port) -> None:
    configure(good.parent, "config.json", hidden_size=1024, vocab_size=21128, num_hidden_layers=24)
    before = listing(good.parent)
    ran = port("convert", "pt2ms", good)
    assert ran.code == 2
    title, *lines = ran.err.splitlines()
    assert title.startswith(f"port: error: {good}: ")
    assert {word for line in lines for word in ("vocab", "hidden", "layer") if word in line} == {
        "vocab",
        "hidden",
        "layer",
    }
    assert listing(good.parent) == before


def test_another_model(tmp_path: Path, port: Port) -> None:
    other = save(tmp_path / "other.npz", {"fc.weight": np.eye(3), "fc.bias": np.zeros(3)}, "npz")
    before = listing(tmp_path)
    ran = port("convert", "pt2ms", other)
    assert ran.code == 2
    assert ran.err.startswith(f"port: error: {other}: no family fits these names\n")
    assert all(line.startswith("  ") for line in ran.err.splitlines()[1:])
    assert listing(tmp_path) == before


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="porting-test-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def as_another_user() -> Iterator[Callable[[], None]]:
    """Root reads everything: from the call on, another user's rights hold."""
    yield (lambda: os.seteuid(NOBODY)) if os.geteuid() == 0 else (lambda: None)
    if os.geteuid() == NOBODY:
        os.seteuid(0)


@pytest.mark.parametrize("kind", ["safetensors", "torch", "tf-bundle", "mindspore-ckpt"])
def test_what_may_not_be_read(kind: str, open_folder: Path, port: Port, as_another_user: Callable[[], None]) -> None:
    path = save(open_folder / "m", as_hf(google_bert()), kind)
    assert port("inspect", path).code == 0  # what is imported is imported now
    for file in open_folder.iterdir():
        file.chmod(0)
    as_another_user()
    for words in (("inspect", path), ("convert", "pt2ms", path, "-o", open_folder / "out"), ("verify", path)):
        assert "Permission denied" in refused(port, open_folder, *words) or kind == "tf-bundle"


def test_where_may_not_be_written(open_folder: Path, port: Port, as_another_user: Callable[[], None]) -> None:
    path = save(open_folder / "m.safetensors", as_hf(google_bert()))
    path.chmod(0o644)
    (open_folder / "good").mkdir(mode=0o777)
    (open_folder / "good").chmod(0o777)
    assert port("convert", "pt2ms", path, "-o", open_folder / "good" / "out").code == 0
    open_folder.chmod(0o555)
    as_another_user()
    error = refused(port, open_folder, "convert", "pt2ms", path)
    assert "m.modelzoo.ckpt: cannot be written: Permission denied" in error
    error = refused(port, open_folder, "convert", "pt2ms", path, "-o", "/proc/out")
    assert "/proc/out: cannot be written" in error


def test_outputs_that_cannot_be(good: Path, tmp_path: Path, port: Port) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("x")
    for output, why in (
        (tmp_path / "nowhere" / "out", "there is no folder"),
        (tmp_path / "file" / "out", "there is no folder"),
        (tmp_path / "loop", "exists already"),
        (tmp_path / "file", "exists already"),
        (good, "is the source itself"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("/dev/full"), "exists already"),
    ):
        assert why in refused(port, tmp_path, "convert", "pt2ms", good, "-o", output)
    for output in (fifo(tmp_path / "pipe"), Path("/dev/null")):
        words = ("convert", "pt2ms", good, "-o", output, "--overwrite")
        assert "is a device or a pipe" in refused(port, tmp_path, *words)


def test_pipes_among_a_checkpoints_files(tmp_path: Path, port: Port) -> None:
    """Nothing beside a checkpoint is waited for."""
    for name in ("checkpoint", "config.json", "model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"):
        fifo(tmp_path / name)
    refused(port, tmp_path, "inspect", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    save(tmp_path / "model.safetensors", as_hf(google_bert()))
    assert port("convert", "pt2ms", tmp_path / "model.safetensors").code == 0
