"""A conversion by a process and its fork: the same bytes as by threads, and no less clear where one of them fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import google_bert, save

import porting
from porting.convert.forked import Turns

PRELUDE = """
import json, os, signal, sys, time
import porting, porting.convert.fill as fill, porting.convert.forked as forked, porting.checkpoint.stream as stream
from porting.errors import FormatError, PortError
forked.LEAST = 0
parent, forks, real = os.getpid(), [], os.fork
def fork():
    forks.append(1)
    return real()
os.fork = fork
def in_fork():
    return os.getpid() != parent
one = stream._one
"""

CONVERT = """
steps = []
try:
    ledger = porting.convert(sys.argv[1], sys.argv[2], to="modelzoo", fork=True, progress=lambda *at: steps.append(at),
                             **json.loads(sys.argv[3]))
    said = {"bytes": steps[-1], "notes": ledger.notes}
except PortError as error:
    said = {"error": str(error)}
print(json.dumps(said | {"forks": len(forks)}))
"""


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT in Google's format, with some matrices to transpose."""
    return save(tmp_path_factory.mktemp("forked") / "bert.ckpt", google_bert(layers=3, hidden=64), "tf-bundle")


def script(code: str, source: Path, out: Path, convert: str = CONVERT, **choices: object) -> list[str]:
    """A process that converts with a fork of it, after `code` was run in it."""
    return [sys.executable, "-c", PRELUDE + code + convert, str(source), str(out), json.dumps(choices)]


def ran(words: list[str], **environment: str) -> tuple[dict[str, Any], str]:
    """What it says at its end, and its standard error."""
    place = {**os.environ, **environment}
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, env=place)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def forked(code: str, source: Path, out: Path, **choices: object) -> dict[str, Any]:
    """What a process says that did fork."""
    found, _ = ran(script(code, source, out, **choices))
    assert found["forks"] == 1
    return found


def logged(log: Path, pause: float) -> str:
    """Code for a process that writes down who fills which tensor, and is slow at it."""
    return f"""
def told(output, layout, name, *rest):
    with open({str(log)!r}, "a") as file:
        file.write(f"{{os.getpid()}} {{name}}\\n")
    time.sleep({pause})
    return one(output, layout, name, *rest)
stream._one = told
"""


def lines_of(log: Path) -> list[list[str]]:
    """Pairs of a process and a tensor, as far as they are written down."""
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


FULL = """
from porting.checkpoint import release
release.memory, release.PART = (lambda: 1 << 12), 1 << 12
"""
"""Code for a process that has less memory than the output."""


@pytest.mark.parametrize("code", ["", FULL])
@pytest.mark.parametrize("choices", [{}, {"verify": False}, {"verify": False, "hash": "none"}, {"hash": "sha256"}])
@pytest.mark.parametrize("kind", ["mindspore-ckpt", "torch", "safetensors", "tf-bundle"])
def test_the_same_bytes_as_by_threads(
    kind: str, choices: dict[str, object], code: str, bert: Path, tmp_path: Path
) -> None:
    porting.convert(bert, tmp_path / "out", to="modelzoo", format=kind, **choices)  # type: ignore[arg-type]
    by_threads = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    found = forked(code, bert, tmp_path / "out", format=kind, overwrite=True, **choices)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == by_threads
    assert len(by_threads) > 1
    done, total = found["bytes"]
    assert done == total > 0


