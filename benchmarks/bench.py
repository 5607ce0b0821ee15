"""What the harness of `port bench run` costs, paired: the loop of a cell under the monitor against a bare PyTorch loop.

    OMP_NUM_THREADS=1 python benchmarks/bench.py [--model M] [--batch-size N] [--steps N] [--rounds N] [--cpu]

Three loops over the same batches, in one process, all in every round, in the next round in the opposite order:

    bare      the port as a torch module, torch.optim.AdamW, clip_grad_norm_, LambdaLR, loss.item(): no line of the kit
    session   Session.step of the kit in a loop of one line
    harness   the loop of a cell, which reads the clock and the loss, while the monitor samples

The figures are the medians of the rounds' ratios. harness / bare is all that the kit costs, harness / session what
measuring costs. `--cpu` takes processor time in place of the clock's, for machines that others use too: that of this
process, and in `harness` that of the monitor's as well.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil
import torch
from paired import in_turn

from porting.backends.found import Resolved
from porting.backends.names import BackendName
from porting.backends.protocol import StepResult
from porting.bench.corpus import generated, split
from porting.bench.monitor import PERIOD, Monitor
from porting.bench.train_job import asked_of, trained
from porting.data.tasks import task_named
from porting.model.dropout import Dropout
from porting.model.recipes import bert_finetune
from porting.train.batches import Shuffled
from porting.train.start import open_trainee

if TYPE_CHECKING:
    from porting.backends.protocol import Session

LIMIT = 1.01
"""Of the bare loop."""


Clock = Callable[[], float]


def bare(module: torch.nn.Module, batches: Shuffled, steps: int, clock: Clock) -> Callable[[], float]:
    """A training loop as PyTorch's own documentation writes it: what makes so many steps and says its seconds."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-5, eps=1e-6, weight_decay=0.01, foreach=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    module.train()

    def run() -> float:
        start, losses = clock(), []
        for step in range(steps):
            batch = batches.batch(*divmod(step, batches.per_epoch))
            fed = {name: torch.from_numpy(array).long() for name, array in batch.items()}
            optimizer.zero_grad()
            loss = module(fed)["loss"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        return clock() - start

    return run


def loops(model: str, size: int, steps: int, period: float, clock: Clock) -> dict[str, Callable[[], float]]:
    """The three loops, each with a model of its own."""
    task = task_named("cola")
    asked = asked_of(model, task, {}, 0)
    spec, config = asked.spec, asked.configured()
    records = split(generated(max(256, size), seed=0), "train", spec, config, task)
    batches = Shuffled(records, size, 0)
    recipe = bert_finetune(2e-5, 10**6, 10**5)
    here = Resolved(BackendName("torch", "cpu"))
    own, theirs = (open_trainee(asked, here, recipe=recipe, dropout=Dropout("own")) for _ in range(2))
    module: torch.nn.Module = spec.port("pytorch").build(config, own.build)

    def session() -> float:
        start = clock()
        for step in range(steps):
            own.session.step(batches.batch(*divmod(step, batches.per_epoch)))
        return clock() - start

    def harness() -> float:
        with Monitor(period) as monitor:
            monitor.watch(os.getpid())
            start, others = clock(), _sampler()
            trained(theirs.session, batches, steps, _unsaid)
            return clock() - start + (_sampler() - others if clock is time.process_time else 0)

    return {"bare": bare(module, batches, steps, clock), "session": session, "harness": harness}


@dataclass(frozen=True)
class Still:
    """A session that does nothing in no time."""

    def step(self, batch: Any) -> StepResult:
        """No step at all."""
        del batch
        return StepResult(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Same:
    """Batches that need no making."""

    per_epoch: int = 1000

    def batch(self, epoch: int, number: int) -> dict[str, Any]:
        """Always the same."""
        del epoch, number
        return {}


def alone(period: float, steps: int = 200_000, seconds: float = 10.0) -> tuple[float, float]:
    """Processor time of the cell's loop without what it loops over, seconds a step; and of the monitor, a second."""
    start = time.process_time()
    trained(cast("Session", Still()), cast("Shuffled", Same()), steps, _unsaid)
    step = (time.process_time() - start) / steps
    with Monitor(period) as monitor:
        monitor.watch(os.getpid())
        time.sleep(1.0)  # what it does once is behind it
        before, since = _sampler(), time.monotonic()
        time.sleep(seconds)
        return step, (_sampler() - before) / (time.monotonic() - since)


def _sampler() -> float:
    """Seconds of processor time that this process's children have used: the monitor's."""
    times = [child.cpu_times() for child in psutil.Process().children()]
    return float(sum(one.user + one.system for one in times))


def _unsaid(values: Any) -> None:
    del values


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bert-tiny")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--period", type=float, default=PERIOD)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    clock = time.process_time if options.cpu else time.monotonic
    actions = loops(options.model, options.batch_size, options.steps, options.period, clock)
    in_turn(actions, 1)
    rounds = in_turn(actions, options.rounds)
    taken = "processor" if options.cpu else "wall"
    print(
        f"{options.model}, batch {options.batch_size}, {options.steps} steps a round, {options.rounds} rounds, ", end=""
    )
    print(f"{torch.get_num_threads()} threads, {taken} time; load {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    for name, against in (("harness", "bare"), ("harness", "session"), ("session", "bare")):
        low, middle, high = statistics.quantiles([one[name] / one[against] for one in rounds], n=4)
        print(f"{name} / {against}: {middle:.4f}, middle half {low:.4f} to {high:.4f}; limit {LIMIT}")
    each = ", ".join(
        f"{name} {1000 * statistics.median(one[name] for one in rounds) / options.steps:.2f} ms" for name in actions
    )
    print(f"medians of a step: {each}")
    step, share = alone(options.period)
    print(f"alone: the loop {1e6 * step:.2f} us a step, the monitor {100 * share:.2f} % of one core")
    if options.json:
        options.json.write_text(json.dumps(rounds, indent=1))


if __name__ == "__main__":
    main()
