"""The verdict on two sides' training (L5): preconditions, permutation test, equivalence, shadow run, power."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import comb, inf

import numpy as np

from porting.acceptance.align import members
from porting.acceptance.equivalence import Equivalence, equivalence
from porting.acceptance.names import POWER, REPLICAS, SPREADS, TAIL
from porting.acceptance.permutation import ALPHA, GROUP, Permuted, permuted
from porting.acceptance.power import caught, power_finding
from porting.acceptance.preconditions import preconditions
from porting.acceptance.shadow import shadow_findings
from porting.acceptance.single import rule_for, single_findings
from porting.acceptance.trajectory import Runs, Trajectory
from porting.parity.presets import Rule
from porting.parity.state import Finding, Level, State, Verdict, worst


def judge_trajectory(
    source: Runs,
    target: Runs,
    *,
    rule: Rule | None = None,
    planted: Mapping[str, Sequence[Trajectory]] | None = None,
) -> Verdict:
    """Judge whether the target trains as the source does. Pure: neither prints nor raises on a difference.

    rule: what single runs and logs are judged by; without one MindFormers' rule, which says most of trajectories. Where
    there are replicas it is not asked. planted: runs of the target with a known mistake, by its name.

    Findings, in this order, `what` being the names of porting.acceptance.names:
    - a run that crashed, by its name: CRASHED, and nothing more is judged;
    - `precondition: NAME` (data, weights, dropout, lr, finite, step 0, descent): FAIL where it is broken, and then
      nothing more is judged; NOT_RUN where nobody recorded what would prove it, which takes a PASS to CONDITIONAL;
    - of replicas: a finding `loss`, `grad_norm`, `grad_norm/GROUP` for each series, whose value is the largest
      difference of the groups' means over their pooled spread, and the limit that of the permutation test over all;
      `ratio of spreads`; where something was found, `tail mean: SERIES`, the equivalence tests that decide;
    - of single runs: the findings of the rule, at most CONDITIONAL;
    - `shadow`: the run in float32; `power`: the share of planted mistakes that this setting detects. That nothing
      was planted says nothing of the target, and is the one NOT_RUN that leaves a PASS as it is.
    """
    with np.errstate(all="ignore"):  # what is no number is judged as such
        findings = list(_findings(source, target, rule, GROUP))
        findings.append(power_finding(caught(source, planted or {}, partial(_planted_verdict, rule))))
    emulated = bool(source.run.emulated or target.run.emulated)
    return _verdict(findings, emulated=emulated)


def _planted_verdict(rule: Rule | None, source: Runs, target: Runs) -> Verdict:
    """Of a mistake's runs, which may be as few as the test can do with."""
    return _verdict(list(_findings(source, target, rule, 1)))


def _findings(source: Runs, target: Runs, rule: Rule | None, least: int) -> Iterator[Finding]:
    """All but the power. least: runs that a target's group has to have."""
    crashed = [one for one in (*members(source), *members(target)) if one.crashed]
    for one in crashed:
        yield Finding(Level.TRAJECTORY, one.name, State.CRASHED, one.crashed)
    if crashed:
        return
    known = tuple(preconditions(source, target))
    yield from known
    broken = [one.what for one in known if one.state is State.FAIL]
    if broken:
        reason = f"broken {', '.join(broken)}: nothing that follows can be told from it"
        yield Finding(Level.TRAJECTORY, REPLICAS, State.NOT_RUN, reason)
        return
    ours, theirs = members(source), members(target)
    if len(ours) >= GROUP and len(theirs) >= least and 1 / comb(len(ours) + len(theirs), len(theirs)) <= ALPHA:
        found = permuted(ours, theirs)
        missing = "" if found else "the replicas of a side are the same bits, or no series is common to all"
    else:
        found, missing = None, f"{len(ours)} runs of the source and {len(theirs)} of the target, wanted {GROUP} each"
    if found is not None:
        yield from _by_replicas(found, ours, theirs, source.seeds)
    else:
        yield Finding(Level.TRAJECTORY, REPLICAS, State.NOT_RUN, f"no noise floor of training: {missing}")
        yield from single_findings(source.run, target.run, rule_for(rule))
    yield from shadow_findings(source, target)