def test_both_processes_fill(bert: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    forked(logged(log, 0.01), bert, tmp_path / "out.ckpt")
    names = [name for _, name in lines_of(log)]
    assert sorted(names) == sorted(porting.read(tmp_path / "out.ckpt"))
    assert len({pid for pid, _ in lines_of(log)}) == 2


def test_what_a_cast_loses_is_counted_in_both(tmp_path: Path) -> None:
    arrays = google_bert(layers=2, hidden=64)
    for name in arrays:
        if name.endswith(("kernel", "gamma")):
            arrays[name] = np.full_like(arrays[name], 1e6)
    source = save(tmp_path / "large.npz", arrays, "npz")
    by_threads = porting.convert(source, tmp_path / "a.ckpt", to="modelzoo", dtype="float16")
    found = forked("", source, tmp_path / "b.ckpt", dtype="float16")
    assert found["notes"] == list(by_threads.notes)
    assert any("float16" in note for note in by_threads.notes)


def test_damage_of_the_source_is_told_by_both(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = save(tmp_path / "in" / "m.ckpt", google_bert(layers=3, hidden=64), "tf-bundle")
    data = source.with_name(source.name + ".data-00000-of-00001")
    data.write_bytes(bytes(byte ^ 1 for byte in data.read_bytes()))
    found = forked("", source, tmp_path / "out.ckpt")
    assert "stores checksums that its bytes do not have" in found["error"]
    assert all(f"{name}: wanted crc32c" in found["error"] for name in porting.read(bert))
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


FAILING = """
def failing(output, layout, name, *rest):
    if in_fork():
        {}
    time.sleep(0.005)
    return one(output, layout, name, *rest)
stream._one = failing
"""


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("raise FormatError('some.file', 'a place', 'is wrong')", "some.file: a place: is wrong"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "one of the two processes that filled it ended: Killed"),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", "one of the two processes that filled it ended: interr"),
    ],
)
def test_a_fork_that_fails_is_told(what: str, says: str, bert: Path, tmp_path: Path) -> None:
    found = forked(FAILING.format(what), bert, tmp_path / "out.ckpt")
    assert says in found["error"]
    assert list(tmp_path.iterdir()) == []


def test_a_bug_in_the_fork_keeps_its_traceback(bert: Path, tmp_path: Path) -> None:
    words = script(FAILING.format("1 / 0"), bert, tmp_path / "o")
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "RuntimeError: Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_where_this_process_fails_the_fork_is_ended(bert: Path, tmp_path: Path) -> None:
    failing = FAILING.replace("if in_fork()", "if not in_fork()").format("raise FormatError('a', 'b', 'c')")
    slow = failing.replace("time.sleep(0.005)", "time.sleep(60)")
    before = time.monotonic()
    assert forked(slow, bert, tmp_path / "out.ckpt")["error"] == "a: b: c"
    assert time.monotonic() - before < 50
    assert list(tmp_path.iterdir()) == []


