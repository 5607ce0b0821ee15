"""Detection power: which known mistakes this very setting would have caught, from runs that have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from porting.acceptance.names import DESCENT, POWER
from porting.acceptance.trajectory import Runs, Trajectory
from porting.parity.state import Finding, Level, State, Verdict

Judge = Callable[[Runs, Runs], Verdict]


@dataclass(frozen=True, slots=True)
class Caught:
    """What became of a planted mistake. how: the finding that caught it."""

    mistake: str
    state: State
    how: str


def caught(source: Runs, planted: Mapping[str, Sequence[Trajectory]], judge: Judge) -> tuple[Caught, ...]:
    """Judge each mistake's runs as a target's would be."""
    found = []
    for mistake, runs in planted.items():
        found.append(Caught(mistake, *_decided(judge(source, Runs(runs[0], tuple(runs[1:]))))))
    return tuple(found)


def _decided(verdict: Verdict) -> tuple[State, str]:
    """FAIL, or CONDITIONAL with something beyond its limit: what is no PASS for want of evidence was not detected."""
    failed = [one.what for one in verdict.findings if one.state is State.FAIL]
    if failed:
        return State.FAIL, failed[0]
    seen = [one.what for one in verdict.findings if one.state is State.CONDITIONAL and _beyond(one)]
    return (State.CONDITIONAL, seen[0]) if seen else (State.PASS, "")


def _beyond(finding: Finding) -> bool:
    at_least = finding.what == DESCENT
    return finding.value is not None and finding.limit is not None and finding.value > finding.limit and not at_least


def power_finding(found: Sequence[Caught]) -> Finding:
    """The share that was detected, and by name what was not. It judges the setting, not the target."""
    if not found:
        return Finding(
            Level.TRAJECTORY, POWER, State.NOT_RUN, "no mistake was planted: what would be caught is not known"
        )
    failed = [one for one in found if one.state is State.FAIL]
    seen = [one for one in found if one.state is State.CONDITIONAL]
    missed = [one for one in found if one.state is State.PASS]
    parts = [f"FAIL for {len(failed)} of {len(found)} planted mistakes ({_named(failed)})"]
    parts += [f"CONDITIONAL for {_named(seen)}"] if seen else []
    parts += [f"not seen: {', '.join(one.mistake for one in missed)}"] if missed else []
    share = (len(failed) + len(seen)) / len(found)
    state = State.PASS if failed or seen else State.CONDITIONAL
    return Finding(Level.TRAJECTORY, POWER, state, "; ".join(parts), "", "share that is not passed", share)


def _named(found: Sequence[Caught]) -> str:
    return ", ".join(f"{one.mistake} by {one.how}" for one in found) or "none"
