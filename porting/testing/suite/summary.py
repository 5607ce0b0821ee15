"""summary.md of --report: a table of cases by levels for each target, from the comparisons that were written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path


def write_summary(folder: Path, header: Sequence[str], counts: str) -> Path:
    """Write it from FOLDER/TARGET/CASE.json."""
    lines = ["# Parity", "", *(f"- {line}" for line in header), "", counts, ""]
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        lines += [f"## {place.name}", "", *_table(place), ""]
    path = folder / "summary.md"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _table(folder: Path) -> Iterator[str]:
    yield "| case | L0 | L1 | L2 | L3 | L4 | compared | first difference |"
    yield "|---|---|---|---|---|---|---|---|"
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        mark = " (emulated)" if found["emulated"] else ""
        states = " | ".join(f"{level['state']}{mark}" for level in found["levels"])
        first = found["first"]
        told = "" if first is None else f"{first['level']} {first['what']}: {first['state']}, {first['reason']}"
        yield f"| {path.stem} | {states} | {found['compared']} of {found['total']} | {told.replace('|', '/')} |"
