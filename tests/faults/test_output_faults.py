"""Killed, interrupted, out of space: nothing appears under a final name, and what was there stays."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made import as_modelzoo, differences, google_bert, load, save

from porting.checkpoint.output import remove_stale_parts, write_json, write_text
from porting.errors import FormatError, UsageError

SLOWED = """
import sys, time
from porting.checkpoint.output import Output
write = Output.write
def slow(self, *where):
    time.sleep(0.02)
    write(self, *where)
Output.write = slow
from porting.cli import main
main()
"""
"""The command with a disk so slow that signals fall where they are meant to."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 70 MB, of which most has to be transposed."""
    arrays = google_bert(layers=4, hidden=512, inner=2048, vocab=9000, positions=128)
    return save(tmp_path_factory.mktemp("large") / "large.npz", arrays, "npz")


def start(*words: object, slowed: bool = False, limit: int | None = None) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    run = ["-c", SLOWED] if slowed else ["-m", "porting.cli"]

    def smaller() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, *run, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=smaller,  # noqa: PLW1509 - no threads here yet
    )


def wait_for_parts(folder: Path, running: subprocess.Popen[bytes]) -> None:
    """Until the command has begun to write."""
    while running.poll() is None and not list(folder.glob(".*.part")):
        time.sleep(0.002)


