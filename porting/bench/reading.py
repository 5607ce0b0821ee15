"""What a device said of itself at one moment, and what came of it over a while."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from porting.errors import FormatError

HOST = "host"
"""The machine itself: all its cores, and the memory of the processes that are watched."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One sample. None is what the device did not tell.

    time: seconds of CLOCK_MONOTONIC, which all processes of a machine share. device: `nvidia:0`, `ascend:0`, `host`.
    power: watts. utilization: percent, of all cores together. memory: MiB in use.
    """

    time: float
    device: str
    power: float | None = None
    utilization: float | None = None
    memory: float | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """A device over a while.

    seconds: of the window. samples: readings in it. longest: seconds, the longest time between two of them, or to
    the ends of the window. power: mean watts. energy: joules. utilization: mean percent. memory: peak MiB.
    Means are over time (trapezoids), so that samples that were missed do not count as none; None is not measured.
    """

    device: str
    seconds: float
    samples: int
    longest: float
    power: float | None
    energy: float | None
    utilization: float | None
    memory: float | None

    def to_json(self) -> dict[str, Any]:
        """Its values."""
        return {name: getattr(self, name) for name in self.__slots__}


def usages(readings: Iterable[Reading], start: float, end: float) -> dict[str, Usage]:
    """What each device did from start to end (CLOCK_MONOTONIC), the phase that is to be measured."""
    found: dict[str, list[Reading]] = {}
    for one in readings:
        if start <= one.time <= end:
            found.setdefault(one.device, []).append(one)
    return {device: _usage(device, sorted(of, key=lambda one: one.time), start, end) for device, of in found.items()}


def _usage(device: str, readings: Sequence[Reading], start: float, end: float) -> Usage:
    times = [start, *(one.time for one in readings), end]
    power = mean_over_time([(one.time, one.power) for one in readings])
    memory = [one.memory for one in readings if one.memory is not None]
    return Usage(
        device,
        end - start,
        len(readings),
        max(after - before for before, after in pairwise(times)),
        power,
        None if power is None else power * (end - start),
        mean_over_time([(one.time, one.utilization) for one in readings]),
        max(memory, default=None),
    )


def mean_over_time(values: Sequence[tuple[float, float | None]]) -> float | None:
    """The mean of (seconds, value), by trapezoids, without what was not told; of one moment only, that.

    >>> mean_over_time([(0.0, 1.0), (1.0, 1.0), (2.0, None), (4.0, 3.0)])
    1.75
    """
    told = [(time, value) for time, value in values if value is not None]
    if not told:
        return None
    length = told[-1][0] - told[0][0]
    if not length:
        return told[0][1]
    return sum((one + two) / 2 * (after - before) for (before, one), (after, two) in pairwise(told)) / length


def encode(reading: Reading) -> str:
    """A line of JSON, without what was not told."""
    values = {name: getattr(reading, name) for name in Reading.__slots__}
    return json.dumps({name: value for name, value in values.items() if value is not None})


def read_readings(path: Path) -> Iterator[Reading]:
    """The samples of a file; a torn last line is left out, for the sampler may have been killed.

    Raises: FormatError for any other line that is none.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith("\n"):
                return
            try:
                yield _decoded(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise FormatError(path, f"line {number}", f"wanted a sample, got {line.strip()[:60]!r}") from error


def _decoded(values: Mapping[str, Any]) -> Reading:
    numbers = {name: float(value) for name, value in values.items() if name != "device"}
    return Reading(device=str(values["device"]), **numbers)
