"""A job in a process of its own: whatever becomes of it, the caller is told, in time, and nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from porting.backends.names import BackendName
from porting.backends.process import Outcome, call
from porting.backends.tail import LINES, Tail
from porting.errors import FormatError, MismatchError, UsageError

HERE = BackendName.parse("torch:cpu")
LONG = 60.0


@pytest.fixture
def work(tmp_path):
    """Runs a verb of worker_verbs."""

    def run(verb, *, timeout=LONG, progress=None, backend=HERE, **job) -> Outcome:
        job = {"verb": f"worker_verbs:{verb}", **job}
        return call(backend, job, timeout=timeout, folder=tmp_path / "scratch", progress=progress)

    return run


def _gone(pid: int) -> bool:
    """Whether a process has ended, within a few seconds. A zombie has."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_result_comes_back_with_progress_before_it(work, tmp_path):
    seen = []
    outcome = work("echo", text="Σ " * 100_000, steps=3, progress=seen.append)
    assert outcome.state == "done"
    assert outcome.result == {"heard": "Σ " * 100_000, "folder": str(tmp_path / "scratch"), "stdin": ""}
    assert seen == [{"step": 0}, {"step": 1}, {"step": 2}]
    assert outcome.tail == ("said something",)
    assert 0 < outcome.seconds < LONG


@pytest.mark.parametrize(
    ("verb", "job", "reason", "said"),
    [
        ("abort", {}, "killed by SIGABRT", "last words"),
        ("segfault", {}, "killed by SIGSEGV", "segfault"),  # faulthandler names the function
        ("killed", {}, "killed by SIGKILL (killed); the system kills so what takes more memory", None),
        ("leave", {"code": 7}, "ended with exit code 7 and without a result", "leaving"),
        ("leave", {"code": 0}, "ended with exit code 0 and without a result", "leaving"),
        ("stop", {}, "ended with exit code 3 and without a result", None),
        ("half", {}, "ended with exit code 0 and without a result", None),
        ("fail", {}, "ValueError: no such thing", "second line"),
    ],
)
def test_a_crash_is_told_with_its_last_lines(verb, job, reason, said, work):
    outcome = work(verb, **job)
    assert outcome.state == "crashed"
    assert outcome.result is None
    assert outcome.reason.startswith(reason)
    assert said is None or any(said in line for line in outcome.tail)


def test_a_hang_ends_at_the_limit_with_all_children_and_says_where(work):
    seen = []
    started = time.monotonic()
    outcome = work("hang", timeout=5, progress=seen.append)
    assert time.monotonic() - started < 12
    assert outcome.state == "crashed"
    assert outcome.reason == "did not end within 5 s and was killed"
    assert any("in hang" in line for line in outcome.tail)
    assert len(seen[0]["pids"]) == 2
    assert all(map(_gone, seen[0]["pids"]))


def test_a_child_that_is_left_is_killed_and_not_waited_for(work):
    started = time.monotonic()
    outcome = work("leave_a_child")
    assert outcome.state == "done"
    assert time.monotonic() - started < 10
    assert _gone(outcome.result)


@pytest.mark.parametrize(
    ("which", "kind", "text"),
    [
        ("usage", UsageError, "one\ntwo"),
        ("own", UsageError, "of a class that only the child has"),
        ("format", FormatError, "a.npz: x: wanted 3, got 4"),
        ("mismatch", MismatchError, "they differ\n  a  missing\n  b  unexpected"),
    ],
)
def test_a_users_mistake_is_raised_again_here(which, kind, text, work):
    with pytest.raises(kind) as raised:
        work("refuse", which=which)
    assert type(raised.value) is kind
    assert str(raised.value) == text
    if kind is FormatError:
        assert raised.value.place == "x"
    if kind is MismatchError:
        assert raised.value.problems == ("a  missing", "b  unexpected")


def test_a_flood_of_output_does_not_block_and_is_not_kept(work):
    outcome = work("flood", lines=30_000)
    assert outcome.state == "done"
    assert len(outcome.tail) == LINES
    assert outcome.tail[-2] == "the end"
    assert set(outcome.tail[-1]) == {"y"}
    assert sum(map(len, outcome.tail)) < 50_000


def test_operators_that_fell_back_are_noted_once(work):
    (note,) = work("fall_back").notes
    assert note.startswith("CAUTION: The operator 'aten::foo' is not currently supported on the NPU backend")


