"""What watching costs: a loop that keeps every core busy, alone and under the monitor, paired.

    python benchmarks/monitor.py [--rounds N] [--seconds S] [--period P] [--json FILE]

Each round runs both, in the next round in the opposite order. The loop's own time is taken, within one process, so the
start of the monitor, which is before what it measures, does not count. The figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from paired import in_turn

from porting.bench.monitor import PERIOD, Monitor

LIMIT = 1.01
"""Of the bare loop."""


def loop(turns: int) -> float:
    """Seconds of so many products of matrices, which numpy spreads over all cores."""
    matrix = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
    start = time.perf_counter()
    for _ in range(turns):
        matrix @ matrix
    return time.perf_counter() - start


def watched(turns: int, period: float) -> float:
    """The same under the monitor."""
    with Monitor(period):
        return loop(turns)


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--period", type=float, default=PERIOD)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    turns = max(int(50 * options.seconds / loop(50)), 1)
    rounds = in_turn({"bare": lambda: loop(turns), "watched": lambda: watched(turns, options.period)}, options.rounds)
    ratios = sorted(one["watched"] / one["bare"] for one in rounds)
    quarter = len(ratios) // 4
    print(f"{turns} products a round, sampled every {options.period:g} s, {options.rounds} rounds")
    print(f"watched / bare: {statistics.median(ratios):.4f}, ", end="")
    print(f"middle half {ratios[quarter]:.4f} to {ratios[-1 - quarter]:.4f}; limit {LIMIT}")
    if options.json:
        options.json.write_text(json.dumps(rounds, indent=1))


if __name__ == "__main__":
    main()
