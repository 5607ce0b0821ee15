"""An acceptance as rows of text: what HTML and Markdown both show, so that they cannot say different things."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from porting.acceptance.acceptance import Acceptance, Curve, Pace, Quality
from porting.acceptance.trajectory import Metric
from porting.errors import readable
from porting.parity.state import DIFFERENCES, Finding, Level, State, Verdict
from porting.report.advice_text import advice_text
from porting.report.deviation_map import excess
from porting.report.figures import drawn, series_name
from porting.report.words import Words

MOST = 60
"""Findings of a level that are shown; the rest is counted, and stands in report.json."""

STEPS = 8
"""Rows of the table beside a curve."""

NOTHING = "-"

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LevelView:
    """A level. shown: its findings that are no PASS, worst first within a state, as rows; hidden: how many more."""

    level: str
    question: str
    state: str
    name: str
    covered: str
    why: str
    title: str
    shown: Sequence[Mapping[str, str]]
    hidden: str


def number(value: float | None, digits: int = 6) -> str:
    """A number for people; a dash where there is none."""
    return NOTHING if value is None else f"{value:.{digits}g}"


def view(found: Acceptance, words: Words) -> dict[str, Any]:
    """Everything that a template shows, in its order, as plain text: escaping is the template's."""
    inputs = [
        (words(side), readable(one.path), f"{one.size}", one.hash)
        for side, party in (("source", found.source), ("target", found.target))
        for one in party.inputs
    ]
    judged_by = (("rule_file", found.rule_file), ("previous", found.regression.previous if found.regression else None))
    inputs += [(words(name), readable(one.path), f"{one.size}", one.hash) for name, one in judged_by if one is not None]
    return {
        "w": words,
        "language": words.language,
        "state": str(found.state),
        "state_name": words(found.state),
        "passed": found.passed,
        "sides": f"{readable(found.source.name)} → {readable(found.target.name)}",
        "headline": list(_headline(found, words)),
        "levels": [_level(level, words) for level in found.levels],
        "advice": [advice_text(words, advice) for advice in found.advice],
        "curve_tables": [_curve_table(curve, words) for curve in drawn(found)],
        "speed": _speed(found, words),
        "qualities": [_quality(quality, words) for quality in found.qualities],
        "counts": [_count(name, pair, words) for name, pair in found.counts.items()],
        "environment": _environment(found),
        "limits": [f"{words(side)}: {words.reason(text)}" for side, text in _per_side(found, "limits")],
        "notes": [
            *map(words.reason, found.notes),
            *(f"{words(side)}: {words.reason(text)}" for side, text in _per_side(found, "notes")),
        ],
        "regression": _regression(found, words),
        "inputs": inputs[:MOST],
        "more_inputs": words("more", count=len(inputs) - MOST) if len(inputs) > MOST else "",
        "made": words("made", made=readable(found.made), kit=readable(found.kit)),
    }


def _headline(found: Acceptance, words: Words) -> Iterator[tuple[str, str]]:
    """(kind, text): what stands under the state."""
    overall = found.overall
    judged = sum(level.level not in found.missing for level in found.levels)
    percent = f"{100 * overall.coverage:.1f}"
    covered = {"compared": overall.compared, "total": overall.total, "percent": percent, "levels": judged}
    yield "covered", words("covered", **covered)
    if found.emulated:
        kinds = dict.fromkeys(party.emulated for party in (found.source, found.target) if party.emulated)
        yield "emulated", words("emulated_long", kinds=readable(", ".join(kinds)))
    if found.missing:
        yield "missing", words("not_run_levels", levels=", ".join(found.missing))
    decisive = found.decisive
    if decisive is not None:
        yield "decisive", f"{words('decisive')}: {finding_text(decisive, words)}"
    reason = [part for part in found.overall.reason.split("; ") if not part.startswith("not run: ")]
    if any(reason):
        yield "reason", words.reason("; ".join(reason))
    if found.rule is not None:
        rule = readable(found.criteria)
        calibrated, other = words(overall.state), words(found.rule.state)
        first = found.rule.decisive
        told = f" ({finding_text(first, words)})" if first else ""
        yield "rule", f"{words('calibrated')}: {calibrated}. {words('by_rule', rule=rule)}: {other}{told}"
        if found.disagree:
            yield "disagree", words("disagree", calibrated=calibrated, rule=rule, other=other)


