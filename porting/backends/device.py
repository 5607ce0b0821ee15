"""Makes a device ready for measuring: determinism and precision set as far as it lets them, and all of it told.

`porting/backends/<framework>/device.py` has `prepare(device) -> Device`, which changes the process it is called in: a
worker's; and, where the framework tells, `peak_memory(device)`, bytes, of a device that is no CPU. A capture calls
`prepare` here before it opens its session; `port doctor` does too, so what it shows is what a capture would run with.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

from porting.backends.names import BackendName
from porting.backends.switches import recorded
from porting.version import VERSION


@dataclass(frozen=True, slots=True)
class Device:
    """A device that can be used.

    name: the product's (`Ascend910B2`), or the processor's. count: devices of this kind that the framework sees.
    versions: of the framework, and of what it computes with. switches: of precision and determinism, as they are now.
    """

    name: str
    count: int
    versions: Mapping[str, str]
    switches: Mapping[str, str]


def prepare(backend: BackendName) -> Device:
    """Make a backend's device ready in this process, which imports the framework. An emulated NPU is a CPU here.

    Raises: whatever the framework raises where the device cannot be used.
    """
    device = "cpu" if backend.options else backend.device
    found: Device = import_module(f"porting.backends.{backend.known}.device").prepare(device)
    versions = {"porting": VERSION, "python": platform.python_version(), **found.versions}
    return Device(found.name, found.count, versions, {**found.switches, **recorded(os.environ)})


MEGABYTE = 2.0**20


def peak_memory(backend: BackendName) -> float | None:
    """The most memory that the device has given this process so far, MB: of a CPU that of the process itself.

    None where the framework does not tell, and of an emulated device.
    """
    if backend.options:
        return None
    if backend.kind == "cpu":
        return resident_peak() / MEGABYTE
    told = getattr(import_module(f"porting.backends.{backend.known}.device"), "peak_memory", None)
    known = None if told is None else told(backend.device)
    return None if known is None else known / MEGABYTE


def resident_peak() -> int:
    """The most resident memory that this process has had so far, bytes.

    Not ru_maxrss where Linux tells better: that counts what the process was before it became this program, its parent.
    """
    with suppress(OSError), open("/proc/self/status", encoding="utf-8", errors="replace") as lines:  # noqa: PTH123 - a name, not a path of ours
        for line in lines:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def describe(job: Mapping[str, Any], progress: Any) -> dict[str, Any]:
    """The verb `describe`: a Device as JSON values. job: backend, as text."""
    del progress
    return asdict(prepare(BackendName.parse(job["backend"])))


def processor() -> str:
    """The CPU's name, as Linux tells it; the architecture where it does not (aarch64 has no model name)."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:  # noqa: PTH123 - a name, not a path of ours
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
