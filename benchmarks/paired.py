"""What benchmarks share: a process timed and its memory sampled, actions in turn, lines of a table from paired rounds.

Every round runs what is measured and what it is measured against one after the other, so a machine that drifts drifts
under both; the figure is the median of the rounds' ratios. Memory is sampled from /proc every few milliseconds:
anonymous (RssAnon) and resident (VmRSS), of a process and its children together, what they share counted in each.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Run = tuple[float, float, float]
"""Wall seconds, peak anonymous and resident MiB."""


@dataclass(frozen=True)
class Line:
    """One measured command: its wall time over the reference's in the same round.

    seconds and reference are medians, memory (of the command) is a peak in MiB.
    """

    name: str
    limit: float | None
    ratio: float
    low: float
    high: float
    seconds: float
    reference: float
    anonymous: float
    resident: float


def timed(command: Sequence[str], *, codes: Sequence[int] = (0,)) -> Run:
    """Run a process. codes: exit codes that are as expected; any other raises."""
    peak = {"RssAnon": 0, "VmRSS": 0}
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=_environment())
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.008):
            now = dict.fromkeys(peak, 0)
            for pid in (process.pid, *_children(process.pid)):
                for line in _status(pid):
                    key, _, value = line.partition(":")
                    if key in now:
                        now[key] += int(value.split()[0])
            for key, value in now.items():
                peak[key] = max(peak[key], value)

    sampler = threading.Thread(target=watch)
    sampler.start()
    _, errors = process.communicate()
    seconds = time.perf_counter() - start
    done.set()
    sampler.join()
    if process.returncode not in codes:
        raise SystemExit(f"{' '.join(command)} failed:\n{errors.decode()}")
    return seconds, peak["RssAnon"] / 1024, peak["VmRSS"] / 1024


def _environment() -> dict[str, str]:
    """Ours, but modules may be compiled once and for all, as they are where the kit is installed."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _status(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return []


def line(name: str, limit: float | None, rounds: Sequence[tuple[Run, Run]]) -> Line:
    """The line of rounds of (measured, reference)."""
    ratios = [ours[0] / theirs[0] for ours, theirs in rounds]
    return Line(
        name,
        limit,
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        statistics.median(ours[0] for ours, _ in rounds),
        statistics.median(theirs[0] for _, theirs in rounds),
        max(ours[1] for ours, _ in rounds),
        max(ours[2] for ours, _ in rounds),
    )


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_turn(actions: Mapping[str, Callable[[], float]], rounds: int) -> list[dict[str, float]]:
    """Seconds that each action says, all in every round, in odd rounds in the opposite order.

    What comes after what is part of a time: of caches, of memory that was just given back.
    """
    found = []
    for number in range(rounds):
        names = list(actions) if number % 2 == 0 else list(actions)[::-1]
        told = {name: actions[name]() for name in names}
        found.append({name: told[name] for name in actions})
    return found


def against(case: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> str:
    """A line: medians in milliseconds, and the median of the rounds' ratios with its quartiles."""
    times = in_turn({"ours": lambda: seconds(ours), "theirs": lambda: seconds(theirs)}, rounds + 2)[2:]
    low, middle, high = statistics.quantiles([one["ours"] / one["theirs"] for one in times], n=4)
    own, public = (1000 * statistics.median(one[name] for one in times) for name in ("ours", "theirs"))
    return f"{case:<11}{own:9.1f} ms{public:9.1f} ms  ratio {middle:.3f}  ({low:.3f} to {high:.3f})"


def head(reference: str) -> str:
    """The head of the table in Markdown."""
    return (
        f"| command | ratio to {reference} | rounds | limit | seconds | {reference} seconds | anonymous MiB |"
        " resident MiB |\n|---|---|---|---|---|---|---|---|"
    )


def show(line: Line) -> str:
    """A line of the table in Markdown."""
    limit = "" if line.limit is None else f"{line.limit:g}"
    return (
        f"| {line.name} | {line.ratio:.2f} | {line.low:.2f} to {line.high:.2f} | {limit} | {line.seconds:.2f} | "
        f"{line.reference:.2f} | {line.anonymous:.0f} | {line.resident:.0f} |"
    )
