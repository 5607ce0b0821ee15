"""A report held against a previous one: what was shown then, and is not now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from porting.acceptance.acceptance import Acceptance, Change, Direction, Regression
from porting.acceptance.inputs import input_of
from porting.parity.state import Level, State, Verdict
from porting.report.json import NAME, read_report


def regression_against(previous: Path, found: Acceptance) -> Regression:
    """What changed. Raises: FormatError for a previous report that is none, or was changed after it was written."""
    values = read_report(previous)
    return Regression(input_of(previous / NAME if previous.is_dir() else previous), tuple(changes(values, found)))


def changes(previous: Mapping[str, Any], found: Acceptance) -> Iterator[Change]:
    """Every difference, the decision first.

    A state further from PASS is worse, and so is less of a level compared, and evidence that is emulated now. Numbers
    of speed and task are told and no more: what of them is too much is L6 and L7's to say.
    """
    yield from _state("verdict", str(previous["state"]), str(found.state))
    if previous["emulated"] != found.emulated:
        yield Change(
            "emulated", _yes(previous["emulated"]), _yes(found.emulated), "worse" if found.emulated else "better"
        )
    if previous["criteria"] != found.criteria:
        yield Change("criteria", previous["criteria"], found.criteria, "other")
    for side, party in (("source", found.source), ("target", found.target)):
        if previous[side]["name"] != party.name:
            yield Change(side, previous[side]["name"], party.name, "other")
    before = {level["level"]: level for level in previous["levels"]}
    for level in found.levels:
        if level.level is not None:
            yield from _level(level.level, before[level.level], level)
    yield from _numbers(previous, found)


def _level(name: Level, before: Mapping[str, Any], now: Verdict) -> Iterator[Change]:
    yield from _state(name, before["state"], now.state)
    if (before["compared"], before["total"]) != (now.compared, now.total):
        direction: Direction = "worse" if now.compared < before["compared"] else "other"
        told = f"{before['compared']} / {before['total']}", f"{now.compared} / {now.total}"
        yield Change(f"{name} compared", *told, direction)
    known = {(row["what"], row["mode"]): row["state"] for row in before["findings"]}
    for finding in now.findings:
        was = known.get((finding.what, finding.mode))
        if was is not None and was != finding.state:
            yield from _state(f"{name} {finding.what}{f' ({finding.mode})' * bool(finding.mode)}", was, finding.state)


def _state(what: str, before: str, now: str) -> Iterator[Change]:
    if before != now:
        worse = State(now).rank > State(before).rank
        yield Change(what, before, now, "worse" if worse else "better")


def _numbers(previous: Mapping[str, Any], found: Acceptance) -> Iterator[Change]:
    before = (previous["speed"] or {}).get("ratio")
    now = found.speed.ratio if found.speed else None
    if before != now:
        yield Change("L6 ratio", _told(before), _told(now), "other")
    known = {row["name"]: row["difference"] for row in previous["qualities"]}
    for quality in found.qualities:
        was = known.get(quality.name)
        if was != quality.difference:
            yield Change(f"L7 {quality.name}", _told(was), _told(quality.difference), "other")


def _told(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _yes(value: object) -> str:
    return "yes" if value else "no"
