"""An acceptance as JUnit XML, for a CI that shows tests: a suite a level, a case a finding.

A case that is no pass fails, one that was not run or is only emulated is skipped; the case `verdict` fails whenever the
migration is no pass, which is what makes the exit code 1.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from porting.acceptance.acceptance import Acceptance
from porting.errors import readable
from porting.parity.state import Finding, State, Verdict
from porting.report.view import finding_text
from porting.report.words import Words


def junit(found: Acceptance) -> str:
    """The XML."""
    root = Element("testsuites", name="acceptance")
    _decision(root, found)
    for level in found.levels:
        _level(root, level)
    if found.rule is not None:
        _level(root, found.rule, readable(found.criteria))
    indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _decision(root: Element, found: Acceptance) -> None:
    suite = SubElement(root, "testsuite", name="acceptance", tests="1", failures=str(int(not found.passed)), errors="0")
    suite.set("skipped", "0")
    case = SubElement(suite, "testcase", classname="acceptance", name="verdict")
    if not found.passed:
        decisive = found.decisive
        told = [f"{found.state}{', EMULATED' if found.emulated else ''}", found.overall.reason]
        told += [finding_text(decisive, Words("en"))] if decisive else []
        told += ["worse than the previous report"] if found.regression and found.regression.worse else []
        SubElement(case, "failure", type=str(found.state), message=readable("; ".join(filter(None, told))))


def _level(root: Element, level: Verdict, rule: str = "") -> None:
    name = rule or str(level.level)
    suite = SubElement(root, "testsuite", name=name)
    for finding in level.findings:
        mode = f" ({finding.mode})" if finding.mode else ""
        case = SubElement(suite, "testcase", classname=name, name=readable(finding.what + mode))
        _outcome(case, finding, emulated=level.emulated)
    if not level.findings:
        case = SubElement(suite, "testcase", classname=name, name=name)
        SubElement(case, "skipped", message=readable(f"{level.state}: {level.reason}"))
    for outcome, counter in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(counter, str(len(suite.findall(f"testcase/{outcome}"))))
    suite.set("tests", str(len(suite)))


def _outcome(case: Element, finding: Finding, *, emulated: bool) -> None:
    state, told = finding.state, readable(finding.reason)
    if state is State.PASS:
        if emulated:
            SubElement(case, "skipped", message="EMULATED: would have passed")
        return
    kind = {State.NOT_RUN: "skipped", State.CRASHED: "error"}.get(state, "failure")
    outcome = SubElement(case, kind, message=f"{state}: {told}" if told else str(state))
    if kind != "skipped":
        outcome.set("type", str(state))
        outcome.text = finding_text(finding, Words("en"))
