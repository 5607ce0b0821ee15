"""Damaged and hostile checkpoints of every format against the promises on bad input.

    python benchmarks/fuzz.py --mutations 10000 [--seed N] [--format NAME] [--only NUMBER] [--workers N]

Every mutant is read whole and, if it reads, converted. What may come of it: one clear error; the same tensors;
or other tensors where `port verify` with the ledger of the good file sees the difference. Anything else (another
exception, a crash, a hang, more than 1 GiB, a file opened or written outside) is printed with the
number that reproduces it, and the exit code is 1. Workers are processes, so that a crash is only an outcome.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path

import numpy as np
from fuzzing.attacks import Mutant, mutate
from fuzzing.judge import GOOD, Outcome, Room, judge, limit
from fuzzing.seeds import Seed, seeds

from porting.checkpoint.registry import formats

SLOW = frozenset({"keras-h5", "keras-zip"})
"""Formats whose every reading is a process of its own; they get a fifth of the others' share."""


def made(every: Sequence[Seed], seed: int, number: int) -> Mutant:
    """Mutant `number` of a run: the same whatever else is run."""
    weights = np.array([1 if one.format in SLOW else 5 for one in every], float)
    chosen = np.random.default_rng([seed, number, 1]).choice(len(every), p=weights / weights.sum())
    return mutate(every[int(chosen)], np.random.default_rng([seed, number, 2]))


def work(channel: Connection, every: Sequence[Seed], folder: Path, seed: int) -> None:
    """A worker: answers numbers of mutants with what came of them."""
    room = Room(folder, list(every))
    limit()
    room.watch()
    channel.send(None)
    while (number := channel.recv()) is not None:
        mutant = made(every, seed, number)
        channel.send((mutant.seed.format, mutant.attack, judge(room, mutant)))


@dataclass
class Worker:
    """A process and what it is at."""

    process: ForkProcess
    channel: Connection
    number: int | None = None
    since: float = field(default_factory=time.monotonic)


@dataclass
class Run:
    """A whole run. counts: outcomes per format."""

    every: list[Seed]
    folder: Path
    seed: int
    limit: float
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    started: int = 0
    bad: int = 0

    def worker(self) -> Worker:
        """A new worker in a folder of its own."""
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        self.started += 1
        place = self.folder / f"worker{self.started}"
        process = context.Process(target=work, args=(theirs, self.every, place, self.seed), daemon=True)
        process.start()
        theirs.close()
        return Worker(process, ours)

    def note(self, number: int, kind: str, attack: str, outcome: Outcome) -> None:
        """Count an outcome; print it if it is wrong."""
        self.counts[kind, outcome.kind] += 1
        if not outcome.good:
            self.bad += 1
            print(f"--only {number} --seed {self.seed}: {kind}: {attack}: {outcome.kind}\n{outcome.text}\n", flush=True)

    def answered(self, worker: Worker) -> Worker:
        """Take a worker's answer, or its death; the worker that goes on."""
        try:
            answer = worker.channel.recv()
        except EOFError:
            worker.process.join()
            return self.lost(worker, f"the process died with {worker.process.exitcode}")
        if answer is not None and worker.number is not None:
            self.note(worker.number, *answer)
        worker.number = None
        return worker

    def lost(self, worker: Worker, why: str) -> Worker:
        """A worker that crashed or hangs: its mutant is to blame; another worker takes over."""
        worker.process.kill()
        worker.process.join()
        if worker.number is None:
            raise RuntimeError(f"a worker does not start: {why}")
        mutant = made(self.every, self.seed, worker.number)
        self.note(worker.number, mutant.seed.format, mutant.attack, Outcome("crash or hang", why))
        return self.worker()

    def go(self, numbers: Sequence[int], workers: int) -> None:
        """Have all the mutants judged."""
        left = list(reversed(numbers))
        crew = [self.worker() for _ in range(workers)]
        while crew:
            ready = wait([worker.channel for worker in crew], timeout=1)
            for i, worker in enumerate(crew):
                if worker.channel in ready:
                    crew[i] = self.answered(worker)
                elif time.monotonic() - worker.since > (self.limit if worker.number is not None else 120):
                    crew[i] = self.lost(worker, f"no answer within {self.limit:g} s")
                else:
                    continue
                if crew[i] is worker:  # a new worker says first that it is there
                    worker.number = left.pop() if left else None
                    worker.channel.send(worker.number)
                    worker.since = time.monotonic()
            crew = [worker for worker in crew if left or worker.number is not None]


def table(counts: Counter[tuple[str, str]]) -> list[str]:
    """Outcomes per format."""
    kinds = [*GOOD, *sorted({kind for _, kind in counts} - set(GOOD))]
    rows = sorted({name for name, _ in counts})
    lines = ["| format | mutants | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 2) + "|"]
    for name in [*rows, "all"]:
        of = [sum(n for (row, k), n in counts.items() if k == kind and name in {row, "all"}) for kind in kinds]
        lines.append(f"| {name} | {sum(of)} | " + " | ".join(map(str, of)) + " |")
    return lines


def main() -> int:
    """Run; 1 if a promise is broken or a format has no mutants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--format", choices=list(formats()))
    parser.add_argument("--only", type=int, help="one mutant, by its number")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds per mutant")
    wish = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        (folder / "seeds").mkdir()
        known = seeds(folder / "seeds")
        missing = formats().keys() - {seed.format for seed in known}
        if missing:
            print(f"no checkpoint of {', '.join(sorted(missing))} to damage")
            return 1
        every = [seed for seed in known if wish.format in {None, seed.format}]
        run = Run(every, folder, wish.seed, wish.limit)
        run.go(range(wish.mutations) if wish.only is None else [wish.only], min(wish.workers, wish.mutations))
    print("\n".join(table(run.counts)))
    print(f"{run.counts.total()} mutants in {time.monotonic() - start:.0f} s, {run.bad} of them break a promise")
    return 1 if run.bad else 0


if __name__ == "__main__":
    sys.exit(main())
