"""`port convert` of a sharded BERT-large (1.34 GB) in one process against `--workers N`, in turn.

    python benchmarks/workers.py FOLDER [rounds]

FOLDER wants room for three copies. Of each way the median of seconds, and the peak memory of the largest process; the
load of the machine stands beside, for workers want cores that are free.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from convert import LARGE, make

PORT = str(Path(sys.executable).with_name("port"))
WAYS = {"one process": [], "1 worker": ["--workers", "1"], "2 workers": ["--workers", "2"]}
SCRIPT = (
    "import json, resource, subprocess, sys, time; began = time.monotonic();"
    "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
    "spent = resource.getrusage(resource.RUSAGE_CHILDREN);"
    "print(json.dumps([time.monotonic() - began, spent.ru_utime + spent.ru_stime, spent.ru_maxrss]))"
)


def main() -> None:
    """Print a line for each way and target."""
    folder, rounds = Path(sys.argv[1]), int((*sys.argv[2:], "3")[0])
    index = folder / "large.safetensors.index.json"
    if not index.exists():
        google = make(folder / "large", LARGE)
        command = [PORT, "convert", "tf2pt", google, "-o", folder / "large.safetensors", "--shard-size", "200MB"]
        subprocess.run(command, check=True)
    for to, name in (("modelzoo", "out.ckpt"), ("google", "out.tf")):
        found = defaultdict(list)
        for _ in range(rounds):
            for way, words in WAYS.items():
                for left in folder.glob("out.*"):
                    left.unlink()
                command = [PORT, "convert", "pt2ms", index, "-o", folder / name, "--to", to, "-q", *words]
                if to == "google":
                    command[2] = "pt2tf"
                ran = subprocess.run([sys.executable, "-c", SCRIPT, *command], check=True, capture_output=True)
                found[way].append(json.loads(ran.stdout))
        for way, runs in found.items():
            seconds, spent, memory = (statistics.median(run[at] for run in runs) for at in range(3))
            shown = " ".join(f"{run[0]:.2f}" for run in runs)
            print(f"{to:9} {way:12} {seconds:6.2f} s ({shown}), {spent:.2f} CPU s, {memory / 1024:.0f} MiB")
    print("load", *(f"{each:.1f}" for each in os.getloadavg()), "on", os.cpu_count(), "cores")


if __name__ == "__main__":
    main()