def test_notes_are_found_wherever_the_output_is_cut():
    text = b"a\nW: CAUTION: The operator 'x' is not currently supported on the NPU backend and\nb\r\n\n  \nc"
    for cut in range(len(text)):
        tail = Tail()
        tail.add(text[:cut])
        tail.add(text[cut:])
        assert tail.lines()[0::2] == ("a", "b")
        assert tail.lines()[-1] == "c"
        assert tail.notes() == ("CAUTION: The operator 'x' is not currently supported on the NPU backend and",)


@contextmanager
def _caller(verb, folder):
    """A process of its own that calls a verb which hangs, and the processes that this started.

    A framework may have put a handler of its own in the place of this process's.
    """
    code = (
        "from pathlib import Path\n"
        "from porting.backends.names import BackendName\n"
        "from porting.backends.process import call\n"
        "try:\n"
        f"    call(BackendName.parse('torch:cpu'), {{'verb': 'worker_verbs:{verb}'}}, timeout=600,\n"
        f"         folder=Path({str(folder)!r}), progress=lambda seen: print(*seen['pids'], flush=True))\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as caller:
        pids = [int(pid) for pid in caller.stdout.readline().split()]
        assert pids
        yield caller, pids


@pytest.mark.parametrize("verb", ["hang", "hang_in_native_code"])
def test_kill_9_of_the_caller_leaves_nothing_running(verb, tmp_path):
    with _caller(verb, tmp_path) as (caller, pids):
        caller.send_signal(signal.SIGKILL)
        caller.wait()
        assert all(map(_gone, pids))


def test_ctrl_c_in_the_caller_kills_the_job(tmp_path):
    with _caller("hang", tmp_path) as (caller, pids):
        caller.send_signal(signal.SIGINT)
        assert caller.stdout.read() == b"interrupted\n"
        assert all(map(_gone, pids))


def test_an_unknown_verb_lists_those_there_are(tmp_path):
    with pytest.raises(UsageError, match="verb sing: not known; there are"):
        call(HERE, {"verb": "sing"}, timeout=LONG, folder=tmp_path)


def test_an_interpreter_that_is_not_there_is_named(tmp_path):
    backend = BackendName.parse("torch:cpu@/no/such/python")
    with pytest.raises(UsageError, match="interpreter /no/such/python: No such file or directory"):
        call(backend, {"verb": "hello"}, timeout=LONG, folder=tmp_path)


def test_an_interpreter_that_is_no_python_crashes(tmp_path):
    for program, reason in (("/bin/true", "ended with exit code 0"), ("/bin/false", "ended with exit code 1")):
        backend = BackendName.parse(f"torch:cpu@{program}")
        outcome = call(backend, {"verb": "hello"}, timeout=LONG, folder=tmp_path)
        assert outcome.state == "crashed"
        assert outcome.reason.startswith(reason)


def test_an_interpreter_without_the_kit_is_refused_for_what_needs_it(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    python.chmod(0o755)
    with pytest.raises(UsageError, match="has no porting kit: install it there"):
        call(BackendName.parse(f"torch:cpu@{python}"), {"verb": "capture"}, timeout=LONG, folder=tmp_path / "scratch")


def test_the_environment_lets_torch_start_beside_a_torch_npu_that_cannot_be_loaded(work, monkeypatch):
    monkeypatch.setenv("HCCL_DETERMINISTIC", "false")
    names = ["TORCH_DEVICE_BACKEND_AUTOLOAD", "HCCL_DETERMINISTIC", "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES"]
    wanted = {
        "torch:cpu": ["0", "false", None, None],
        "torch:cuda": ["0", "false", ":4096:8", None],
        "torch:npu": ["0", "false", None, None],  # what the user has set stays
        "tensorflow:cpu": [None, "false", None, "-1"],
    }
    for name in ("CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "TORCH_DEVICE_BACKEND_AUTOLOAD"):
        monkeypatch.delenv(name, raising=False)
    for backend, values in wanted.items():
        found = work("environment", backend=BackendName.parse(backend), names=names).result
        assert found == dict(zip(names, values, strict=True))


def test_the_worker_imports_no_framework():
    from porting.testing.formats import HEAVY

    code = "import porting.backends.worker, porting.backends.process, sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(ran.stdout.split()) & {*HEAVY, "numpy"}


def test_the_worker_started_by_hand_says_who_starts_it():
    ran = subprocess.run(
        [sys.executable, "-m", "porting.backends.worker", "1"], input="", capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.strip() == "this is started by porting.backends.process"
