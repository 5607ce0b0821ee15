"""`port accept`: two paths in, the judgement over all levels out. Reads files and writes none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from porting.acceptance.acceptance import Acceptance
from porting.acceptance.advice import advice_for
from porting.acceptance.chain import chain, overall
from porting.acceptance.evidence import FLOOR, REFERENCE, TRUTH, Evidence, Paths, evidence_of
from porting.acceptance.inputs import input_of
from porting.acceptance.judge import judge_trajectory
from porting.acceptance.limits import check_limit
from porting.acceptance.matched import Matched, alone, matched
from porting.acceptance.measured import (
    FIRST,
    counts_of,
    curves_of,
    qualities_of,
    ratio_findings,
    speed_of,
    task_metrics,
)
from porting.acceptance.regression import regression_against
from porting.acceptance.single import single_findings
from porting.acceptance.speed import judge_speed
from porting.acceptance.task import judge_task
from porting.errors import UsageError
from porting.parity.compare import Comparison, compare
from porting.parity.criteria import precision_of
from porting.parity.floor_file import read_floor
from porting.parity.presets import CALIBRATED, RULES, Rule
from porting.parity.reader import read_capture
from porting.parity.rules import rule_named
from porting.parity.state import Finding, Level, State, Verdict, worst
from porting.version import VERSION

SAME = "source and target are the same evidence, byte for byte"
COPIED = "a capture or a training run of the target is the source's, byte for byte"


@dataclass(frozen=True, slots=True)
class Given:
    """Both sides and what they are judged by. speed: the step time's ratio at most; margin: of the task's metrics."""

    source: Evidence
    target: Evidence
    rule: Rule | None = None
    speed: float | None = None
    margin: float | None = None

    @property
    def sides(self) -> tuple[Evidence, Evidence]:
        """Both."""
        return self.source, self.target

    @property
    def emulated(self) -> bool:
        """Whether a side is."""
        return bool(self.source.party.emulated or self.target.party.emulated)


def accept(  # noqa: PLR0913 - one keyword per choice
    source: Paths,
    target: Paths,
    *,
    criteria: str = CALIBRATED,
    source_step_ms: float | None = None,
    target_step_ms: float | None = None,
    speed: float | None = None,
    margin: float | None = None,
    labels: str | Path | None = None,
    against: str | Path | None = None,
) -> Acceptance:
    """Judge a migration by what the paths of both sides show.

    source, target: a log, a folder of logs, a capture, the folder of `port parity`, a file of predictions; of several,
    all but one are logs or predictions. criteria: a rule that is shown
    beside the calibrated verdict. source_step_ms, target_step_ms: milliseconds of a step, in place of recorded ones.
    speed, margin: the user's limits of the step time's ratio and of the task's metrics. labels: a file of labels, for
    predictions that have none. against: a previous report.
    Raises: UsageError for a path or criteria that there are not, or a limit that is no number above 0; FormatError for
    what is no evidence, and for a previous report that is none.
    """
    check_limit("--max-ratio", speed)
    check_limit("--margin", margin)
    rule = rule_named(criteria)
    given = Given(
        evidence_of(source, "source", step_ms=source_step_ms, labels=labels),
        evidence_of(target, "target", step_ms=target_step_ms, labels=labels),
        rule,
        speed,
        margin,
    )
    if labels is not None and str(labels) not in {one.path for side in given.sides for one in side.party.inputs}:
        raise UsageError(f"--labels {labels}: no predictions without labels were given")
    found = judged(given, criteria)
    return found if against is None else _with_regression(found, Path(against))


def _with_regression(found: Acceptance, previous: Path) -> Acceptance:
    told = replace(found, regression=regression_against(previous, found))
    return replace(told, advice=advice_for(told))


def judged(given: Given, criteria: str) -> Acceptance:
    """The judgement of evidence that was read."""
    comparison, answers = _compared(given, criteria), _answers(given)
    levels = chain(_levels(given, comparison, answers), emulated=given.emulated)
    verdict = overall(levels, logs=given.source.logs or given.target.logs)
    for reason in _doubts(given):
        verdict = _at_most_conditional(verdict, reason)
    runs = given.source.runs, given.target.runs
    found = Acceptance(
        given.source.party, given.target.party, levels, verdict,
        criteria=criteria,
        rule=None if given.rule is None else _by_rule(given, given.rule, comparison),
        rule_file=input_of(criteria) if given.rule is not None and criteria not in RULES else None,
        curves=tuple(curves_of(*runs)),
        speed=speed_of(*runs),
        qualities=tuple(qualities_of(*runs, answers)),
        differences=comparison.information if comparison else (),
        counts=counts_of(*runs),
        notes=comparison.notes if comparison else (),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        kit=VERSION,
    )  # fmt: skip
    return replace(found, advice=advice_for(found))


def _doubts(given: Given) -> Iterator[str]:
    """What is no finding of any level and lets nobody sign: evidence that proves nothing, or is of two things."""
    if given.source.party.same_as(given.target.party):
        yield SAME
    elif given.source.own & given.target.own:
        yield COPIED
    for side, evidence in (("source", given.source), ("target", given.target)):
        yield from (f"the {side}'s {mixed}" for mixed in evidence.mixed)


def _at_most_conditional(verdict: Verdict, reason: str) -> Verdict:
    state = worst((verdict.state, State.CONDITIONAL))
    return replace(verdict, state=state, reason="; ".join(filter(None, (verdict.reason, reason))))


def _compared(given: Given, criteria: str) -> Comparison | None:
    """L0 to L4, where both sides hold tensors; floor, truth and reference are those that lie beside either."""
    if given.source.capture is None or given.target.capture is None:
        return None
    source, target = read_capture(given.source.capture), read_capture(given.target.capture)
    beside = {**given.target.judged_by, **given.source.judged_by}
    truth = read_capture(beside[TRUTH]) if TRUTH in beside else None
    reference = read_capture(beside[REFERENCE]) if REFERENCE in beside else None
    lower = precision_of(source.manifest, target.manifest) not in ("float32", "float64")
    if reference is None and lower and target.manifest.emulated:
        reference = target  # the source's port under emulation is its own reference
    floor = read_floor(beside[FLOOR]) if FLOOR in beside else None
    return compare(source, target, floor=floor, truth=truth, reference=reference, criteria=criteria)


def _answers(given: Given) -> Matched | None:
    """Predictions of both sides held together; None where neither has any."""
    ours, theirs = given.source.answers, given.target.answers
    if ours is None or theirs is None:
        return None if ours is theirs else alone("target" if ours is None else "source")
    return matched(ours, theirs)


def _levels(given: Given, comparison: Comparison | None, answers: Matched | None) -> Iterator[Verdict]:
    tensors = comparison.levels if comparison else ()
    yield from tensors
    ours, theirs = given.source.runs, given.target.runs
    if ours is None or theirs is None:
        return
    trained = []
    if any(name in run.series for run in (ours.run, theirs.run) for name in FIRST):
        planted = {**given.source.planted, **given.target.planted} or None
        trained = [judge_trajectory(ours, theirs, rule=given.rule, planted=planted)]
        yield trained[0]
    if "seconds" in ours.run.series or "seconds" in theirs.run.series or given.speed is not None:
        below = [level for level in tensors if level.level in (Level.FORWARD, Level.BACKWARD, Level.STEP)]
        below = list(chain([*below, *trained]))[2:6]
        yield judge_speed(ours.run, theirs.run, limit=_speed_limit(given), below=below)
    metrics = task_metrics(ours.run), task_metrics(theirs.run)
    if any(metrics):
        yield judge_task(*metrics, margin=given.margin, rule=given.rule, answers=answers)


def _speed_limit(given: Given) -> float | None:
    """The user's limit of the step time's ratio: by itself, or as the rule that was asked for has it."""
    checks = given.rule.checks if given.rule else ()
    ruled = [bound.limit for check in checks if check.on == "step_time" for bound in check.bounds]
    return given.speed if given.speed is not None or not ruled else ruled[0]


def _by_rule(given: Given, rule: Rule, comparison: Comparison | None) -> Verdict:
    """The verdict of a rule by itself: its own findings at every level, and nothing of the calibrated ones.

    What of it the evidence cannot show limits it to CONDITIONAL.
    """
    wanted = {check.source for check in rule.checks}
    findings: list[Finding] = []
    if comparison is not None and comparison.rule is not None:
        findings += [one for one in comparison.rule.findings if one.level in (Level.FORWARD, Level.BACKWARD)]
    ours, theirs = given.source.runs, given.target.runs
    if ours is not None and theirs is not None:
        findings += single_findings(ours.run, theirs.run, rule)
        task = judge_task(task_metrics(ours.run), task_metrics(theirs.run), rule=rule)
        findings += [one for one in task.findings if one.source in wanted]
        findings += ratio_findings(rule, ours.run, theirs.run)
    findings += _not_judged(rule, findings)
    judged = [one.state for one in findings if one.state is not State.NOT_RUN]
    limited = [State.CONDITIONAL] if judged and len(judged) < len(findings) else []
    state = worst(judged + limited)
    return Verdict(None, state, tuple(findings), len(judged), len(findings), given.emulated, rule.name)


def _not_judged(rule: Rule, findings: Sequence[Finding]) -> list[Finding]:
    """A finding for every check of a rule that the evidence has nothing for."""
    known = {one.source for one in findings}
    return [
        Finding(check.level, check.on, State.NOT_RUN, "nothing of it was given for both sides", source=check.source)
        for check in rule.checks
        if check.source not in known
    ]
