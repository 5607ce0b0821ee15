"""Runs a backend in a process of its own, with a time limit, and tells what became of it.

Two accelerators cannot be used in one process, a framework that dies takes its process with it, and one that
hangs never returns; so nothing that imports a framework runs in this process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

from porting.backends.message import decode_error
from porting.backends.names import BackendName
from porting.backends.recorder import recorder
from porting.backends.switches import environment
from porting.backends.tail import Tail
from porting.errors import UsageError, readable
from porting.version import VERSION

GRACE = 1.0
"""Seconds that a hanging process has to write down where it hangs, and that its last output has to arrive."""

LOOK = 0.2
"""Seconds between looks at whether a job is to be stopped."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    result: JSON values that its verb returned; None if it crashed. reason: of a crash, one line. tail: the last lines
    of its output. notes: lines of its output that a report must show (an operator that fell back to the CPU).
    seconds: from start to end, the import of the framework included.
    """

    state: Literal["done", "crashed"]
    result: Any = None
    reason: str = ""
    tail: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(slots=True)
class _Heard:
    """What came through the pipe."""

    progress: Callable[[Mapping[str, Any]], None] | None
    last: dict[str, Any] = field(default_factory=dict)
    at: float = field(default_factory=time.monotonic)

    def listen(self, end: int) -> None:
        """Read messages until the other side has closed; one that was cut short is none."""
        with os.fdopen(end, encoding="utf-8", errors="replace") as lines, suppress(ValueError):
            for line in lines:
                message = json.loads(line)
                self.at = time.monotonic()
                if "progress" not in message:
                    self.last = message
                elif self.progress:
                    self.progress(message["progress"])


def call(
    backend: BackendName,
    job: Mapping[str, Any],
    *,
    timeout: float,
    folder: Path,
    progress: Callable[[Mapping[str, Any]], None] | None = None,
    renewed: bool = False,
    stop: Event | None = None,
) -> Outcome:
    """Run a job in a process of its own, and wait for it.

    job: JSON values; `verb` says what to do (porting.backends.worker.VERBS). Its paths are absolute: the process works
    in `folder`, where frameworks may leave what they like (MindSpore: rank_0, kernel_meta). timeout: seconds until the
    process is killed with all its children; with `renewed`, counted from the last that it told. progress: called, in
    another thread, with what the verb tells meanwhile. stop: once it is set, the process is killed as at its limit.
    In a named interpreter the recorder's verbs run without the kit; all others need it installed there.

    Raises: the PortError that the job raised; UsageError for an interpreter that is not there or lacks the kit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    hear, say = os.pipe()
    try:
        process = _start(backend, str(job["verb"]), say, folder)
    except OSError as error:
        os.close(hear)
        raise UsageError(f"backend {backend}: interpreter {backend.interpreter}: {error.strerror}") from error
    finally:
        os.close(say)
    tail, heard = Tail(), _Heard(progress)
    threads = [Thread(target=heard.listen, args=[hear], daemon=True)]
    threads += [Thread(target=tail.collect, args=[process.stdout], daemon=True)]
    threads += [Thread(target=_send, args=[process.stdin, {**job, "version": VERSION}], daemon=True)]
    for thread in threads:
        thread.start()
    try:
        code = _wait(process, timeout, heard if renewed else None, stop)
    finally:
        _kill(process)
        for thread in threads:
            thread.join(GRACE)  # what has left the group may hold a pipe open: it is not waited for
        if process.stdin:
            process.stdin.close()
    return _outcome(backend, code, timeout, heard.last, tail, time.monotonic() - started)


def _start(backend: BackendName, verb: str, channel: int, folder: Path) -> subprocess.Popen[bytes]:
    if backend.interpreter and verb in recorder.VERBS:
        program = [recorder.__file__]
    else:
        program = ["-m", "porting.backends.worker"]
    python = backend.interpreter or sys.executable
    return subprocess.Popen(  # noqa: S603 - the interpreter is this one, or one that the user names
        [python, "-u", "-X", "faulthandler", *program, str(channel)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        pass_fds=[channel],
        cwd=folder,
        env=_environment(backend),
        start_new_session=True,
    )


def _environment(backend: BackendName) -> dict[str, str]:
    """The environment of the child. In this interpreter it finds modules where this process does, as spawn() has it."""
    variables = environment(backend, os.environ)
    if not backend.interpreter:
        variables["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        variables["PYTHONSAFEPATH"] = "1"  # nor in its working folder
    return variables


def _send(pipe: Any, job: Mapping[str, Any]) -> None:
    """The job as one line; the pipe stays open, for its end tells the child that this process is gone."""
    line = json.dumps(job).encode() + b"\n"
    with suppress(OSError):  # of a child that is gone already, which its exit code tells
        while line:
            line = line[pipe.write(line) :]


def _wait(process: subprocess.Popen[bytes], timeout: float, heard: _Heard | None, stop: Event | None) -> int | None:
    """The exit code; None where it had to be ended, after it has written down where it hangs (faulthandler).

    heard: the time limit is counted from the last message, None for from now.
    """
    end = time.monotonic() + timeout
    while (left := end - time.monotonic()) > 0:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(left if stop is None else min(left, LOOK))
        if stop is not None and stop.is_set():
            return None
        end = end if heard is None else heard.at + timeout
    process.send_signal(signal.SIGUSR1)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE / 2)
    return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process, its watcher, and all that it started and left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _outcome(
    backend: BackendName, code: int | None, timeout: float, last: Mapping[str, Any], tail: Tail, seconds: float
) -> Outcome:
    """Raises: the PortError that came through the pipe; UsageError for an interpreter without the kit."""
    if "error" in last:
        raise decode_error(last["error"])
    lines, notes = tail.lines(), tail.notes()
    if "result" in last and code is not None:
        return Outcome("done", last["result"], tail=lines, notes=notes, seconds=seconds)
    if backend.interpreter and any("No module named 'porting" in line or "named porting" in line for line in lines):
        raise UsageError(f"backend {backend}: {backend.interpreter} has no porting kit: install it there")
    if code is None:
        reason = f"did not end within {timeout:g} s and was killed"
    elif "exception" in last:
        reason = readable(last["exception"].splitlines()[0] if last["exception"] else "an exception without text")
    else:
        reason = _ending(code)
    return Outcome("crashed", reason=reason, tail=lines, notes=notes, seconds=seconds)


def _ending(code: int) -> str:
    """What an exit code without a message means."""
    if code >= 0:
        return f"ended with exit code {code} and without a result"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    text = signal.strsignal(-code) or ""
    memory = "; the system kills so what takes more memory than it has" if -code == signal.SIGKILL else ""
    return f"killed by {name} ({text.lower()}){memory}"
