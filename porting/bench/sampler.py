"""The process that samples: `python -m porting.bench.sampler FILE PERIOD`, started by porting.bench.monitor.

Each line of its standard input is a process to watch; it ends when that input does, so it never outlives what
started it. Moments are absolute: sample n is due n
periods after the first, however long those before it took, so the period does not drift. A moment that is missed,
because a device answered late, is left out and counted; it moves no other.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from typing import IO

from porting.bench.meters import Meter, meters
from porting.bench.reading import Reading, encode

PROBLEMS = 5
"""Of one meter that are written down; a device that has gone raises at every sample."""


@dataclass(slots=True)
class Sampler:
    """Asks meters until it is told to end. file: of readings, a line each, written through at every sample."""

    period: float
    file: IO[str]
    ended: Event = field(default_factory=Event)
    problems: list[str] = field(default_factory=list)
    missed: dict[str, int] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def run(self, asked: Sequence[Meter]) -> None:
        """Sample until `ended` is set."""
        start = time.monotonic()
        threads = [Thread(target=self._sample, args=[meter, start], daemon=True) for meter in asked]
        for thread in threads:
            thread.start()
        self.ended.wait()
        for thread in threads:
            thread.join(self.period)  # one that hangs in a driver is left

    def _sample(self, meter: Meter, start: float) -> None:
        turn = 0
        while not self.ended.is_set():
            self._ask(meter)
            due = max(turn + 1, int((time.monotonic() - start) / self.period) + 1)
            self.missed[meter.name] = self.missed.get(meter.name, 0) + due - turn - 1
            turn = due
            self.ended.wait(max(start + turn * self.period - time.monotonic(), 0))

    def _ask(self, meter: Meter) -> None:
        try:
            self._write(meter.read())
        except Exception as error:  # noqa: BLE001 - a device that has gone is a fact, and may come back
            text = f"{meter.name}: {type(error).__name__}: {error}"
            if text not in self.problems and len(self.problems) < PROBLEMS:
                self.problems.append(text)

    def _write(self, readings: Sequence[Reading]) -> None:
        lines = "".join(f"{encode(one)}\n" for one in readings)
        with self.lock:
            self.file.write(lines)
            self.file.flush()


def _listen(pids: list[int], sampler: Sampler) -> None:
    pids.extend(int(line) for line in sys.stdin)  # each as it comes
    sampler.ended.set()


def main() -> None:
    """Sample into the file until standard input ends, then say what there was to say."""
    path, period = sys.argv[1:]
    pids: list[int] = []
    with Path(path).open("w", encoding="utf-8") as file:
        asked, missing = meters(pids)
        sampler = Sampler(float(period), file)
        Thread(target=_listen, args=[pids, sampler], daemon=True).start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sampler.run(asked)
        with sampler.lock:
            said = {"missing": missing, "problems": sampler.problems, "missed": sampler.missed}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
