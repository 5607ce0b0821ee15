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
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from porting.backends.message import decode_error, encode_error
from porting.checkpoint.output import Output
from porting.checkpoint.stream import largest_first
from porting.convert.account import Job
from porting.convert.fill import Filled, Progress, Way, fill_here, fill_some, sound_beside
from porting.errors import FormatError, PortError

LEAST = 32 << 20
"""Bytes of a checkpoint for which two processes are worth it."""

_THREADED = ("torch", "tensorflow", "mindspore", "onnxruntime", "ray")
"""Modules whose threads a fork would lack while it holds their locks."""


def possible() -> bool:
    """Whether this process may be forked: Linux, and no framework is loaded."""
    return sys.platform == "linux" and not any(name in sys.modules for name in _THREADED)


class Turns:
    """The numbers below `count`, each for one of the processes that share this: a file whose position is theirs all.

    The system moves the position and reads as one, as POSIX wants it, only of files that were opened by a path.
    """

    def __init__(self, count: int) -> None:
        made = os.memfd_create("turns")
        os.write(made, array("I", range(count)))
        self._fd = os.open(f"/proc/self/fd/{made}", os.O_RDONLY | os.O_CLOEXEC)
        os.close(made)

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


def fill_forked(output: Output, job: Job, way: Way, step: Progress | None) -> Filled:
    """As fill_here, from two processes if this one may be forked and there is enough to do.

    Raises: what either raised; FormatError if the fork was killed.
    """
    layout = job.ready.layout
    if layout.nbytes < LEAST or not possible():
        return fill_here(output, job, way, step)
    names = largest_first(layout, layout.extents)
    turns, both, alone = Turns(len(names)), Both(step), way._replace(threads=1)
    child, pipe = _fork(
        lambda mine: fill_some(output, job, map(names.__getitem__, mine), alone, both.other).to_json(), turns
    )
    try:
        with pipe, sound_beside(job, way):
            filled = fill_some(output, job, map(names.__getitem__, turns), alone, both)
            told = pipe.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        turns.close()
        _, status = os.waitpid(child, 0)
    if status:
        end = signal.strsignal(os.WTERMSIG(status)) if os.WIFSIGNALED(status) else "interrupted"
        raise FormatError(job.target, "", f"one of the two processes that filled it ended: {end}")
    both(0)
    filled.add(Filled.from_json(_understood(json.loads(told))), job)
    return filled


def _fork(work: Callable[[Iterator[int]], dict[str, Any]], turns: Turns) -> tuple[int, BinaryIO]:
    """Start the other process. work: what it does with its turns. Returns its number, and the pipe on which it tells.

    Everything it has is a copy of ours that only we clean up, so it ends where it stands.
    """
    parent, (reading, writing) = os.getpid(), os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of OpenBLAS's threads, which it stops around a fork
        child = os.fork()
    if child:
        os.close(writing)
        return child, os.fdopen(reading, "rb")
    code = 1
    try:
        os.close(reading)
        said = _said(lambda: work(turn for turn in turns if os.getppid() == parent))
        if "done" not in said:
            turns.stop()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(said).encode())
        code = 0
    finally:
        os._exit(code)


def _said(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What came of it, as JSON values."""
    try:
        return {"done": work()}
    except PortError as error:
        return {"refused": encode_error(error)}
    except Exception:  # noqa: BLE001 - a bug is told with its traceback where somebody sees it
        return {"failed": traceback.format_exc()}


def _understood(said: dict[str, Any]) -> dict[str, Any]:
    """What was done. Raises: what was raised."""
    if "refused" in said:
        raise decode_error(said["refused"])
    if "failed" in said:
        raise RuntimeError(said["failed"])
    done: dict[str, Any] = said["done"]
    return done
