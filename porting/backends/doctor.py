"""`port doctor`: what is on this machine, and why something cannot be used, in words that say what to do."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from porting.backends.ascend import Ascend, look
from porting.backends.found import Found, Resolved, find, resolve
from porting.backends.names import ALIASES, BackendName, Kind, names
from porting.backends.process import Outcome
from porting.backends.switches import recorded
from porting.backends.system import System, this_machine
from porting.errors import UsageError, first_line_of
from porting.version import VERSION

AT_ONCE = 2
"""Frameworks that are started side by side: each takes a core and half a gigabyte for some seconds."""

_QUERY = ("--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader")


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found.

    machine: kit, Python, system, processors. backends: all there can be, in the order of `names`. aliases: what cpu,
    gpu and npu come to, or why to nothing. gpus: a line each, of nvidia-smi. environment: variables that are set and
    change what is computed.
    """

    machine: Mapping[str, str]
    backends: tuple[Found, ...]
    aliases: Mapping[Kind, Resolved | str]
    ascend: Ascend
    gpus: tuple[str, ...]
    environment: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        backends = [{**asdict(found), "backend": str(found.backend)} for found in self.backends]
        aliases = {
            name: {"problem": found} if isinstance(found, str) else {**asdict(found), "backend": str(found.backend)}
            for name, found in self.aliases.items()
        }
        return {**asdict(replace(self, backends=(), aliases={})), "backends": backends, "aliases": aliases}


def examine(system: System | None = None) -> Examination:
    """Look at everything, and try every backend that may be there: some seconds for each framework installed."""
    system = system or this_machine()
    backends = [BackendName.parse(name) for name in names()]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = tuple(pool.map(lambda backend: find(backend, system), backends))
    machine = {
        "porting": VERSION,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": str(os.cpu_count()),
    }
    aliases = {name: _alias(name, replace(system, probe=_known(found))) for name in ALIASES}
    return Examination(machine, found, aliases, look(system), _gpus(system), recorded(system.environ))


def _known(found: tuple[Found, ...]) -> Any:
    """A probe that remembers, so that nothing is tried twice."""
    outcomes = {
        each.backend: Outcome("crashed" if each.device is None else "done", each.device, each.problem, each.log)
        for each in found
    }
    return outcomes.__getitem__


def _alias(name: Kind, system: System) -> Resolved | str:
    try:
        return resolve(BackendName(None, name), system)
    except UsageError as error:
        return first_line_of(error)


def _gpus(system: System) -> tuple[str, ...]:
    program = system.which("nvidia-smi")
    if not program:
        return ()
    return tuple(line.strip() for line in system.command([program, *_QUERY]).splitlines() if line.strip())
