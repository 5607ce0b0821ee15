"""Compares two captures, level by level, and judges what it finds.

Pure: neither prints nor raises on a mismatch, and asks nothing of the machines that the captures come from, so that
the same two can be judged again by other criteria.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porting.parity.capture import Manifest
from porting.parity.criteria import Criterion, precision_of, typical
from porting.parity.deviations import Compared, deviations_of
from porting.parity.floor import Floor
from porting.parity.floor_file import read_floor
from porting.parity.mapped import mapped
from porting.parity.mapping import Correspondence, Part, Side
from porting.parity.mapping_file import read_mapping
from porting.parity.measure import Measures
from porting.parity.pairs import pairs_of
from porting.parity.presets import CALIBRATED, Rule
from porting.parity.reader import Capture, read_capture
from porting.parity.rules import rule_findings, rule_named
from porting.parity.settings import Difference, differences, is_trained, settings_findings
from porting.parity.state import Finding, Level, State, Verdict, verdict_of, worst
from porting.parity.step_findings import step_findings
from porting.parity.truth import ThreeWay, three_way

LEVELS = (Level.WEIGHTS, Level.SETTINGS, Level.FORWARD, Level.BACKWARD, Level.STEP)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two captures compared.

    levels: L0 to L4; one that neither capture has anything of is NOT_RUN and does not count in `overall`. overall: the
    calibrated verdict over all findings, in the order of computation. rule: the verdict by the preset or file
    that was asked for beside it, with its name. information: settings that differ and may. notes: what was recorded and
    is not judged here, and what the captures themselves note.
    """

    source: Manifest
    target: Manifest
    levels: tuple[Verdict, ...]
    overall: Verdict
    compared: tuple[Compared, ...]
    information: tuple[Difference, ...]
    notes: tuple[str, ...] = ()
    criteria: str = CALIBRATED
    rule: Verdict | None = None

    @property
    def passed(self) -> bool:
        """Whether someone may rely on it: the calibrated verdict, and the rule where one was asked for."""
        return self.overall.passed and (self.rule is None or self.rule.passed)

    @property
    def first(self) -> Finding | None:
        """The first difference in the order of computation; if there is none, the first that is no PASS."""
        return self.overall.decisive

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        from porting.parity.compare_json import comparison_json

        return comparison_json(self)


def compare(
    source: Capture,
    target: Capture,
    *,
    floor: Floor | None = None,
    truth: Capture | None = None,
    reference: Capture | None = None,
    criteria: str = CALIBRATED,
    mapping: Correspondence | None = None,
    measures: Measures = "all",
) -> Comparison:
    """Compare a target with its source.

    floor: what thresholds are multiples of; without one that was measured for this source, nothing is a PASS. truth:
    the source's model in float64, and reference: the source at the target's precision; with both, a target of lower
    precision is judged by its error. mapping: of names and axes, for a user's own model. measures: `core` is faster.
    Raises: UsageError for criteria that there are not; MismatchError for a mapping that does not fit; FormatError for
    tensors whose bytes are not those that were written.
    """
    rule = rule_named(criteria)
    if mapping is not None:
        source, target = mapped(source, target, mapping)
    ways = _three_way(source, target, truth, reference)
    criterion = _criterion(source, target, floor, ways)
    compared = deviations_of(source, target, pairs_of(source, target), measures=measures)
    findings = _findings(source, target, criterion, compared)
    emulated = bool(source.manifest.emulated or target.manifest.emulated)
    levels = tuple(verdict_of(level, findings[level], emulated=emulated) for level in LEVELS)
    return Comparison(
        source.manifest,
        target.manifest,
        tuple(_named(level) for level in levels),
        _overall(levels, source, target, emulated=emulated),
        tuple(compared),
        tuple(differences(source.manifest, target.manifest)),
        tuple(_notes(source, target)),
        criteria,
        None if rule is None else _by_rule(rule, compared, source, target, emulated=emulated),
    )


def compare_folders(
    source: Path,
    target: Path,
    *,
    floor: Path | None = None,
    truth: Path | None = None,
    reference: Path | None = None,
    criteria: str = CALIBRATED,
    mapping: Path | None = None,
    core: bool = False,
) -> Comparison:
    """Compare two captures on the disk: `compare` with everything read from where it lies.

    Raises: what `compare` raises; FormatError for a capture, a floor or a mapping that is not whole.
    """
    ours, theirs = read_capture(source), read_capture(target)
    known: dict[Part, dict[Side, Iterable[str]]] = {
        "taps": {"source": ours.section("forward"), "target": theirs.section("forward")},
        "weights": {"source": ours.section("weights"), "target": theirs.section("weights")},
    }
    return compare(
        ours,
        theirs,
        floor=None if floor is None else read_floor(floor),
        truth=None if truth is None else read_capture(truth),
        reference=None if reference is None else read_capture(reference),
        criteria=criteria,
        mapping=None if mapping is None else read_mapping(mapping, known),
        measures="core" if core else "all",
    )


