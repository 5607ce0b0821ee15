"""How often L5 raises a false alarm, and how often it sees a mistake, by simulation.

    python benchmarks/trajectory.py [--pairs 1000] [--planted 100] [--json FILE]

Trains small networks with noise in the place of rounding (porting.testing.training): pairs of sides that are equal but
for their noise, and pairs whose target has a known mistake. Prints the share of alarms with its 95 % interval, and for
each mistake the share that ends as no PASS, that ends as FAIL, and that the report of the clean pair would have stated
to be caught, from six planted runs. docs/trajectory.md has the table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from porting.acceptance.align import members
from porting.acceptance.judge import judge_trajectory
from porting.acceptance.names import POWER
from porting.acceptance.permutation import permuted
from porting.acceptance.preconditions import preconditions
from porting.acceptance.task import wilson
from porting.acceptance.train import PLANTED_RUNS
from porting.acceptance.trajectory import Runs, Trajectory
from porting.parity.state import State
from porting.testing.training import MISTAKES, Trained, runs, sides

NOISES = (3e-3, 1e-1)
"""Floors of the tail mean of about 0.15 % and 1.5 %."""

CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Row:
    """What became of many pairs.

    seen: what is no PASS, by the permutation test or at step 0; failed: the verdict; early: at step 0. stated: pairs
    whose report would have said that the mistake is caught.
    """

    case: str
    noise: float
    pairs: int
    seen: int = 0
    failed: int = 0
    early: int = 0
    stated: int = 0


def measure(case: str, target: Trained, noise: float, pairs: int, first: int) -> Row:
    """Train and judge pairs. first: of the seeds."""
    ours, theirs = replace(Trained(), noise=noise), replace(target, noise=noise)
    total = Row(case, noise, pairs)
    for seed in range(first, first + pairs):
        one, two = sides(ours, theirs, seed)
        found = permuted(members(one), members(two))
        broken = any(each.state is State.FAIL for each in preconditions(one, two))
        failed = judge_trajectory(one, two).state is State.FAIL
        stated = case != CLEAN and _stated(one, runs(theirs, PLANTED_RUNS, 1_000_000 + seed))
        total = replace(
            total, seen=total.seen + (broken or bool(found and found.found)), failed=total.failed + failed,
            early=total.early + broken, stated=total.stated + stated,
        )  # fmt: skip
    return total


def _stated(source: Runs, planted: tuple[Trajectory, ...]) -> bool:
    """Whether the report says that this mistake would be caught."""
    verdict = judge_trajectory(source, source, planted={"planted": planted})
    return next(one for one in verdict.findings if one.what == POWER).value == 1


def lines(rows: list[Row]) -> list[str]:
    """The table, as Markdown."""
    found = ["| target | noise | pairs | no PASS | FAIL | at step 0 | stated |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        low, high = wilson(row.seen / row.pairs, row.pairs)
        shares = f"{row.seen / row.pairs:.1%} ({low:.1%} to {high:.1%}) | {row.failed / row.pairs:.1%}"
        stated = "" if row.case == CLEAN else f"{row.stated / row.pairs:.0%}"
        found.append(
            f"| {row.case} | {row.noise:g} | {row.pairs} | {shares} | {row.early / row.pairs:.0%} | {stated} |"
        )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--planted", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    started = time.perf_counter()
    rows = [measure(CLEAN, Trained(), NOISES[0], options.pairs, 0)]
    for noise in NOISES:
        rows += [measure(name, side, noise, options.planted, 10_000) for name, side in MISTAKES.items()]
    sys.stdout.write("\n".join([*lines(rows), f"{time.perf_counter() - started:.0f} s"]) + "\n")
    if options.json:
        values = [{name: getattr(row, name) for name in Row.__slots__} for row in rows]
        options.json.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
