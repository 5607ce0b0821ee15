"""Records: killed, interrupted, out of space, a worker gone: nothing under a final name, nothing lost."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from porting.checkpoint.output import alive
from porting.data.pool import in_order
from porting.errors import FormatError, PortError

VOCAB = Path(__file__).parent.parent / "golden" / "data" / "vocab.txt"

SLOWED = """
import sys, time
from porting.checkpoint.output import Output
write = Output.write
def slow(self, *where):
    time.sleep(0.2)
    write(self, *where)
Output.write = slow
from porting.cli import main
main()
"""
"""The command with a disk so slow that signals fall where they are meant to."""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of several megabytes, which also does as text."""
    path = tmp_path_factory.mktemp("text") / "train.tsv"
    lines = (f"the word of {number} is not with his water and the time\t{number % 2}\n\n" for number in range(30_000))
    path.write_text("sentence\tlabel\n" + "".join(lines))
    return path


COMMANDS = {
    "glue": ["glue", "sst-2", "--max-seq-length", "16"],
    "pretraining": ["pretraining", "--max-seq-length", "64", "--dupe-factor", "1"],
}


def start(
    kind: str, source: Path, out: Path, *more: str, slowed: bool = False, limit: int | None = None
) -> subprocess.Popen[bytes]:
    """The command in a process group of its own."""
    run = ["-c", SLOWED] if slowed else ["-m", "porting.cli"]
    words = [*COMMANDS[kind], source, "-o", out, "--vocab", VOCAB, "--workers", "2", *more]

    def prepare() -> None:
        os.setsid()
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, *run, "data", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=prepare,  # noqa: PLW1509 - no threads here yet
    )


def wait_for_records(folder: Path, running: subprocess.Popen[bytes]) -> None:
    """Until the command has begun to write."""
    while running.poll() is None and not any(part.stat().st_size for part in folder.glob(".*.part")):
        time.sleep(0.002)


def children(pid: int) -> list[int]:
    """The workers."""
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ended(pids: list[int]) -> bool:
    """Whether all are gone, or soon will be."""
    for _ in range(200):
        if not any(alive(pid) and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2] for pid in pids):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("kind", COMMANDS)
def test_kill_9_leaves_the_old_records_and_no_workers(kind: str, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tfrecord"
    out.write_bytes(b"precious")
    running = start(kind, text, out, "--overwrite", slowed=True)
    wait_for_records(tmp_path, running)
    workers = children(running.pid)
    assert len(workers) == 2
    running.kill()
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    assert ended(workers)
    assert out.read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".part")] == ["out.tfrecord"]
    again = start(kind, text, out, "--overwrite")
    _, err = again.communicate()
    assert (again.returncode, err) == (0, b"")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["out.tfrecord", "out.tfrecord.port.json", "schema.json"]


@pytest.mark.parametrize("kind", COMMANDS)
def test_ctrl_c_leaves_nothing(kind: str, text: Path, tmp_path: Path) -> None:
    running = start(kind, text, tmp_path / "out.tfrecord", slowed=True)
    wait_for_records(tmp_path, running)
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert (running.returncode, out) == (130, b"")
    assert err == b"port: error: interrupted; nothing was left behind\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize("limit", [0, 200_000])
def test_a_file_that_may_not_grow(kind: str, limit: int, text: Path, tmp_path: Path) -> None:
    running = start(kind, text, tmp_path / "out.tfrecord", limit=limit)
    refused(running, "out.tfrecord: cannot be written: File too large")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_full_disk(kind: str, text: Path, tmp_path: Path, disk: Callable[[str], Path]) -> None:
    folder = disk("size=300k")
    old = folder / "old.tfrecord"
    old.write_bytes(b"precious")
    refused(start(kind, text, old, "--overwrite"), "old.tfrecord: cannot be written: no space left on the device")
    assert [path.name for path in folder.iterdir()] == ["old.tfrecord"]
    assert old.read_bytes() == b"precious"


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


def refused(running: subprocess.Popen[bytes], why: str) -> None:
    """One line, exit code 2."""
    out, err = running.communicate()
    assert (running.returncode, out) == (2, b"")
    assert err.startswith(b"port: error: ")
    assert err.count(b"\n") == 1
    assert why in err.decode()


def test_a_worker_that_is_killed_is_no_silent_loss(text: Path, tmp_path: Path) -> None:
    running = start("glue", text, tmp_path / "out.tfrecord", slowed=True)
    wait_for_records(tmp_path, running)
    os.kill(children(running.pid)[0], signal.SIGKILL)
    refused(running, "a worker process ended early, by signal 9")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.mindspore
def test_a_full_disk_under_mindrecord(text: Path, disk: Callable[[str], Path]) -> None:
    folder = disk("size=2m")
    refused(start("glue", text, folder / "out.mindrecord", "--format", "mindrecord"), "out.mindrecord: MindSpore: ")
    assert list(folder.iterdir()) == []


def doubling(setup: int) -> Callable[[int], int]:
    """A job: what the workers do."""

    def double(item: int) -> int:
        if item == setup:
            raise FormatError("file", "place", "a problem")
        if item == -setup:
            raise ValueError("a bug")
        return 2 * item

    return double


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_and_errors_come_through(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    job = "test_data_faults:doubling"
    assert list(in_order(job, 10**6, range(100), workers=workers)) == [2 * item for item in range(100)]
    with pytest.raises(PortError, match=r"^file: place: a problem$"):
        list(in_order(job, 50, range(100), workers=workers))
    with pytest.raises((RuntimeError, ValueError), match="a bug"):
        list(in_order(job, 50, range(0, -100, -1), workers=workers))
    early = in_order(job, 10**6, iter(int, 1), workers=workers)
    assert next(early) == 0
    early.close()
