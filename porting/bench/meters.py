"""Meters: what can be asked for power, utilisation and memory. One that has nothing to tell says why."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from porting.backends.npu_smi import Chip, chips, of_chip
from porting.backends.system import System, this_machine
from porting.bench.reading import HOST, Reading

Read = Callable[[], Sequence[Reading]]
"""Asks once. May raise anything when a device has gone: the sampler notes it and asks again."""

MIB = float(1 << 20)


@dataclass(frozen=True, slots=True)
class Meter:
    """One source of readings, asked in a thread of its own so that a slow one holds up none. name: `host`, `nvidia`."""

    name: str
    read: Read


def meters(pids: Sequence[int], system: System | None = None) -> tuple[list[Meter], list[str]]:
    """All that there are here, and why the others are not.

    pids: processes whose memory is that of the host's readings, with all that they start; more may be added later.
    """
    found, missing = [Meter(HOST, host(pids))], []
    try:
        found.append(Meter("nvidia", nvidia()))
    except Exception as error:  # noqa: BLE001 - pynvml raises classes of its own, of which none may end a measurement
        missing.append(f"nvidia: {error}")
    try:
        found.append(Meter("ascend", ascend(system or this_machine())))
    except LookupError as error:
        missing.append(f"ascend: {error.args[0]}")
    return found, missing


def host(pids: Sequence[int]) -> Read:
    """All cores' utilisation since the last time, and the resident memory of processes.

    The first reading tells no utilisation, and none tells memory before there is a process.
    A machine's power is not told: RAPL's counters are root's, and of the package only.
    """
    import psutil

    psutil.cpu_percent(None)
    first = [True]

    def read() -> Sequence[Reading]:
        busy = psutil.cpu_percent(None)
        memory = _resident(pids) / MIB if pids else None
        told = None if first[0] else busy
        first[0] = False
        return [Reading(time.monotonic(), HOST, None, told, memory)]

    return read


def _resident(pids: Sequence[int]) -> int:
    """Bytes of the processes and of all that they have started; pages that they share count for each."""
    import psutil

    total, todo, seen = 0, list(pids), set[int]()
    while todo:
        pid = todo.pop()
        if pid in seen:
            continue
        seen.add(pid)
        try:
            total += psutil.Process(pid).memory_info().rss
            todo += _children(pid)
        except (psutil.Error, OSError):  # it has ended meanwhile
            continue
    return total


def _children(pid: int) -> list[int]:
    """What a process has started. Asking psutil takes a hundred times as long: it reads every process there is."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        return [int(one) for task in tasks.iterdir() for one in (task / "children").read_text().split()]
    except FileNotFoundError:  # a kernel without these files, or a thread that has just ended
        import psutil

        return [child.pid for child in psutil.Process(pid).children()]


def nvidia() -> Read:
    """By NVML. Raises: ImportError without nvidia-ml-py; NVMLError without a driver or a device."""
    import pynvml

    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    if not handles:
        raise LookupError("NVML finds no device")

    def told(ask: Callable[[Any], Any], handle: Any) -> Any:
        try:
            return ask(handle)
        except pynvml.NVMLError_NotSupported:
            return None

    def one(number: int, handle: Any) -> Reading:
        power = told(pynvml.nvmlDeviceGetPowerUsage, handle)  # milliwatts
        rates = told(pynvml.nvmlDeviceGetUtilizationRates, handle)
        memory = told(pynvml.nvmlDeviceGetMemoryInfo, handle)
        return Reading(
            time.monotonic(),
            f"nvidia:{number}",
            None if power is None else power / 1000,
            None if rates is None else float(rates.gpu),
            None if memory is None else memory.used / MIB,
        )

    return lambda: [one(number, handle) for number, handle in enumerate(handles)]


def ascend(system: System) -> Read:
    """By `npu-smi info -t power` and `-t usages`. Raises: LookupError with what npu-smi said where it shows none."""
    there, said = chips(system)
    program = system.which("npu-smi")
    if not there or program is None:
        raise LookupError(said)
    return lambda: [_ascend(system, program, chip) for chip in there]


def _ascend(system: System, program: str, chip: Chip) -> Reading:
    ask = partial(_topic, system, program, chip)
    values = {**ask("power"), **ask("usages")}
    rate, capacity = number(values.get("HBM Usage Rate(%)")), number(values.get("HBM Capacity(MB)"))
    capacity = capacity or chip.memory_mb
    return Reading(
        time.monotonic(),
        f"ascend:{chip.logic}",
        number(values.get("NPU Real-time Power(W)")),
        number(values.get("Aicore Usage Rate(%)")),
        None if rate is None or capacity is None else rate / 100 * capacity,
    )


def _topic(system: System, program: str, chip: Chip, topic: str) -> dict[str, str]:
    return of_chip(system.command([program, "info", "-t", topic, "-i", str(chip.card)]), chip.chip)


def number(text: str | None) -> float | None:
    """A value of npu-smi's; None for `NA`, `-`, or nothing.

    >>> number("69.0"), number("NA"), number("-"), number(None)
    (69.0, None, None, None)
    """
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None  # noqa: PLR0124 - only NaN is unlike itself
