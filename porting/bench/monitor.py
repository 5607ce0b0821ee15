"""Watches devices while something runs: a process of its own, started and stopped with what it measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from porting.bench.reading import Reading, Usage, read_readings, usages
from porting.errors import PortError, UsageError
from porting.extras import require

PERIOD = 0.2
"""Seconds between samples."""

READY = 30.0
"""Seconds for a driver to answer the first time."""


def check_period(period: float) -> None:
    """Raises: UsageError for a period that is none."""
    if not 0.001 <= period <= 3600:
        raise UsageError(f"period: wanted 0.001 to 3600 seconds, got {period:g}")


@dataclass(slots=True)
class Monitor:
    """A context in which devices are watched.

    period: seconds. The memory of the host is that of the processes that `watch` is told of, with all that they
    start.
    After it: readings in order of time; missing: meters that are not there, with the reason; problems: what a
    device said that stopped answering; missed: moments left out because a meter answered late, by meter.
    """

    period: float = PERIOD
    readings: tuple[Reading, ...] = ()
    missing: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    missed: Mapping[str, int] = field(default_factory=dict)
    start: float = 0.0
    end: float = 0.0
    _folder: TemporaryDirectory[str] | None = None
    _process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start sampling.

        Raises: UsageError for a period that is none, and without psutil; PortError where no sampler can be started.
        """
        check_period(self.period)
        require("psutil", "bench")
        self._folder = TemporaryDirectory(prefix="porting-monitor-", ignore_cleanup_errors=True)
        words = [sys.executable, "-m", "porting.bench.sampler", str(self._file), repr(self.period)]
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for what is measured; this one ends with its caller
        )
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        if self._process.stdout.readline() != "ready\n":
            self._stop()
            raise PortError("the monitor's sampler did not start")
        self.start = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and take what was sampled."""
        self.end = time.monotonic()
        said = self._stop()
        self.missing, self.problems = tuple(said.get("missing", ())), tuple(said.get("problems", ()))
        self.missed = said.get("missed", {})

    def watch(self, pid: int) -> None:
        """Count the memory of this process, and of all that it starts."""
        assert self._process is not None  # noqa: S101 - within the context
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        with suppress(OSError):  # a sampler that has been killed says so at the end
            self._process.stdin.write(f"{pid}\n")
            self._process.stdin.flush()

    @property
    def _file(self) -> Path:
        assert self._folder is not None  # noqa: S101 - within the context
        return Path(self._folder.name) / "readings.jsonl"

    def _stop(self) -> dict[str, Any]:
        """End the sampler; it says the last word, unless it has been killed."""
        process, folder = self._process, self._folder
        assert process is not None  # noqa: S101 - started
        assert folder is not None  # noqa: S101 - likewise
        said = ""
        with suppress(subprocess.TimeoutExpired, OSError):
            said, _ = process.communicate(timeout=READY)
        process.kill()
        process.wait()
        if self._file.exists():
            within = (one for one in read_readings(self._file) if self.start <= one.time <= self.end)
            self.readings = tuple(sorted(within, key=lambda one: one.time))
        folder.cleanup()
        try:
            values = json.loads(said)
        except ValueError:
            return {"problems": [f"the sampler ended early ({len(self.readings)} samples)"]}
        return dict(values)

    def usages(self, start: float | None = None, end: float | None = None) -> dict[str, Usage]:
        """What each device did, in all or from start to end (CLOCK_MONOTONIC)."""
        return usages(self.readings, self.start if start is None else start, self.end if end is None else end)
