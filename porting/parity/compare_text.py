"""A comparison as text: what came of it first, then a table with layers collapsed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from porting.convert.columns import aligned
from porting.convert.names import grouped
from porting.errors import readable
from porting.parity.capture import Manifest
from porting.parity.compare import Comparison
from porting.parity.state import Finding, Level, State, Verdict

Row = tuple[str, ...]

HEAD: Row = ("level", "what", "", "state", "measure", "value", "limit", "why")

MOST = 30
"""Rows of a level; the rest is counted."""

TITLES = {
    Level.WEIGHTS: "weights",
    Level.SETTINGS: "settings",
    Level.FORWARD: "forward",
    Level.BACKWARD: "backward",
    Level.STEP: "one step",
}


def comparison_lines(found: Comparison) -> list[str]:
    """Summary and table, plain."""
    return [*summary_lines(found), "", *aligned([HEAD, *rows_of(found)], right=(5, 6)), *_information(found)]


def summary_lines(found: Comparison) -> list[str]:
    """The first lines: the state, what it covers, whether anything was emulated, the first difference."""
    overall = found.overall
    lines = [f"{overall.state}  {found.source.model}: {_side(found.source)} -> {_side(found.target)}"]
    lines += [f"  {overall.reason}"] if overall.reason else []
    lines.append(f"  compared: {overall.compared} of {overall.total} ({100 * overall.coverage:.1f} %)")
    if overall.emulated:
        kinds = " and ".join(dict.fromkeys(m.emulated for m in (found.source, found.target) if m.emulated))
        lines.append(f"  EMULATED ({kinds}): says nothing good about the device itself")
    if found.first is not None:
        lines.append(f"  first difference: {_finding(found.first)}")
    if found.rule is not None:
        first = found.rule.decisive
        lines.append(f"  by {found.rule.reason}: {found.rule.state}{'' if first is None else f', {_finding(first)}'}")
    return [readable(line) for line in lines]


def _side(manifest: Manifest) -> str:
    return f"{manifest.backend}, EMULATED" if manifest.emulated else manifest.backend


def _finding(finding: Finding) -> str:
    where = f"{finding.level} {finding.what}{f' ({finding.mode})' if finding.mode else ''}"
    return f"{where}: {finding.state}, {finding.reason}" if finding.reason else f"{where}: {finding.state}"


def rows_of(found: Comparison) -> list[Row]:
    """A row per level, and under it one per collapsed name and state; of equal weights and settings only the count."""
    return [tuple(map(readable, row)) for level in found.levels for row in _level(level)]


def _level(level: Verdict) -> Iterator[Row]:
    assert level.level is not None  # noqa: S101 - of all levels together there is no row
    covered = f"{level.compared} of {level.total}" if level.total else level.reason
    yield (level.level, TITLES[level.level], "", level.state, "", covered, "", "")
    quiet = level.level in (Level.WEIGHTS, Level.SETTINGS)
    shown = [finding for finding in level.findings if not (quiet and finding.state is State.PASS)]
    rows = list(_groups(shown))
    yield from rows[:MOST]
    if len(rows) > MOST:
        yield ("", f"and {len(rows) - MOST} more", "", "", "", "", "", "")


def _groups(findings: Sequence[Finding]) -> Iterator[Row]:
    """Findings of one state and mode whose names differ in one number only, as one: the worst stands for all."""
    parts: dict[tuple[str, State, str], list[Finding]] = {}
    for finding in findings:
        parts.setdefault((finding.mode, finding.state, finding.measure or finding.reason), []).append(finding)
    groups: list[tuple[int, Row]] = []
    order = {id(finding): place for place, finding in enumerate(findings)}
    for (mode, state, _), members in parts.items():
        by_name = {finding.what: finding for finding in members}
        for shown, names in grouped(by_name).items():
            worst = max((by_name[name] for name in names), key=_excess)
            place = min(order[id(by_name[name])] for name in names)
            groups.append((place, ("", f"  {shown}", mode, state, *_measure(worst))))
    yield from (row for _, row in sorted(groups, key=lambda group: group[0]))


def _excess(finding: Finding) -> float:
    if finding.value is None:
        return 0.0
    return finding.value / finding.limit if finding.limit else finding.value


def _measure(finding: Finding) -> tuple[str, str, str, str]:
    value, limit = ("" if number is None else f"{number:.2e}" for number in (finding.value, finding.limit))
    judged = finding.state in (State.PASS, State.FAIL) and finding.source
    return finding.measure, value, limit, finding.source if judged else finding.reason or finding.source


def _information(found: Comparison) -> list[str]:
    """Notes, and the settings that differ and may."""
    notes = [readable(f"  {note}") for note in found.notes]
    lines = ["", "notes:", *notes[:MOST], *_more(len(notes))] if notes else []
    if not found.information:
        return lines
    rows = [(f"  {one.what}", one.source, one.target) for one in found.information]
    return [*lines, "", "differs, and may:", *map(readable, aligned(rows[:MOST])), *_more(len(rows))]


def _more(count: int) -> list[str]:
    return [f"  and {count - MOST} more"] if count > MOST else []


_COLOURS = {State.PASS: "green", State.CONDITIONAL: "yellow", State.FAIL: "bold red"}


def show_comparison(found: Comparison) -> None:
    """Print it: with colours and a table that fits on a terminal, as plain lines anywhere else."""
    if not sys.stdout.isatty():
        sys.stdout.write("\n".join(comparison_lines(found)) + "\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    head, *rest = summary_lines(found)
    console.print(Text(head, style=_COLOURS.get(found.overall.state, "magenta")))
    for line in rest:
        console.print(Text(line))
    table = Table(*HEAD, box=None, header_style="dim")
    for row in rows_of(found):
        style = "bold" if row[0] else ""
        state = Text(row[3], style=_COLOURS.get(State(row[3]), "magenta") if row[3] else "")
        table.add_row(*(state if place == 3 else Text(cell, style=style) for place, cell in enumerate(row)))
    console.print(table)
    for line in _information(found):
        console.print(Text(line, style="dim"))