def _by_replicas(
    found: Permuted, ours: Sequence[Trajectory], theirs: Sequence[Trajectory], seeds: Sequence[Trajectory]
) -> Iterator[Finding]:
    beyond = [name for name, value in found.largest.items() if found.found and not (value <= found.limit < inf)]
    sizes = f"{found.splits} splits of {len(ours)} and {len(theirs)} runs, alpha {ALPHA:g} over all series"
    for name, value in found.largest.items():
        state = State.CONDITIONAL if name in beyond else State.PASS
        reason = f"{_where(found, name)}, p = {found.p:.2g}: more than noise" if name in beyond else ""
        measure, origin = "difference of means over pooled spread", f"permutation test: {sizes}"
        yield Finding(Level.TRAJECTORY, name, state, reason, "", measure, value, found.limit, origin)
    told = "the target's runs spread so many times as far as the source's"
    yield Finding(Level.TRAJECTORY, SPREADS, State.PASS, told, "", "median ratio of standard deviations", found.spreads)
    for name in dict.fromkeys(("loss", *beyond)) if beyond else ():
        yield _tail(name, equivalence(ours, theirs, name, seeds))


def _where(found: Permuted, name: str) -> str:
    series = found.z[name]
    at = int(abs(series.values).argmax())
    return f"largest from step {series.steps[at]}"


def _tail(name: str, found: Equivalence | None) -> Finding:
    what = f"{TAIL}: {name}"
    if found is None:
        return Finding(
            Level.TRAJECTORY, what, State.FAIL, "a difference was found, and there is no tail to weigh it by"
        )
    margin = found.margin
    told = f"{_share(found.difference)}, 90 % interval {_share(found.low)} to {_share(found.high)}"
    worst_end = max(abs(found.low), abs(found.high))
    if found.within:
        reason = f"more than noise, and within the margin: {told}"
    else:
        far = "beyond the margin" if found.beyond else "not shown to be within the margin"
        reason = f"{far}: {told}"
    state = State.CONDITIONAL if found.within else State.FAIL
    measure, origin = "end of the interval of the tail mean's relative difference", f"TOST: {margin.source}"
    return Finding(Level.TRAJECTORY, what, state, reason, "", measure, worst_end, margin.limit, origin)


def equivalent(verdict: Verdict) -> bool:
    """Whether a CONDITIONAL verdict is so for nothing but differences that were shown to be within the margin.

    Every precondition holds then, replicas have judged, and the float32 run is within its floor.
    """
    open_ = [one for one in verdict.findings if one.state is not State.PASS and one.what != POWER]
    found = {one.what for one in open_ if one.state is State.CONDITIONAL and not one.what.startswith("precondition")}
    tails = {what for what in found if what.startswith(f"{TAIL}: ")}
    return bool(tails) and len(found) == len(open_) and all(f"{TAIL}: {what}" in tails for what in found - tails)


def _share(value: float) -> str:
    """A relative difference for people: in percent, unless nothing would be left of it."""
    return f"{value:+.3%}" if abs(value) >= 1e-5 else f"{value:+.1e}"


def _verdict(findings: Sequence[Finding], *, emulated: bool = False) -> Verdict:
    """The worst of what was judged; what could not be judged takes a PASS to CONDITIONAL, by name."""
    judged = [one for one in findings if one.state.judged and one.what != POWER]
    absent = [one for one in findings if one.state is State.NOT_RUN and one.what != POWER]
    compared, total = sum(one.state.judged for one in findings), len(findings)
    series = [one for one in judged if not one.what.startswith("precondition") or one.state is State.FAIL]
    crashed = [one for one in findings if one.state is State.CRASHED]
    if crashed:
        told = f"crashed: {', '.join(one.what for one in crashed)}"
        return Verdict(Level.TRAJECTORY, State.CRASHED, tuple(findings), compared, total, emulated, told)
    if not series:
        reason = "; ".join(dict.fromkeys(one.reason for one in absent))
        return Verdict(Level.TRAJECTORY, State.NOT_RUN, tuple(findings), compared, total, emulated, reason)
    state = worst([one.state for one in judged] + [State.CONDITIONAL] * bool(absent))
    reason = f"not run: {', '.join(dict.fromkeys(one.what for one in absent))}" if absent else ""
    return Verdict(Level.TRAJECTORY, state, tuple(findings), compared, total, emulated, reason)
