"""Rows of nvidia-smi's table, as `nvidia-smi | grep %` keeps them: memory, power and use of a device."""

from __future__ import annotations

import numpy as np

from porting.logs.columns import Found
from porting.logs.dialect import Dialect, Event, Part, curves, line

MIB = 2**20 / 1e6
"""Megabytes in one MiB."""

LINE = line(r"\|(?:[^|\n]{0,80}?(?P<power>\d+)W */)?[^|\n]{0,80}\| *(?P<memory>\d+)MiB */ *\d+MiB *\| *(?P<use>\d+)%%")
SAMPLES = "samples of devices carry no step and do not tell devices apart: they are numbered in their order"


def _settle(found: Found) -> Part:
    rows = found["line"]
    wanted = {"memory": ("memory_mb", 1 / MIB), "power": ("power_watts", 1.0), "use": ("utilization", 100.0)}
    return Part(curves(rows, np.arange(rows.count, dtype=np.float64), wanted), limits=(SAMPLES,))


DIALECT = Dialect(
    "smi",
    "nvidia-smi rows",
    "| N/A   35C    P0    42W / 300W |  10486MiB / 11019MiB |     33%      Default |",
    (Event("line", b"MiB |", LINE),),
    _settle,
)
