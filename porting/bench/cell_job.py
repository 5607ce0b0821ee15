"""The verb `bench_cell`: a cell trained in a process of its own while a monitor watches, on the machine that it is on.

Of a result that is `done`:

    backend, emulated          as porting.backends.found resolved the one that was asked for
    start                      when the first step began, seconds of CLOCK_MONOTONIC
    seconds, loss              of every step
    per_epoch, examples        steps of an epoch; examples of training and evaluation
    evaluation                 loss and the task's metrics
    readings                   [seconds since `start`, device, power, utilisation, memory], null where not told
    reads                      the device of `readings` that the cell ran on; empty where that is not known
    monitor                    meters that are missing, problems, moments missed
    load                       of the machine before and after: processes that run or wait, over a minute
    peak_rss                   bytes of the process that trained
    device, versions, switches, mode, code, data, recipe, notes, compilations

Of any other, `state`, `reason`, and `tail`, the last lines of its output, if it got so far.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from porting.backends.found import Resolved, usable
from porting.backends.names import BackendName
from porting.backends.process import Outcome, call
from porting.bench.monitor import Monitor
from porting.bench.reading import HOST
from porting.errors import PortError, UsageError, first_line_of

if TYPE_CHECKING:
    from porting.backends.worker import Progress

VERB = "porting.bench.train_job:train_cell"

QUIET = 1800.0
"""Seconds that a cell may tell nothing before it is taken to hang: a large model's graph takes minutes to compile."""

ORDER = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
"""CUDA numbers devices by speed unless it is told to number them as NVML does, whose readings are the cell's."""

FULL = (
    "out of memory", "outofmemory", "memoryerror", "resource_exhausted", "resourceexhausted", "bad_alloc",
    "can't allocate memory", "cannot allocate memory", "unable to allocate", "failed to alloc", "alloc memory failed",
)  # fmt: skip
"""What frameworks, allocators and Python say, in lower case, where memory is not enough."""

VISIBLE = {"gpu": ("nvidia", "CUDA_VISIBLE_DEVICES"), "npu": ("ascend", "ASCEND_RT_VISIBLE_DEVICES")}


def bench_cell(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Run a cell. Whatever becomes of it is a result. Raises: PortError where no monitor can be started."""
    try:
        resolved = _resolved(job["backend"])
    except UsageError as error:
        return {"state": "not_run", "reason": "; ".join(line.strip() for line in str(error).splitlines())}
    own = {**job, "verb": VERB, "backend": str(resolved.backend), "emulated": resolved.emulated}
    killed, load = _killed(), os.getloadavg()[0]
    with (
        TemporaryDirectory(prefix="porting-bench-", ignore_cleanup_errors=True) as scratch,
        Monitor(job["setting"]["period"]) as monitor,
    ):
        try:
            heard = _Heard(monitor, progress)
            ended = call(resolved.backend, own, timeout=QUIET, folder=Path(scratch), progress=heard, renewed=True)
        except PortError as error:
            return {"state": "refused", "reason": first_line_of(error), "backend": str(resolved.backend)}
    known = {"backend": str(resolved.backend), "emulated": resolved.emulated}
    if ended.state == "crashed":
        return {**known, **_crashed(ended, by_system=_killed() > killed)}
    found: dict[str, Any] = ended.result
    watched = {"readings": _readings(monitor, found["start"]), "reads": _reads(resolved.backend, monitor)}
    said = {"missing": monitor.missing, "problems": monitor.problems, "missed": dict(monitor.missed)}
    notes = [*found["notes"], *ended.notes]
    loads = {"load": [load, os.getloadavg()[0]]}
    return {"state": "done", "reason": "", **known, **found, "notes": notes, **watched, "monitor": said, **loads}


@dataclass(frozen=True, slots=True)
class _Heard:
    """Takes what the process tells: its number, so that its memory is watched, and how far it is."""

    monitor: Monitor
    progress: Progress

    def __call__(self, values: Mapping[str, Any]) -> None:
        if "pid" in values:
            self.monitor.watch(values["pid"])
        else:
            self.progress(values)


@lru_cache
def _resolved(backend: str) -> Resolved:
    """Tried once; a CPU is there without trying. Raises: UsageError."""
    return usable(BackendName.parse(backend))


def _crashed(ended: Outcome, *, by_system: bool) -> dict[str, Any]:
    """What became of a process that gave no result. by_system: whether the system killed one for memory meanwhile."""
    lines = [ended.reason, *ended.tail]
    full = by_system or any(word in line.lower() for line in lines for word in FULL)
    reason = ended.reason
    if by_system:
        reason += " (the system counts one more process killed for want of memory)"
    return {"state": "out_of_memory" if full else "crashed", "reason": reason, "tail": list(ended.tail)}


def _killed() -> int:
    """Processes that the system has killed for want of memory since it began, as far as it tells."""
    try:
        with open("/proc/vmstat", encoding="ascii") as lines:  # noqa: PTH123 - a name, not a path of ours
            return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0


def _readings(monitor: Monitor, start: float) -> list[list[Any]]:
    return [
        [round(one.time - start, 4), one.device, one.power, one.utilization, one.memory] for one in monitor.readings
    ]


def _reads(backend: BackendName, monitor: Monitor) -> str:
    """Whose readings are the cell's: the first device that its process may see; the host's on a CPU."""
    if backend.kind == "cpu" or backend.options:
        return HOST
    maker, variable = VISIBLE[backend.kind]
    there = {one.device for one in monitor.readings if one.device.startswith(f"{maker}:")}
    if len(there) == 1:
        return there.pop()
    name, order = ORDER
    if maker == "nvidia" and os.environ.get(name, order) != order:
        return ""
    wanted = f"{maker}:{os.environ.get(variable, '0').split(',')[0].strip()}"
    return wanted if wanted in there else ""
