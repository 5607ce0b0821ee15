"""An acceptance as JSON: all of it, every step of every curve; `schema.json` beside this file says how.

Numbers that JSON does not know are strings: nan, inf, -inf.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from porting.acceptance.acceptance import Acceptance, Curve, Pace, Speed
from porting.acceptance.trajectory import Series
from porting.checkpoint.format import head, whole
from porting.convert.columns import jsonable
from porting.errors import FormatError
from porting.parity.layout import SELF, self_hash
from porting.report.advice_text import advice_text
from porting.report.words import Words

VERSION = 1
NAME = "report.json"

LIMIT = 1 << 30
"""Bytes of a report: 1,000,000 steps of one curve take 22 MB."""


def report_json(found: Acceptance) -> dict[str, Any]:
    """Everything in it, as JSON values; without what belongs to the files: their hashes and the sign-off."""
    words, overall = Words("en"), found.overall
    values = {
        "version": VERSION,
        "kit": found.kit,
        "made": found.made,
        "state": found.state,
        "passed": found.passed,
        "emulated": found.emulated,
        "missing": list(found.missing),
        "criteria": found.criteria,
        "disagree": found.disagree,
        "calibrated": {**overall.to_json(), "findings": []},
        "rule": None if found.rule is None else found.rule.to_json(),
        "rule_file": None if found.rule_file is None else asdict(found.rule_file),
        "source": asdict(found.source),
        "target": asdict(found.target),
        "levels": [level.to_json() for level in found.levels],
        "curves": [_curve(curve) for curve in found.curves],
        "speed": None if found.speed is None else _speed(found.speed),
        "qualities": [{**asdict(one), "difference": one.difference} for one in found.qualities],
        "counts": {name: {"source": a, "target": b} for name, (a, b) in found.counts.items()},
        "differences": [asdict(one) for one in found.differences],
        "advice": [{**asdict(one), "text": advice_text(words, one)} for one in found.advice],
        "notes": list(found.notes),
        "regression": None if found.regression is None else asdict(found.regression),
    }
    made: dict[str, Any] = json.loads(json.dumps(jsonable(values), allow_nan=False))
    return made


def report_text(values: Mapping[str, Any]) -> str:
    """The file: a key a line, so that people can look into it, and lists of numbers take no line each."""
    hashed = {**values, SELF: self_hash(values)}
    rows = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in hashed.items()]
    return "{\n" + ",\n".join(rows) + "\n}\n"


def read_report(path: str | Path) -> dict[str, Any]:
    """The values of a report: of its file, or of the folder that holds it.

    Raises: FormatError for a file that is none, of another version, or changed after it was written.
    """
    place = Path(path)
    place = place / NAME if place.is_dir() else place
    try:
        values = json.loads(whole(place, LIMIT))
    except (ValueError, RecursionError) as error:
        raise FormatError(place, "", f"is no report: {error}") from None
    if not is_report(values):
        raise FormatError(place, "", "is no report of `port accept`")
    if values["version"] != VERSION:
        raise FormatError(place, "version", f"wanted {VERSION}, got {values['version']!r}")
    claimed = values.pop(SELF)
    if claimed != self_hash(values):
        raise FormatError(place, "", "was changed after it was written: the hash over it does not hold")
    return dict(values)


def is_report_file(path: str | Path) -> bool:
    """Whether a path is a report, or a folder that holds one; by content, and never raises."""
    place = Path(path)
    try:
        if place.is_dir():
            return (place / NAME).is_file()
        return head(place, 1) == b"{" and is_report(json.loads(whole(place, LIMIT)))
    except (FormatError, OSError, ValueError, RecursionError):
        return False


def is_report(values: object) -> bool:
    """Whether a JSON value is a report, by content."""
    return isinstance(values, dict) and {"version", "levels", "sign_off", "files", SELF} <= values.keys()


def _curve(curve: Curve) -> dict[str, Any]:
    parts = ("source", "target", "low", "high", "z")
    return {"name": curve.name, **{part: _series(getattr(curve, part)) for part in parts}}


def _series(series: Series | None) -> dict[str, Any] | None:
    if series is None:
        return None
    return {"steps": _steps(series), "values": series.values.tolist(), "resolution": series.resolution}


def _steps(series: Series) -> dict[str, int] | list[int]:
    """Regular steps by start, stride and count."""
    apart = np.diff(series.steps)
    if len(apart) and (apart == apart[0]).all():
        return {"start": int(series.steps[0]), "stride": int(apart[0]), "count": len(series.steps)}
    return [int(step) for step in series.steps]


def _speed(speed: Speed) -> dict[str, Any]:
    sides = {"source": _pace(speed.source), "target": _pace(speed.target)}
    return {**sides, "ratio": speed.ratio, "interval": speed.interval}


def _pace(pace: Pace | None) -> dict[str, Any] | None:
    if pace is None:
        return None
    names = "median p95 jitter steps warm_up first compile examples tokens memory_mb given".split()
    values = None if pace.values is None else pace.values.tolist()
    return {**{name: getattr(pace, name) for name in names}, "values": values}
