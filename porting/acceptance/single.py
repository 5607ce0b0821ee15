"""Single runs and logs: a rule's verdict, which is at most CONDITIONAL, and no finer than what was printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from porting.acceptance.align import Aligned, aligned, resolution
from porting.acceptance.trajectory import Trajectory
from porting.parity.presets import RULES, Check, Rule
from porting.parity.rules import rule_findings
from porting.parity.state import Finding, Level, State

DEFAULT = "mindformers"
"""The rule where none is asked for: it says most of trajectories (first loss, mean loss, mean gradient norm)."""


def rule_for(rule: Rule | None) -> Rule:
    """The rule, if it says anything of trajectories; else the default."""
    return rule if rule is not None and _checks(rule) else RULES[DEFAULT]


def single_findings(source: Trajectory, target: Trajectory, rule: Rule) -> Iterator[Finding]:
    """A finding for each of the rule's checks on a series."""
    for check in _checks(rule):
        found = aligned((source, target), check.on)
        if found is None or not found.finite.steps.size:
            reason = f"no step with a {check.on} of both sides"
            yield Finding(Level.TRAJECTORY, check.on, State.NOT_RUN, reason, source=check.source)
            continue
        rows, coarse = _rows(found.finite, check.on), resolution((source, target), check.on)
        bounds = [Rule(rule.name, (replace(check, bounds=(bound,)),)) for bound in check.bounds]
        findings = [one for bound in bounds for one in rule_findings(bound, (), *rows)]
        # Any bound is enough: one that is met, or else one that what was printed cannot decide.
        yield min((_as_printed(one, found.finite, coarse) for one in findings), key=lambda one: one.state.rank)


def _checks(rule: Rule) -> tuple[Check, ...]:
    return tuple(check for check in rule.checks if check.level is Level.TRAJECTORY)


def _rows(found: Aligned, name: str) -> tuple[list[Mapping[str, float]], list[Mapping[str, float]]]:
    """Both sides' steps as a capture has them."""
    one, two = ([{name: float(value)} for value in values] for values in found.values)
    return list(one), list(two)


def _as_printed(finding: Finding, found: Aligned, coarse: float) -> Finding:
    """The finding, unless numbers that are printed so coarsely cannot tell on which side of the limit they are."""
    if not coarse or finding.value is None or finding.limit is None:
        return finding
    of = float(np.abs(found.values[0]).mean()) if "rel" in finding.measure else 1.0
    doubt = coarse / of if of else coarse
    if finding.value + doubt <= finding.limit or finding.value - doubt > finding.limit:
        return finding
    reason = f"printed to {coarse:g}, which cannot decide a limit of {finding.limit:g} ({finding.measure})"
    return replace(finding, state=State.NOT_RUN, reason=reason)
