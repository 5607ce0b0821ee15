"""Fills an output from two processes, this one and a fork of it, instead of two threads.

Python lets one thread at a time run between the calls that leave its lock, and a conversion makes thousands of them: on
two cores the threads slept a thousand times in half a second, a tenth of it. A fork has the plan and the open files
from the start.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
import traceback
import warnings
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from select import POLLIN, poll
from typing import Any, BinaryIO, NoReturn, Self

from porting.backends.message import decode_error, encode_error
from porting.checkpoint.output import Output
from porting.checkpoint.release import order
from porting.convert.account import Job
from porting.convert.fill import Filled, Progress, Way, fill_here, fill_some, sound_beside
from porting.errors import INTERRUPTED, FormatError, PortError

LEAST = 32 << 20
"""Bytes of a checkpoint for which two processes are worth it."""

PERIOD = 0.1
"""Seconds between looks at how far the fork is, while there is nothing else to do."""

_THREADED = ("torch", "tensorflow", "mindspore", "onnxruntime", "ray")
"""Modules whose threads a fork would lack while it holds their locks."""


def possible() -> bool:
    """Whether this process may be forked: Linux, and no framework is loaded."""
    return sys.platform == "linux" and not any(name in sys.modules for name in _THREADED)


class Turns:
    """The numbers below `count`, each for one of the processes that share this: a file whose position is theirs all.

    The system moves the position and reads as one, as POSIX wants it, only of files that were opened by a path.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def made(cls, count: int) -> Self | None:
        """So many; None where the system has no such files."""
        try:
            with os.fdopen(os.memfd_create("turns"), "wb", buffering=0) as file:
                file.write(array("I", range(count)))
                return cls(os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return None

    def __iter__(self) -> Iterator[int]:
        size = array("I").itemsize
        while number := os.read(self._fd, size):
            yield int.from_bytes(number, sys.byteorder)

    def stop(self) -> None:
        """Nobody gets another."""
        os.lseek(self._fd, 0, os.SEEK_END)

    def close(self) -> None:
        """Of this process."""
        os.close(self._fd)


class Both:
    """Tells what two processes have done, as one of them gets on. The other counts in memory that they share."""

    def __init__(self, step: Progress | None) -> None:
        self._step = step
        self._theirs = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        self._told = 0

    def other(self, count: int) -> None:
        """The other process has done so many bytes."""
        self._theirs[0] += count

    def __call__(self, count: int) -> None:
        if self._step is not None:
            theirs = self._theirs[0]
            self._step(count + theirs - self._told)
            self._told = theirs


class _Gone(Exception):  # noqa: N818 - no error of anybody's
    """The fork has ended, and there are turns left."""


def fill_forked(output: Output, job: Job, way: Way, step: Progress | None) -> Filled:
    """As fill_here, from two processes if this one may be forked and there is enough to do.

    Raises: what either raised; FormatError if the fork was killed.
    """
    layout = job.ready.layout
    names, both = order(layout), Both(step)
    parent = os.getpid()

    def share(turns: Iterable[int], count: Progress) -> Filled:
        return fill_some(output, job, map(names.__getitem__, turns), way, count)

    def count(done: int) -> None:
        if os.getppid() != parent:  # it was killed: what is written here will have no name
            os._exit(1)
        both.other(done)

    worth = layout.nbytes >= LEAST and possible()
    started = _fork(lambda turns: share(turns, count), len(names)) if worth else None
    if started is None:
        return fill_here(output, job, way, step)
    child, pipe, turns = started
    filled, told = Filled(), b""
    try:
        with pipe, sound_beside(job, way, filled):
            try:
                with suppress(_Gone):
                    filled.add(share(_while_runs(pipe, turns), both), job)
                told = _heard(pipe, both)
            except BaseException:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                raise
    finally:
        turns.close()
        end = _reaped(child)
    filled.add(_understood(told, end, job), job)
    return filled


def _fork(work: Callable[[Turns], Filled], count: int) -> tuple[int, BinaryIO, Turns] | None:
    """Start the other process, which does what it gets of so many turns; None if the system has no room for it.

    Everything that it has is a copy of ours that only we clean up, so it ends where it stands.
    Returns its number, the pipe on which it tells, and the turns.
    """
    turns = Turns.made(count)
    if turns is None:
        return None
    reading, writing = os.pipe()
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until the fork cannot unwind our stack
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of OpenBLAS's threads, which it stops around a fork
            child = os.fork()
        if not child:
            _run(lambda: work(turns), turns, (reading, writing), masked)
    except OSError:
        os.close(reading)
        os.close(writing)
        turns.close()
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
    os.close(writing)
    return child, os.fdopen(reading, "rb", buffering=0), turns


def _run(work: Callable[[], Filled], turns: Turns, pipe: tuple[int, int], masked: Iterable[int]) -> NoReturn:
    """All that the fork does."""
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        sys.stdout = sys.stderr = os.fdopen(2, "w", closefd=False)  # a progress bar's have locks that nobody opens here
        os.close(pipe[0])
        said = _said(work)
        if "done" not in said:
            turns.stop()
        with os.fdopen(pipe[1], "wb") as out:
            out.write(json.dumps(said).encode())
        code = 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        os._exit(code)


def _said(work: Callable[[], Filled]) -> dict[str, Any]:
    """What came of it, as JSON values."""
    try:
        return {"done": work().to_json()}
    except PortError as error:
        return {"refused": encode_error(error)}
    except Exception:  # noqa: BLE001 - a bug is told with its traceback where somebody sees it
        return {"failed": traceback.format_exc()}


def _while_runs(pipe: BinaryIO, turns: Turns) -> Iterator[int]:
    """Our turns. Raises: _Gone if there is one that the fork, which had ended before, has left."""
    given = iter(turns)
    while True:
        ended = _tells(pipe, 0)
        turn = next(given, None)
        if turn is None:
            return
        if ended:
            raise _Gone
        yield turn


def _tells(pipe: BinaryIO, seconds: float) -> bool:
    """Whether something can be read from the pipe, its end too, waiting for that at most so long."""
    watch = poll()
    watch.register(pipe, POLLIN)
    return bool(watch.poll(1000 * seconds))


def _heard(pipe: BinaryIO, both: Both) -> bytes:
    """What the fork says when it ends."""
    told = b""
    while True:
        while not _tells(pipe, PERIOD):
            both(0)
        part = pipe.read(1 << 16)
        if not part:
            both(0)
            return told
        told += part


def _reaped(child: int) -> str:
    """How the fork ended."""
    try:
        _, status = os.waitpid(child, 0)
    except ChildProcessError:  # who started us wants to hear of no child's end, and neither do we then
        return "nobody knows how"
    if os.WIFSIGNALED(status):
        return signal.strsignal(os.WTERMSIG(status)) or f"signal {os.WTERMSIG(status)}"
    code = os.waitstatus_to_exitcode(status)
    return "interrupted" if code == INTERRUPTED else f"exit code {code}"


def _understood(told: bytes, end: str, job: Job) -> Filled:
    """What the fork did. Raises: what it raised; FormatError if it did not come to say anything."""
    try:
        said = json.loads(told)
    except ValueError:
        raise FormatError(job.target, "", f"one of the two processes that filled it ended: {end}") from None
    if "refused" in said:
        raise decode_error(said["refused"])
    if "failed" in said:
        raise RuntimeError(said["failed"])
    return Filled.from_json(said["done"])
