"""`port doctor` for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from porting.backends.ascend import NONE, Ascend
from porting.backends.doctor import Examination
from porting.backends.found import Found, Resolved

_OWN = ("porting", "python")
"""Versions that stand in the first line."""


def examination_lines(found: Examination) -> list[str]:
    """What `port doctor` prints."""
    machine = found.machine
    kit = f"porting kit {machine['porting']}, Python {machine['python']}"
    lines = [f"{kit}, {machine['system']}, {machine['processors']} processors", "", "backends"]
    for backend in found.backends:
        lines += _backend(backend)
    lines += ["", "aliases", *(f"  {name:<18} {_alias(what)}" for name, what in found.aliases.items())]
    lines += ["", "Ascend", *_ascend(found.ascend)]
    lines += ["", "NVIDIA", *(f"  {line}" for line in found.gpus or ("no nvidia-smi",))]
    lines += ["", "environment", *(_pairs(found.environment) or ["  nothing is set that changes what is computed"])]
    return lines


def _backend(found: Found) -> Iterator[str]:
    if found.device is None:
        yield f"  {found.backend!s:<18} not available: {found.problem}"
        if found.todo:
            yield f"  {'':<18} {found.todo}"
        return
    device = found.device
    count = f"{device['count']} x " if device["count"] > 1 else ""
    versions = (f"{name} {version}" for name, version in device["versions"].items() if name not in _OWN)
    yield f"  {found.backend!s:<18} {count}{device['name']}, {', '.join(versions)}"
    switches = ", ".join(f"{name}={value}" for name, value in device["switches"].items())
    if switches:
        yield f"  {'':<18} {switches}"


def _alias(found: Resolved | str) -> str:
    if isinstance(found, str):
        return found
    return f"{found.backend}, {found.reason}" if found.emulated else str(found.backend)


def _ascend(found: Ascend) -> Iterator[str]:
    if not found.signs:
        yield f"  no sign of one: {NONE}"
        return
    yield f"  signs              {', '.join(found.signs)}"
    yield from _pairs(found.versions)
    for chip in found.chips:
        memory = f", {chip.memory_mb} MB" if chip.memory_mb else ""
        power = chip.values.get("NPU Real-time Power(W)", "")
        use = chip.values.get("Aicore Usage Rate(%)", "")
        more = (f", {power} W" if power else "") + (f", {use} % in use" if use else "")
        yield f"  NPU {chip.logic:<14} {chip.name}, health {chip.health or 'not told'}{memory}{more}"
    yield from (f"  problem            {problem}" for problem in found.problems)


def _pairs(values: Mapping[str, str]) -> list[str]:
    return [f"  {name:<18} {value}" for name, value in values.items()]