def shown(folder: Path) -> list[str]:
    """Files that are there for everyone to see."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".part"))


def kill_at_random(
    large: Path, folder: Path, words: list[str], times: int, check: Callable[[bool], None], seed: int
) -> None:
    """Kill the conversion at moments from its first file to its last; `check` is told whether it finished."""
    moment = random.Random(seed)
    killed = 0
    for number in range(times):
        running = start("convert", *words, slowed=number % 2 == 0)
        wait_for_parts(folder, running)
        time.sleep(moment.random() * (0.8 if number % 2 == 0 else 0.15))
        running.kill()
        _, err = running.communicate()
        assert running.returncode in {0, -signal.SIGKILL}, err
        killed += running.returncode != 0
        check(running.returncode == 0)
    assert killed > times // 3
    assert large.exists()


@pytest.mark.parametrize("to", ["tf2ms", "tf2pt"])
def test_kill_leaves_no_file_under_a_final_name(to: str, large: Path, tmp_path: Path) -> None:
    name = {"tf2ms": "out.ckpt", "tf2pt": "out.safetensors"}[to]

    def check(finished: bool) -> None:
        files = shown(tmp_path)
        assert files in ([name, f"{name}.port.json"] if finished else [], [f"{name}.port.json"], [])
        assert not (finished and name not in files)
        for file in files:
            (tmp_path / file).unlink()

    kill_at_random(large, tmp_path, [to, str(large), "-o", str(tmp_path / name)], 5, check, seed=1)
    finish(large, tmp_path, name, to)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tf-bundle", "mindspore-ckpt", "torch", "npz", "safetensors"])
def test_kill_leaves_no_file_in_any_format(kind: str, large: Path, tmp_path: Path) -> None:
    def check(finished: bool) -> None:
        if not finished:
            assert shown(tmp_path) in ([], ["out.port.json"])
        for file in shown(tmp_path):
            (tmp_path / file).unlink()

    words = ["any", "--to", "hf", "--format", kind, str(large), "-o", str(tmp_path / "out")]
    kill_at_random(large, tmp_path, words, 30, check, seed=2)


def finish(large: Path, folder: Path, name: str, to: str) -> None:
    """The next run cleans up after the killed ones and succeeds."""
    done = start("convert", to, large, "-o", folder / name)
    _, err = done.communicate()
    assert (done.returncode, err) == (0, b"")
    assert sorted(path.name for path in folder.iterdir()) == [name, f"{name}.port.json"]


def test_kill_leaves_the_old_output_as_it_was(large: Path, tmp_path: Path) -> None:
    old = as_modelzoo(google_bert())
    out = save(tmp_path / "out.ckpt", old, "mindspore-ckpt")
    before = out.read_bytes()

    def check(finished: bool) -> None:
        if finished:
            out.write_bytes(before)
        assert out.read_bytes() == before

    kill_at_random(large, tmp_path, ["tf2ms", str(large), "-o", str(out), "--overwrite"], 5, check, seed=3)
    assert differences(load(out), old) == []


@pytest.mark.parametrize("signal_at", [0.0, 0.3, 0.7])
def test_ctrl_c_leaves_nothing(signal_at: float, large: Path, tmp_path: Path) -> None:
    running = start("convert", "tf2ms", large, "-o", tmp_path / "out.ckpt", slowed=True)
    wait_for_parts(tmp_path, running)
    time.sleep(signal_at)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert (running.returncode, out) == (130, b"")
    assert err == b"port: error: interrupted; nothing was left behind\n"
    assert list(tmp_path.iterdir()) == []


def refused(running: subprocess.Popen[bytes], why: str) -> None:
    """One line, exit code 2."""
    out, err = running.communicate()
    assert (running.returncode, out) == (2, b"")
    assert err.startswith(b"port: error: ")
    assert err.count(b"\n") == 1
    assert why in err.decode()


@pytest.mark.parametrize(
    ("kind", "limit"),
    [
        ("safetensors", 0),
        ("torch", 1000),
        ("tf-bundle", 20 << 20),
        ("mindspore-ckpt", 20 << 20),
        ("npz", 20 << 20),
    ],
)
def test_a_file_that_may_not_grow(kind: str, limit: int, large: Path, tmp_path: Path) -> None:
    running = start("convert", "any", large, "--to", "hf", "--format", kind, "-o", tmp_path / "out", limit=limit)
    refused(running, "cannot be written: File too large")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system in memory, where the user may."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"cannot mount a file system: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", folder], capture_output=True, check=False)


@pytest.mark.parametrize("size", ["64k", "40m"])
def test_a_full_disk(size: str, large: Path, disk: Callable[[str], Path]) -> None:
    folder = disk(f"size={size}")
    old = folder / "old.ckpt"
    old.write_bytes(b"precious")
    refused(start("convert", "tf2ms", large, "-o", old, "--overwrite"), "no space left on the device")
    assert [path.name for path in folder.iterdir()] == ["old.ckpt"]
    assert old.read_bytes() == b"precious"


def test_a_disk_that_is_read_only(large: Path, disk: Callable[[str], Path]) -> None:
    folder = disk("ro")
    refused(start("convert", "tf2ms", large, "-o", folder / "out.ckpt"), "cannot be written: Read-only file system")


def test_a_folder_that_is_a_file(large: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused(start("convert", "tf2ms", large, "-o", tmp_path / "file" / "out.ckpt"), "there is no folder")
    refused(start("convert", "tf2ms", large, "-o", tmp_path / ("n" * 300)), "cannot be written: File name too long")
    refused(start("convert", "tf2ms", tmp_path / ("n" * 300)), "cannot be read: File name too long")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def dead_process() -> int:
    """The number of a process that has ended."""
    done = subprocess.Popen(["true"])
    done.wait()
    return done.pid


def test_parts_of_killed_runs_are_removed_by_the_next(tmp_path: Path) -> None:
    dead, living = dead_process(), os.getppid()
    kept = {f".out.ckpt.{living}.part", ".out.ckpt.x.part", f"out.ckpt.{dead}.part", ".out.ckpt.part"}
    kept |= {f".other.ckpt.{dead}.part", f".out.ckpt.{'9' * 30}.part"}
    gone = {f".out.ckpt.{dead}.part", f".out.ckpt.port.json.{dead}.part"}
    for name in kept | gone:
        (tmp_path / name).write_text("x")
    remove_stale_parts(tmp_path, ["out.ckpt", "out.ckpt.port.json"])
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_small_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert write_json(path, {"a": [1]}).read_text() == '{\n "a": [\n  1\n ]\n}\n'
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
    (tmp_path / f".run.json.{dead_process()}.part").write_text("x")
    with pytest.raises(UsageError, match="exists already"):
        write_text(path, "two", overwrite=False)
    assert path.read_text() != "two"
    write_text(path, "två")
    assert path.read_bytes() == "två".encode()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2, limits[1]))
    try:
        with pytest.raises(FormatError, match=r"^\S+/run\.json: cannot be written: File too large$"):
            write_text(path, "three")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]
    assert path.read_bytes() == "två".encode()


def umask() -> int:
    """The process's mask of modes."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_two_runs_at_once_do_not_disturb_each_other(large: Path, tmp_path: Path) -> None:
    runs = [start("convert", "tf2ms", large, "-o", tmp_path / "out.ckpt", "--overwrite") for _ in range(2)]
    for running in runs:
        _, err = running.communicate()
        assert (running.returncode, err) == (0, b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.ckpt", "out.ckpt.port.json"]
    assert len(load(tmp_path / "out.ckpt")) == len(google_bert(layers=4))
