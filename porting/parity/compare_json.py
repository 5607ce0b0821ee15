"""A comparison as JSON values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from porting.convert.columns import jsonable
from porting.parity.capture import Manifest
from porting.parity.compare import Comparison
from porting.parity.deviations import Compared


def comparison_json(found: Comparison) -> dict[str, Any]:
    """Everything in it. Numbers that JSON does not know are strings: nan, inf, -inf."""
    first = found.first
    values = {
        "state": found.overall.state,
        "passed": found.passed,
        "emulated": found.overall.emulated,
        "reason": found.overall.reason,
        "coverage": found.overall.coverage,
        "compared": found.overall.compared,
        "total": found.overall.total,
        "first": None if first is None else asdict(first),
        "source": _side(found.source),
        "target": _side(found.target),
        "levels": [level.to_json() for level in found.levels],
        "criteria": found.criteria,
        "rule": None if found.rule is None else found.rule.to_json(),
        "information": [asdict(difference) for difference in found.information],
        "notes": list(found.notes),
        "deviations": [_deviation(one) for one in found.compared],
    }
    made: dict[str, Any] = jsonable(values)
    return made


def _side(manifest: Manifest) -> dict[str, Any]:
    names = (
        "model",
        "backend",
        "framework",
        "device",
        "emulated",
        "state",
        "reason",
        "content",
        "weights",
        "batch",
        "replica",
    )
    return {name: getattr(manifest, name) for name in names}


def _deviation(compared: Compared) -> dict[str, Any]:
    pair = compared.pair
    facts = {"section": pair.section, "name": pair.name, "reason": compared.reason}
    return facts if compared.deviation is None else {**facts, **asdict(compared.deviation)}