def test_a_fork_whose_process_was_killed_ends(bert: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = subprocess.Popen(script(logged(log, 0.2), bert, tmp_path / "out.ckpt"))
    found: set[int] = set()
    while len(found) < 2:
        assert running.poll() is None
        time.sleep(0.02)
        found = {int(pid) for pid, *_ in lines_of(log)}
    running.kill()
    running.wait()
    (fork,) = found - {running.pid}
    for _ in range(200):
        if not _runs(fork):
            break
        time.sleep(0.05)
    assert not _runs(fork)
    assert not (tmp_path / "out.ckpt").exists()


def _runs(pid: int) -> bool:
    """Whether a process is there and is not only waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


REFUSE = """
def refuse(*values):
    raise OSError(12, "no room")
"""


@pytest.mark.parametrize(
    "why",
    [
        "import types\nsys.modules['torch'] = types.ModuleType('torch')\n",
        REFUSE + "os.memfd_create = refuse\n",
        REFUSE + "os.fork = refuse\n",
    ],
)
def test_threads_are_used_where_a_fork_cannot_be(why: str, bert: Path, tmp_path: Path) -> None:
    files = "before = len(os.listdir('/proc/self/fd'))\nimport atexit\n"
    files += "atexit.register(lambda: os.write(2, b'left %d' % (len(os.listdir('/proc/self/fd')) - before)))\n"
    said, errors = ran(script(why + files, bert, tmp_path / "out.ckpt"))
    assert said["forks"] == 0
    assert said["bytes"][0] == said["bytes"][1]
    assert (tmp_path / "out.ckpt").exists()
    assert errors == "left 0"


def test_where_nobody_hears_of_children(bert: Path, tmp_path: Path) -> None:
    """The system reaps the fork itself, and what it said counts."""
    deaf = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    found = forked(deaf, bert, tmp_path / "out.ckpt")
    assert found["bytes"][0] == found["bytes"][1]
    (tmp_path / "out.ckpt").unlink()
    (tmp_path / "out.ckpt.port.json").unlink()
    found = forked(deaf + FAILING.format("os.kill(os.getpid(), signal.SIGKILL)"), bert, tmp_path / "out.ckpt")
    assert "that filled it ended: nobody knows how" in found["error"]
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_the_fork_is_seen_before_all_is_done(bert: Path, tmp_path: Path) -> None:
    failing = FAILING.format("os.kill(os.getpid(), signal.SIGKILL)").replace("time.sleep(0.005)", "count.append(1)")
    tell = "count = []\nimport atexit\natexit.register(lambda: os.write(2, b'%d' % len(count)))\n"
    tell += failing.replace("return one(", "time.sleep(0.05); return one(")
    said, begun = ran(script(tell, bert, tmp_path / "out.ckpt"))
    assert "ended: Killed" in said["error"]
    assert int(begun) < len(porting.read(bert)) / 2


def test_progress_goes_on_while_only_the_fork_works(bert: Path, tmp_path: Path) -> None:
    slow = """
def slow(output, layout, name, *rest):
    if in_fork():
        time.sleep(0.3)
        for _ in range(5):
            time.sleep(0.2)
            rest[-1](1000)
    return one(output, layout, name, *rest)
stream._one = slow
"""
    timed = CONVERT.replace("steps.append(at)", "steps.append((time.monotonic(), *at))")
    timed = timed.replace("steps[-1]", "[b[0] - a[0] for a, b in zip(steps, steps[1:])]")
    said, _ = ran(script(slow, bert, tmp_path / "out.ckpt", timed))
    gaps = said["bytes"]
    assert sum(gaps) > 1
    assert sum(gap for gap in gaps if gap > 0.5) < sum(gaps) / 2


def test_a_killed_fork_leaves_no_unpacked_file(tmp_path: Path) -> None:
    arrays = google_bert(layers=2, hidden=768)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    (tmp_path / "tmp").mkdir()
    killed = """
from porting.checkpoint.zips.inflate import Inflated
from porting.checkpoint.zips.archive import Archive
unpack, pieces = Inflated._unpack, Archive.pieces
def unpacking(self):
    if in_fork():
        Archive.pieces = dying
    return unpack(self)
def dying(self, *rest):
    for piece in pieces(self, *rest):
        yield piece
        os.kill(os.getpid(), signal.SIGKILL)
Inflated._unpack = unpacking
"""
    said, _ = ran(script(killed, tmp_path / "b.npz", tmp_path / "out.ckpt"), TMPDIR=str(tmp_path / "tmp"))
    assert "ended: Killed" in said["error"]
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("time", range(3))
def test_every_turn_is_given_once(time: int) -> None:
    """Both begin at a sign. Where the system does not move and read as one, some are given twice most of the times."""
    del time
    code = """
import os, sys
from porting.convert.forked import Turns
count = 200_000
turns, (reading, writing), (wait, sign) = Turns.made(count), os.pipe(), os.pipe()
child = os.fork()
if not child:
    os.write(writing, b"!")
    os.read(wait, 1)
    mine = list(turns)
    assert mine == sorted(mine)
    with open(writing, "wb") as out:
        out.write(b"".join(n.to_bytes(4, "little") for n in mine))
    os._exit(0)
os.close(writing)
os.read(reading, 1)
os.write(sign, b"!")
mine = list(turns)
with open(reading, "rb") as told:
    data = told.read()
theirs = [int.from_bytes(data[i:i + 4], "little") for i in range(0, len(data), 4)]
assert mine == sorted(mine) and min(len(mine), len(theirs)) > 100, (len(mine), len(theirs))
assert sorted(mine + theirs) == list(range(count))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_no_turn_after_stop() -> None:
    turns = Turns.made(3)
    assert turns is not None
    given = iter(turns)
    assert next(given) == 0
    turns.stop()
    assert list(given) == []
    turns.close()


def test_the_command_forks(tmp_path: Path) -> None:
    """The one that is installed, on a checkpoint that is large enough: its fork is seen while it runs."""
    arrays = google_bert(layers=2, hidden=512, inner=2048, vocab=30522)
    source = save(tmp_path / "b.npz", arrays, "npz")
    running = subprocess.Popen(
        [sys.executable, "-m", "porting.cli", "convert", "tf2ms", str(source), "-q", "-o", str(tmp_path / "o.ckpt")]
    )
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    seen = False
    while running.poll() is None:
        try:
            seen = seen or bool(children.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            break
        time.sleep(0.001)
    assert running.wait() == 0
    assert seen
