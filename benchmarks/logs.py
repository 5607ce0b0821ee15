"""Speed and memory of reading logs, whole processes, start-up included.

    python benchmarks/logs.py [--folder DIR] [--rounds N] [--lines N] [--json FILE]

Logs of a million lines of TensorFlow's Estimator: losses alone; with the twins and rates that real ones have; with a
line of no dialect every thousand. Each round runs, one after the other, `port logs` and
`LC_ALL=C grep -oE 'loss = [0-9.]+'` into a file. Files are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from paired import Line, head, line, show, timed

PORT = str(Path(sys.executable).with_name("port"))
GREP = 'LC_ALL=C grep -oE \'loss = [0-9.]+\' "$1" > "$2"'
LIMIT = 8.0
GLOG = "I1212 21:59:05.{:06d} 281473521922416 basic_session_run_hooks.py:260] "


def losses(lines: int, rng: random.Random) -> Iterator[str]:
    """A loss a line."""
    for i in range(lines):
        yield f"INFO:tensorflow:loss = {rng.uniform(0, 3):.7f}, step = {100 * i} ({rng.uniform(20, 25):.3f} sec)\n"


def twins(lines: int, rng: random.Random) -> Iterator[str]:
    """Rates and losses, each printed by two handlers."""
    for i in range(lines // 4):
        rate = f"global_step/sec: {rng.uniform(4, 5):.5f}\n"
        loss = f"loss = {rng.uniform(0, 3):.7f}, step = {100 * i} ({rng.uniform(20, 25):.3f} sec)\n"
        for event in (rate, loss):
            yield f"INFO:tensorflow:{event}"
            yield GLOG.format(i % 1000000) + event


def saved(lines: int, rng: random.Random) -> Iterator[str]:
    """Those, and a line of no dialect after every thousand."""
    for i, text in enumerate(twins(lines, rng)):
        yield text if i % 1000 else "INFO:tensorflow:Saving checkpoints for 2 into model.ckpt.\n"


LOGS = {"losses alone": losses, "twins and rates": twins, "and other lines": saved}


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "port-benchmark-logs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    wishes = parser.parse_args()
    wishes.folder.mkdir(parents=True, exist_ok=True)
    print(head("grep"), flush=True)
    made: list[Line] = []
    for name, lines in LOGS.items():
        log = wishes.folder / f"{name.replace(' ', '_')}-{wishes.lines}.log"
        if not log.exists():
            with log.open("w") as file:
                file.writelines(lines(wishes.lines, random.Random(0)))  # noqa: S311 - numbers to read, no secret
        bare = ["sh", "-c", GREP, "grep", str(log), str(wishes.folder / "out")]
        ours = [PORT, "logs", str(log)]
        rounds = [(timed(ours), timed(bare)) for _ in range(wishes.rounds + 1)][1:]
        made.append(line(f"port logs, {name}", LIMIT, rounds))
        print(show(made[-1]), flush=True)
    if wishes.json:
        wishes.json.write_text(json.dumps([asdict(one) for one in made], indent=1) + "\n")


if __name__ == "__main__":
    main()
