"""Reads `npu-smi info -m` and the key:value form `npu-smi info -t …`.

The framed table of a bare `npu-smi info` differs by version and product, and is not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from porting.backends.system import System

HEALTHY = "OK"


@dataclass(frozen=True, slots=True)
class Chip:
    """One NPU.

    card, chip: its place, as npu-smi counts it (`-i`, `-c`); logic: the number that frameworks and
    ASCEND_RT_VISIBLE_DEVICES know it by. name: `910B2`, `310P3`. health: `OK`, `Warning`, `Alarm`, `Critical`, or
    `` where npu-smi does not tell. values: what -t common and -t usages say, by npu-smi's own keys.
    """

    card: int
    chip: int
    logic: int
    name: str
    health: str
    values: Mapping[str, str]

    @property
    def memory_mb(self) -> int | None:
        """Capacity of its memory: HBM of training products, DDR of others. None where npu-smi does not tell."""
        for key in ("HBM Capacity(MB)", "DDR Capacity(MB)"):
            if self.values.get(key, "").isdigit() and self.values[key] != "0":
                return int(self.values[key])
        return None


def sections(text: str) -> list[dict[str, str]]:
    r"""Keys and values of each part of an output; parts are divided by empty lines.

    >>> sections("NPU ID   : 0\nChip Count : 1\n\nChip ID : 0\nNPU Real-time Power(W) : 69.0")
    [{'NPU ID': '0', 'Chip Count': '1'}, {'Chip ID': '0', 'NPU Real-time Power(W)': '69.0'}]
    """
    parts: list[dict[str, str]] = [{}]
    for line in text.splitlines():
        if not line.strip():
            parts.append({})
            continue
        key, colon, value = line.partition(":")
        if colon and key.strip():
            parts[-1][" ".join(key.split())] = value.strip()
    return [part for part in parts if part]


def of_chip(text: str, chip: int) -> dict[str, str]:
    """What an output says of one chip, or of all chips of the card; nothing of the board's controller (Mcu).

    Some outputs give the chip's number after its values (-t power), and some none at all (-t health of one chip).
    """
    found: dict[str, str] = {}
    for part in sections(text):
        if part.get("Chip Name", "").lower() != "mcu" and part.get("Chip ID", str(chip)) == str(chip):
            found |= part
    return found


def mapping(text: str) -> list[tuple[int, int, int, str]]:
    """Card, chip, logic number and name of each NPU in the output of `npu-smi info -m`.

    Columns are known by their headings, which stand two spaces or more apart: the 950 series has other ones.
    Controllers (Mcu) have no logic number.
    """
    found, head = [], [""]
    for line in text.splitlines():
        words = re.split(r"\s{2,}", line.strip())
        if words[0] == "NPU ID":
            head = words
        elif len(words) == len(head):
            row = dict(zip(head, words, strict=True))
            logic = row.get("Chip Logic ID", row.get("Chip Phy-ID", ""))
            if logic.isdigit():
                found.append((int(row["NPU ID"]), int(row.get("Chip ID", "0")), int(logic), row.get("Chip Name", "")))
    return found


def chips(system: System) -> tuple[list[Chip], str]:
    """The NPUs that npu-smi shows, and what it said where it shows none."""
    program = system.which("npu-smi") or ""
    if not program:
        return [], "there is no npu-smi"
    text = system.command([program, "info", "-m"])
    found = [_chip(system, program, *place) for place in mapping(text)]
    said = next((line.strip() for line in text.splitlines() if line.strip()), "npu-smi said nothing")
    return found, "" if found else said


def _chip(system: System, program: str, card: int, chip: int, logic: int, name: str) -> Chip:
    values: dict[str, str] = {}
    for topic in ("common", "usages", "memory", "health"):
        values |= of_chip(system.command([program, "info", "-t", topic, "-i", str(card)]), chip)
    health = values.get("Health", values.get("Health Status", ""))
    return Chip(card, chip, logic, name, health, values)