def _criterion(source: Capture, target: Capture, floor: Floor | None, ways: Sequence[ThreeWay]) -> Criterion:
    precision = precision_of(source.manifest, target.manifest)
    scales = typical(source.summaries.values())
    known = {(way.section, way.name): way for way in ways}
    if precision not in ("float32", "float64"):
        missing = "" if known else f"computed in {precision}, and no run in float64 and at that precision to judge by"
        return Criterion(None, missing, precision, known, scales)
    if floor is None:
        return Criterion(None, "no floor was measured", precision, {}, scales)
    misfits = floor.misfits(source.manifest)
    if misfits:
        return Criterion(None, misfits[0], precision, {}, scales)
    return Criterion(floor, "", precision, {}, scales)


def _three_way(
    source: Capture, target: Capture, truth: Capture | None, reference: Capture | None
) -> tuple[ThreeWay, ...]:
    """Errors against float64, where they can be told: with both runs, and the same weights and batch everywhere."""
    if truth is None or reference is None:
        return ()
    captures = (source, target, truth, reference)
    if len({(one.manifest.weights, one.manifest.batch) for one in captures}) > 1:
        return ()
    sections = ("forward", "gradients", "step.weights", "step.m", "step.v")
    return three_way(truth, source, target, reference, sections=sections)


def _findings(
    source: Capture, target: Capture, criterion: Criterion, compared: Sequence[Compared]
) -> dict[Level, list[Finding]]:
    found: dict[Level, list[Finding]] = {level: [] for level in LEVELS}
    found[Level.WEIGHTS] += _weights(source, target)
    trained = is_trained({section for section, _ in (*source.summaries, *target.summaries)})
    found[Level.SETTINGS] += settings_findings(
        source.manifest, target.manifest, trained=trained, three_way=bool(criterion.three_way)
    )
    found[Level.FORWARD] += _runs(source, target)
    for one in compared:
        found[one.pair.level].append(criterion.judge(one))
    for median in criterion.medians(compared):
        found[median.level].append(median)
    found[Level.STEP] += step_findings(
        source.steps,
        target.steps,
        floor=criterion.floor,
        precision=criterion.precision,
        missing=criterion.missing,
    )
    return found


def _weights(source: Capture, target: Capture) -> Iterable[Finding]:
    """Where not both captures hold the weights, their hashes stand for them."""
    if source.section("weights") and target.section("weights"):
        return
    a, b = source.manifest.weights, target.manifest.weights
    if not a or not b:
        yield Finding(
            Level.WEIGHTS, "weights", State.NOT_RUN, "neither they nor a hash of them were recorded on both sides"
        )
    elif a == b:
        yield Finding(Level.WEIGHTS, "weights", State.PASS, source="the hash over all")
    else:
        yield Finding(
            Level.WEIGHTS, "weights", State.FAIL, "their hashes differ: other weights", source="the hash over all"
        )


def _runs(source: Capture, target: Capture) -> Iterable[Finding]:
    """What is wrong with a run as a whole."""
    for side, capture in (("source", source), ("target", target)):
        if capture.manifest.state == "crashed":
            yield Finding(Level.FORWARD, f"{side} run", State.CRASHED, capture.manifest.reason or "it ended early")
        if not capture.summaries:
            yield Finding(Level.FORWARD, f"{side} capture", State.UNMATCHED, "it is empty")
    forced = target.section("forced")
    if forced and target.manifest.forced_by != source.manifest.content:
        reason = "the target's forced taps were computed from the inputs of some other capture"
        yield Finding(Level.FORWARD, "forced taps", State.UNMATCHED, reason, "forced")


def _notes(source: Capture, target: Capture) -> Iterable[str]:
    for side, capture in (("source", source), ("target", target)):
        yield from (f"{side}: {note}" for note in capture.manifest.notes)
    steps = min(len(source.steps), len(target.steps))
    if steps > 1:
        yield f"not judged: loss and norm of steps 1 to {steps - 1}, which are a trajectory (L5)"
    if source.section("forced"):
        yield "not compared: the source's forced taps, which were made from another capture's inputs"


def _named(level: Verdict) -> Verdict:
    """A level of which there is nothing says so."""
    if level.findings:
        return level
    return Verdict(level.level, State.NOT_RUN, (), 0, 0, level.emulated, "not captured")


def _overall(levels: Sequence[Verdict], source: Capture, target: Capture, *, emulated: bool) -> Verdict:
    """The worst of the levels that there is anything of; without weights and taps at most CONDITIONAL."""
    findings = tuple(finding for level in levels for finding in level.findings)
    states = [level.state for level in levels if level.findings]
    state, reason = worst(states), ""
    if not any(one.state.judged for one in findings if one.level is not Level.SETTINGS):
        state, reason = worst((state, State.NOT_RUN)), "nothing was compared"
    elif not (source.section("forward") and target.section("forward")):
        state, reason = worst((state, State.CONDITIONAL)), "no taps of a forward pass were compared"
    compared = sum(level.compared for level in levels)
    return Verdict(None, state, findings, compared, sum(level.total for level in levels), emulated, reason)


def _by_rule(rule: Rule, compared: Sequence[Compared], source: Capture, target: Capture, *, emulated: bool) -> Verdict:
    findings = tuple(rule_findings(rule, compared, source.steps, target.steps))
    count = sum(finding.state.judged for finding in findings)
    state = worst(finding.state for finding in findings)
    return Verdict(None, state, findings, count, len(findings), emulated, rule.name)
