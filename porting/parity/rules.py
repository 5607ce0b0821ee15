"""Judges two captures by somebody's rule: a preset, or a file of the user's."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from porting.errors import FormatError, UsageError
from porting.parity.deviations import Compared
from porting.parity.presets import CALIBRATED, RULES, Bound, Check, Measure, Rule, names
from porting.parity.state import Finding, State

Step = Mapping[str, Any]


def rule_named(name: str) -> Rule | None:
    """The rule of a name or of a TOML file; None for `calibrated`, which needs none beside it.

    Raises: UsageError for a name that there is not; FormatError for a file that is no rule.
    """
    if name == CALIBRATED:
        return None
    if name in RULES:
        return RULES[name]
    if not name.endswith(".toml"):
        raise UsageError(f"criteria {name}: not known; there are {', '.join(names())}, or a file FILE.toml")
    return read_rule(Path(name))


def read_rule(path: Path) -> Rule:
    """A rule from a TOML file.

        [[check]]
        on = "taps"                # or gradients, loss, grad_norm; step_time, memory with the measure ratio
        source = "our own: chapter 3"
        any = [{ measure = "cosine", limit = 0.999 }, { measure = "max abs", limit = 1e-4 }]
        steps = 0                  # that loss and grad_norm need at least

    Raises: FormatError naming the check and what is wrong with it.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FormatError(path, "", f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise FormatError(path, "", f"is no TOML: {error}") from None
    checks = values.pop("check", None)
    if values or not isinstance(checks, list) or not checks:
        raise FormatError(path, "", "wanted tables [[check]] and nothing else")
    return Rule(path.name, tuple(_check(path, f"check {i}", one) for i, one in enumerate(checks, 1)))


def _check(path: Path, place: str, values: Any) -> Check:
    bounds = values.get("any") if isinstance(values, dict) else None
    if not isinstance(bounds, list) or not bounds or not isinstance(values.get("source"), str):
        raise FormatError(path, place, "wanted on, source and any = [{ measure, limit }, …]")
    unknown = values.keys() - {"on", "source", "any", "steps"}
    if unknown or values.get("on") not in ("taps", "gradients", "loss", "grad_norm", "step_time", "memory"):
        raise FormatError(path, place, f"on = {values.get('on')!r}, unknown keys {sorted(unknown)}")
    return Check(
        values["on"], tuple(_bound(path, place, one) for one in bounds), values["source"], values.get("steps", 0)
    )


def _bound(path: Path, place: str, values: Any) -> Bound:
    known = get_args(Measure)
    if not isinstance(values, dict) or values.keys() != {"measure", "limit"} or values["measure"] not in known:
        raise FormatError(path, place, f"wanted measure and limit, the measure one of {', '.join(known)}")
    limit = values["limit"]
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not isfinite(limit):
        raise FormatError(path, place, f"limit: wanted a number, got {limit!r}")
    return Bound(values["measure"], float(limit))


def rule_findings(
    rule: Rule, compared: Sequence[Compared], source: Sequence[Step], target: Sequence[Step]
) -> Iterator[Finding]:
    """A finding per check on a series, one per tensor for checks on tensors."""
    for check in rule.checks:
        if check.on in ("loss", "grad_norm"):
            yield _series(check, source, target)
        elif check.on in _ELSEWHERE:
            yield Finding(check.level, check.on, State.NOT_RUN, _ELSEWHERE[check.on], source=check.source)
        else:
            found = [one for one in compared if one.pair.level is check.level and one.pair.mode != "forced"]
            yield from (_tensor(check, one) for one in found)
            if not found:
                yield Finding(check.level, check.on, State.NOT_RUN, "none were captured", source=check.source)


_ELSEWHERE = {
    "task": "two captures hold no task",
    "step_time": "two captures hold no steady state",
    "memory": "two captures hold no peak of memory",
}
"""What `port accept` judges, which has logs and training runs."""


def _tensor(check: Check, compared: Compared) -> Finding:
    found, name = compared.deviation, compared.pair.name
    if found is None:
        return Finding(check.level, name, State.UNMATCHED, compared.reason, source=check.source)
    values = {"cosine": found.cosine, "max abs": found.max_abs}
    if found.bitwise:
        values["cosine"] = 1.0
    if found.unlike or any(found.nan):
        return Finding(check.level, name, State.FAIL, "not finite", source=check.source)
    return _held(check, name, {bound.measure: values.get(bound.measure) for bound in check.bounds}, "")


def _series(check: Check, source: Sequence[Step], target: Sequence[Step]) -> Finding:
    pairs = [
        (float(a[check.on]), float(b[check.on]))
        for a, b in zip(source, target, strict=False)
        if check.on in a and check.on in b
    ]
    if not pairs:
        return Finding(check.level, check.on, State.NOT_RUN, "no steps were captured", source=check.source)
    absolute = [abs(b - a) for a, b in pairs]
    relative = [
        apart / abs(a) if a else (float("inf") if apart else 0.0) for apart, (a, _) in zip(absolute, pairs, strict=True)
    ]
    values: dict[str, float | None] = {
        "first abs": absolute[0],
        "first rel": relative[0],
        "mean abs": fmean(absolute),
        "mean rel": fmean(relative),
    }
    few = f"{len(pairs)} steps, the rule wants {check.steps}" if len(pairs) < check.steps else "one run on each side"
    return _held(check, check.on, values, few)


def _held(check: Check, name: str, values: Mapping[str, float | None], short: str) -> Finding:
    """The finding of the bound that is met best. short: why it can be no PASS, if so."""
    known = [(bound, value) for bound in check.bounds if (value := values.get(bound.measure)) is not None]
    if not known:
        measures = ", ".join(bound.measure for bound in check.bounds)
        return Finding(check.level, name, State.NOT_RUN, f"{measures}: was not measured", source=check.source)
    bound, value = next((one for one in known if _meets(*one)), known[0])
    good = _meets(bound, value)
    reason = "; ".join(part for part in (short, check.not_judged and f"not judged: {check.not_judged}") if part)
    state = State.FAIL if not good else State.CONDITIONAL if reason else State.PASS
    reason = reason if good else f"{bound.measure} {value:.4g}, limit {bound.limit:g}"
    return Finding(check.level, name, state, reason, "", bound.measure, value, bound.limit, check.source)


def _meets(bound: Bound, value: float) -> bool:
    return value >= bound.limit if bound.measure == "cosine" else value <= bound.limit
