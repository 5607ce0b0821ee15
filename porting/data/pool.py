"""Work on all cores, results in order, memory bounded.

Workers are Python processes of their own that talk through pipes: nothing of the parent is inherited (threads, locks,
open files), a worker whose parent is gone reads the end of its pipe and goes too, and the script that calls
needs no `if __name__ == "__main__"`.

A job is named by `module:function`; the function takes a set-up once and gives the function of one item.
"""

from __future__ import annotations

import fcntl
import gc
import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from importlib import import_module
from itertools import cycle
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

from porting.errors import PortError

AHEAD = 2
"""Items per worker that are on their way: one is worked on, one waits in the pipe."""

PIPE = 1 << 20
"""Bytes that a pipe holds: an item or a result goes in few pieces, and a worker need not wait for the parent."""


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def in_order(job: str, setup: object, items: Iterable[Any], *, workers: int) -> Generator[Any, None, None]:
    """The results of all items, in their order. With one worker the work is done in this process.

    setup, items and results travel by pickle. The workers take turns, and each has its next item before it has
    finished the last one, so that it never waits for this process. Closing the iterator early ends the workers.
    Raises: PortError if the job raises one or a worker is killed; RuntimeError with the traceback of another error.
    """
    if workers <= 1:
        yield from map(_made(job, setup), items)
        return
    started: list[_Worker] = []
    waiting: deque[_Worker] = deque()
    try:
        started += [_Worker(job, setup) for _ in range(workers)]
        for item, worker in zip(items, cycle(started), strict=False):
            worker.send(item)
            waiting.append(worker)
            if len(waiting) == AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for worker in started:
            worker.end()


def _made(job: str, setup: object) -> Callable[[Any], Any]:
    module, _, name = job.partition(":")
    function: Callable[[Any], Any] = getattr(import_module(module), name)(setup)
    return function


class _Worker:
    """One worker process. A thread takes its results in, so that it can always write them and go on reading."""

    def __init__(self, job: str, setup: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "porting.data.pool"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # the system may allow less
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)  # type: ignore[arg-type] # asked for above
        self._results: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send((job, setup))

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        try:
            while True:
                self._results.put(pickle.load(self._process.stdout))  # noqa: S301 - our own child
        except (EOFError, pickle.UnpicklingError, OSError, ValueError):
            self._results.put(("gone", None))

    def send(self, item: object) -> None:
        """Give it an item. One that is gone is told of by `result`."""
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        with suppress(BrokenPipeError):
            _write(self._process.stdin, item)

    def result(self) -> object:
        """Of the earliest item whose result was not asked for yet."""
        kind, value = self._results.get()
        if kind == "gone":
            code = self._process.wait()
            how = f"by signal {-code}: the system may have run out of memory" if code < 0 else f"exit code {code}"
            raise PortError(f"a worker process ended early, {how}; --workers asks for fewer")
        if kind == "refused":
            raise PortError(*value.split("\n"))
        if kind == "failed":
            raise RuntimeError(f"a worker failed:\n{value}")
        return value

    def end(self) -> None:
        """Stop the process, busy or not."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def _write(pipe: IO[bytes], value: object) -> None:
    pickle.dump(value, pipe, pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def _serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Answer items until there are no more."""
    import traceback

    job, setup = pickle.load(source)  # noqa: S301 - our own parent
    function: Callable[[Any], Any] | None = None
    while True:
        try:
            item = pickle.load(source)  # noqa: S301 - our own parent
        except EOFError:
            return
        try:
            function = function or _made(job, setup)
            answer = ("done", function(item))
        except PortError as error:
            answer = ("refused", str(error))
        except Exception:  # noqa: BLE001 - the parent raises it
            answer = ("failed", traceback.format_exc())
        try:
            _write(sink, answer)
        except BrokenPipeError:
            return


def main() -> None:
    """The worker: pickles in at standard input, pickles out at what was standard output."""
    gc.set_threshold(50_000)  # jobs make many objects and no garbage
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends its workers
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not come between the pickles
    with sink:
        _serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
