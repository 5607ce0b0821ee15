"""A conversion whose tensors are brought over by workers: processes here, or tasks on the nodes of a cluster.

The driver plans, and begins the output's part files; each worker makes the same plan from the same files, and fills
some of the tensors' places; the driver writes what only all checksums together tell, and puts the files in place. What
a worker writes depends on nothing but the source, so that one which is lost is replaced by another that writes
the same again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from porting.checkpoint.format import Layout
from porting.checkpoint.output import Output
from porting.cluster.engine import lost_nodes, stream
from porting.cluster.job import Job as ClusterJob
from porting.cluster.job import Result
from porting.cluster.local import HERE
from porting.convert.account import Job
from porting.convert.asked import Asked
from porting.convert.fill import Filled, Progress, Way, sound_beside
from porting.errors import FormatError, PortError

if TYPE_CHECKING:
    from porting.checkpoint.write import LaidOut

VERB = "porting.cluster.conversion_job:fill_part"

SHARE = 256 << 20
"""Bytes that a worker is given at a time, unless one tensor has more: a lost node costs no more than that."""

EVEN = 1.05
"""How much more than its part of all a worker may take, so that what does not fit makes no share of its own."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Brings tensors over by workers. count: at the same time here; a cluster has as many as it has CPUs."""

    asked: Asked
    cluster: str | None = None
    count: int | None = None
    tell: Callable[[str], None] | None = None

    def fill(self, output: Output, job: Job, way: Way, step: Progress | None) -> Filled:
        """As porting.convert.fill.fill_here. Raises: what a worker raised; FormatError if one did not end well."""
        parts = shares(job.ready.layout, self._limit(job.ready.layout))
        jobs = [_share(self.asked, output, job, way, names) for names in parts]
        heard, filled = _Heard(step, self.tell), Filled()
        with sound_beside(job, way, filled):
            ended = stream(jobs, cluster=self.cluster, workers=1 if self.count is None else self.count, progress=heard)
            for number, result in ended:
                if result.state != "done":
                    ended.close()
                    raise _ended(result, job.target)
                filled.add(Filled.from_json(result.value), job)
                heard(number, {"bytes": sum(map(job.ready.layout.size, parts[number])) * (2 if way.verify else 1)})
        return filled

    def _limit(self, layout: Layout) -> int:
        """Bytes of a share. Here each worker has one, for none is lost alone, and to begin one costs time."""
        return SHARE if self.cluster else max(SHARE, int(layout.nbytes / (self.count or 1) * EVEN))


def shares(layout: Layout, limit: int) -> list[list[str]]:
    """The tensors of a layout in the order of the files, those of one file together, about `limit` bytes in each.

    >>> from porting.checkpoint.format import Extent, Layout
    >>> shares(Layout(("a", "b"), {"x": (Extent(0, 0, 6),), "y": (Extent(0, 6, 6),), "z": (Extent(1, 0, 2),)}), 8)
    [['x'], ['y'], ['z']]
    """
    found: list[list[str]] = []
    room, last = 0, -1
    for name in layout.in_order():
        runs = layout.extents[name]
        size, file = layout.size(name), runs[0].file if runs else last
        if not found or size > room or file != last:
            found.append([])
            room, last = limit, file
        found[-1].append(name)
        room -= size
    return found


def fingerprint(ready: LaidOut) -> str:
    """sha256 over where everything goes: what driver and workers must agree on."""
    layout = ready.layout
    values: list[Any] = [list(layout.files), layout.checksum, dict(layout.packing)]
    values += [[name, [run._asdict() for run in runs]] for name, runs in layout.extents.items()]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def stamps(job: Job) -> list[list[Any]]:
    """Of every file that is read its path, size and time of change."""
    states = [(file.absolute(), file.stat()) for file in job.prepared.source.files]
    return [[str(file), state.st_size, state.st_mtime_ns] for file, state in states]


def _share(asked: Asked, output: Output, job: Job, way: Way, names: list[str]) -> ClusterJob:
    files = sorted({run.file for name in names for run in job.ready.layout.extents[name]})
    values = {
        "verb": VERB,
        "asked": asked.absolute().to_json(),
        "parts": {str(file): str(output.parts[file].absolute()) for file in files},
        "names": names,
        "fingerprint": fingerprint(job.ready),
        "stamps": stamps(job),
        "algorithm": way.algorithm,
        "verify": way.verify,
    }
    return ClusterJob(f"{output.names[files[0]] if files else job.target.name}: {len(names)} tensors", values)


def _ended(result: Result, target: Path) -> PortError:
    """What a worker was refused by; of a node with its name, for what is wrong may be wrong only there."""
    where = "" if result.node in {"", HERE} else f"node {result.node}: "
    if result.error is not None and not where:
        return result.error
    return FormatError(target, "", f"a worker ended: {where}{result.reason}")


class _Heard:
    """What workers tell: how many bytes each has done, of which only more than before is passed on."""

    def __init__(self, step: Progress | None, tell: Callable[[str], None] | None) -> None:
        self._step = step
        self._lost = lost_nodes(tell)
        self._done: dict[int, int] = {}

    def __call__(self, number: int, values: Mapping[str, Any]) -> None:
        self._lost(number, values)
        more = values.get("bytes", 0) - self._done.get(number, 0)
        if more > 0 and self._step:
            self._done[number] = values["bytes"]
            self._step(more)
