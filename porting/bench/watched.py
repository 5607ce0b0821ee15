"""`port monitor -- COMMAND`: what a command of anybody's costs."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porting.bench.monitor import PERIOD, Monitor
from porting.bench.reading import Reading
from porting.errors import UsageError


@dataclass(frozen=True, slots=True)
class Watched:
    """A command that has ended. code: its exit code, 128 + N if signal N ended it, as shells have it."""

    command: tuple[str, ...]
    code: int
    monitor: Monitor

    def to_json(self) -> dict[str, Any]:
        """All but the samples."""
        found = self.monitor
        return {
            "command": list(self.command),
            "code": self.code,
            "seconds": found.end - found.start,
            "period": found.period,
            "devices": [one.to_json() for one in found.usages().values()],
            "missing": list(found.missing),
            "problems": list(found.problems),
            "missed": dict(found.missed),
        }


def watch_command(command: Sequence[str], *, period: float = PERIOD, output: Path | None = None) -> Watched:
    """Run a command, its input and output untouched, and watch the devices until it ends.

    output: folder for usage.json and readings.csv. Ctrl-C reaches the command; what it makes of it is its exit code.
    Raises: UsageError for a command that cannot be started, or an output folder that is in use.
    """
    if not command or shutil.which(command[0]) is None:
        raise UsageError(f"command {command[0] if command else '(none)'}: not found; write: port monitor -- COMMAND")
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output}: exists already")
    with Monitor(period) as monitor:
        try:
            process = subprocess.Popen(command)  # noqa: S603 - what the user asks for
        except OSError as error:
            raise UsageError(f"command {command[0]}: {error.strerror}") from error
        monitor.watch(process.pid)
        code = _ended(process)
    found = Watched(tuple(command), code if code >= 0 else 128 - code, monitor)
    if output is not None:
        _write(found, output)
    return found


def _ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for it through Ctrl-C, which the terminal sends to it as well."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def _write(found: Watched, output: Path) -> None:
    """Both files under their names, or none."""
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        (part / "usage.json").write_text(json.dumps(found.to_json(), indent=1) + "\n", encoding="utf-8")
        with (part / "readings.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["seconds", "device", "power_w", "utilization_percent", "memory_mib"])
            table.writerows(_rows(found.monitor.readings, found.monitor.start))
        part.rename(output)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _rows(readings: Sequence[Reading], start: float) -> Iterator[list[object]]:
    for one in readings:
        values = (one.power, one.utilization, one.memory)
        yield [f"{one.time - start:.4f}", one.device, *("" if value is None else f"{value:.2f}" for value in values)]


def watched_lines(found: Watched) -> list[str]:
    """For people: a line for each device, and what could not be measured."""
    made = found.to_json()
    lines = [f"{made['seconds']:.2f} s, exit code {found.code}"]
    for one in made["devices"]:
        parts = [
            f"{label} {one[name]:.{digits}f} {unit}" if one[name] is not None else f"{label} not told"
            for name, label, unit, digits in _SHOWN
        ]
        lines.append(f"  {one['device']}: {', '.join(parts)}; {one['samples']} samples")
    lines += [f"  not there: {text}" for text in made["missing"]]
    lines += [f"  problem: {text}" for text in made["problems"]]
    late = {name: count for name, count in made["missed"].items() if count}
    lines += [f"  {name} answered late: {count} moments left out" for name, count in late.items()]
    return lines


_SHOWN = (
    ("power", "mean power", "W", 1),
    ("utilization", "utilisation", "%", 1),
    ("memory", "peak memory", "MiB", 0),
)