def finding_text(finding: Finding, words: Words) -> str:
    """A finding in a line."""
    reason = words.reason(finding.reason) or _measured(finding, words)
    return readable(f"{finding.level} {_what(finding, words)}: {words(finding.state)}{f', {reason}' if reason else ''}")


def _what(finding: Finding, words: Words) -> str:
    """What a finding is of, and how it was made where that is told apart."""
    mode = f" ({words(finding.mode)})" if finding.mode in ("free", "forced") else ""
    return words.name(finding.what) + mode


def _measured(finding: Finding, words: Words) -> str:
    if finding.value is None:
        return ""
    limit = "" if finding.limit is None else f" > {number(finding.limit, 3)}"
    return f"{words.reason(finding.measure)} {number(finding.value, 3)}{limit}"


def _level(level: Verdict, words: Words) -> LevelView:
    assert level.level is not None  # noqa: S101 - the verdict over all is no row
    notable = [finding for finding in level.findings if finding.state is not State.PASS]
    known = list(level.findings) if level.level >= Level.TRAJECTORY or len(level.findings) <= 12 else notable
    order = sorted(known, key=_rank)
    covered = f"{level.compared} / {level.total}" if level.total else NOTHING
    decisive = level.decisive
    told = finding_text(decisive, words) if decisive else ""
    why = told if told and level.state in DIFFERENCES else words.reason(level.reason) or told
    hidden = words("more", count=len(order) - MOST) if len(order) > MOST else ""
    shown = [_finding(finding, words) for finding in order[:MOST]]
    title = words("findings", level=level.level, shown=len(shown), total=len(level.findings))
    return LevelView(
        str(level.level), words(level.level), str(level.state), words(level.state), covered, readable(why), title,
        shown, hidden,
    )  # fmt: skip


def _rank(finding: Finding) -> int:
    """Differences first, then what is limited or was not run, then passes; each in the order of computation."""
    order = (State.FAIL, State.CRASHED, State.UNMATCHED, State.CONDITIONAL, State.NOT_RUN, State.PASS)
    return order.index(finding.state)


def _finding(finding: Finding, words: Words) -> dict[str, str]:
    return {
        "what": _what(finding, words),
        "state": str(finding.state),
        "name": words(finding.state),
        "measure": words.reason(finding.measure),
        "value": "" if finding.value is None else number(finding.value, 4),
        "limit": "" if finding.limit is None else number(finding.limit, 4),
        "source": words.reason(finding.source),
        "why": words.reason(finding.reason),
        "excess": _beyond(finding),
    }


def _beyond(finding: Finding) -> str:
    """How many times the limit was measured; nothing of a PASS, whose limit may be one from below."""
    share = None if finding.state is State.PASS else excess(finding)
    return f"{share:.3g} x" if share is not None and share > 1 else ""


def _curve_table(curve: Curve, words: Words) -> dict[str, Any] | None:
    """A few steps of a curve that both sides have, evenly chosen, the first and the last among them."""
    if curve.shared is None:
        return None
    steps = curve.shared[0]
    chosen = np.unique(np.linspace(0, len(steps) - 1, STEPS).round().astype(int))
    rows = [
        (str(step), f"{a:.9g}", f"{b:.9g}", f"{b - a:+.4g}", _percent(a, b))
        for step, a, b in zip(*(column[chosen].tolist() for column in curve.shared), strict=True)
    ]
    return {"name": series_name(curve.name, words), "rows": rows, "shared": len(steps)}


def _percent(source: float, target: float) -> str:
    share = 100 * (target - source) / abs(source) if source else float("nan")
    return f"{share:+.3g} %" if isfinite(share) else NOTHING


def _speed(found: Acceptance, words: Words) -> dict[str, Any] | None:
    speed = found.speed
    if speed is None:
        return None
    rows = [(name, *cells) for name, *cells in _paces(speed.source, speed.target, words) if set(cells) != {NOTHING}]
    ratio = []
    if speed.ratio is not None:
        change = 100 * (speed.ratio - 1)
        percent = f" ({change:+.3f} %)" if abs(change) < 1000 else ""
        ratio.append((words("ratio"), f"{speed.ratio:.4g}{percent}"))
    if speed.interval is not None:
        ratio.append((words("interval"), f"{speed.interval[0]:.4g} … {speed.interval[1]:.4g}"))
    return {"rows": rows, "ratio": ratio}


def _paces(source: Pace | None, target: Pace | None, words: Words) -> Iterator[Row]:
    for name, attribute in (("median", "median"), ("p95", "p95"), ("first_step", "first"), ("compile", "compile")):
        yield words(name), *(_milliseconds(pace, attribute, words) for pace in (source, target))
    jitter = [_known(pace, "jitter") for pace in (source, target)]
    yield words("jitter"), *(NOTHING if value is None else f"{100 * value:.3g} %" for value in jitter)
    plain = (
        ("steady_steps", "steps"),
        ("warm_up", "warm_up"),
        ("examples_rate", "examples"),
        ("tokens_rate", "tokens"),
    )
    for name, attribute in plain:
        yield words(name), *(number(_known(pace, attribute), 5) for pace in (source, target))
    memory = [_known(pace, "memory_mb") for pace in (source, target)]
    yield words("memory"), *(NOTHING if value is None else f"{value:.6g} MB" for value in memory)


def _known(pace: Pace | None, attribute: str) -> float | None:
    """A value of a pace; counts of steps say nothing where a number was given by hand."""
    if pace is None or (pace.given and attribute in ("steps", "warm_up")):
        return None
    value: float | None = getattr(pace, attribute)
    return value


def _milliseconds(pace: Pace | None, attribute: str, words: Words) -> str:
    value = _known(pace, attribute)
    if value is None or pace is None:
        return NOTHING
    by_hand = f" ({words('given')})" if pace.given else ""
    return f"{1000 * value:.8g} ms{by_hand}"


def _quality(quality: Quality, words: Words) -> Row:
    apart = quality.difference
    cells = [_metric(metric, words) for metric in (quality.source, quality.target)]
    told = NOTHING if apart is None else f"{apart:+.6g}"
    shares = apart is not None and quality.source is not None and abs(quality.source.value) <= 1
    if apart is not None and shares:
        told = f"{100 * apart:+.3f} {words('points')}"
    if apart is not None and quality.interval is not None:
        bounds = tuple(100 * bound if shares else bound for bound in quality.interval)
        told += f" (90 %: {bounds[0]:+.3g} … {bounds[1]:+.3g}, {words('paired' if quality.paired else 'unpaired')})"
    return readable(quality.name), *cells, told


def _metric(metric: Metric | None, words: Words) -> str:
    if metric is None:
        return NOTHING
    told = [f"{metric.count} {words('examples')}"] if metric.count else []
    told += [f"95 %: {metric.interval[0]:.4g} … {metric.interval[1]:.4g}"] if metric.interval else []
    return f"{metric.value:.8g}" + (f" ({', '.join(told)})" if told else "")


def _count(name: str, pair: tuple[int | None, int | None], words: Words) -> Row:
    known = ("recompilations", "cpu_fallbacks", "overflows")
    title = words(name) if name in known else readable(name)
    return title, *(NOTHING if value is None else str(value) for value in pair)


def _environment(found: Acceptance) -> list[tuple[str, str, str, bool]]:
    """What either side recorded, and what differs beside it: name, source, target, whether they differ."""
    ours, theirs = found.source.environment, found.target.environment
    rows = {name: (ours.get(name, NOTHING), theirs.get(name, NOTHING)) for name in dict.fromkeys((*ours, *theirs))}
    rows |= {one.what: (one.source, one.target) for one in found.differences}
    return [(readable(name), readable(a), readable(b), a != b) for name, (a, b) in rows.items()]


def _per_side(found: Acceptance, what: str) -> Iterator[tuple[str, str]]:
    for side, party in (("source", found.source), ("target", found.target)):
        texts: Sequence[str] = getattr(party, what)
        yield from ((side, text) for text in texts)


def _regression(found: Acceptance, words: Words) -> dict[str, Any] | None:
    if found.regression is None:
        return None
    rows = [
        (*map(words.name, (one.what, one.before, one.after)), words(one.direction), one.direction)
        for one in found.regression.changes
    ]
    return {"previous": readable(found.regression.previous.path), "rows": rows}
