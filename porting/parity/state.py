"""What a comparison can end in. Facts about tensors are in `deviation`; this is judgement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How one tap, parameter or level ended. The order is that of `worst`: the last one decides."""

    PASS = "PASS"  # noqa: S105 - a verdict
    CONDITIONAL = "CONDITIONAL"
    NOT_RUN = "NOT_RUN"
    UNMATCHED = "UNMATCHED"
    CRASHED = "CRASHED"
    FAIL = "FAIL"

    @property
    def judged(self) -> bool:
        """Whether something was compared at all."""
        return self in (State.PASS, State.CONDITIONAL, State.FAIL)

    @property
    def rank(self) -> int:
        """How far it is from a PASS."""
        return _ORDER.index(self)


_ORDER = tuple(State)

DIFFERENCES = (State.FAIL, State.CRASHED, State.UNMATCHED)
"""What was found to differ, or to have nothing that it could be held against."""


def worst(states: Iterable[State]) -> State:
    """The state that decides; NOT_RUN of nothing, which is never a pass.

    >>> worst([State.PASS, State.UNMATCHED, State.CONDITIONAL]), worst([])
    (<State.UNMATCHED: 'UNMATCHED'>, <State.NOT_RUN: 'NOT_RUN'>)
    """
    return max(states, key=lambda state: state.rank, default=State.NOT_RUN)


class Level(StrEnum):
    """What is asked, from the weights up."""

    WEIGHTS = "L0"
    SETTINGS = "L1"
    FORWARD = "L2"
    BACKWARD = "L3"
    STEP = "L4"
    TRAJECTORY = "L5"
    SPEED = "L6"
    TASK = "L7"


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one tap, parameter or setting.

    what: its name. mode: how it was made (`free`, `forced`; empty outside L2). reason: one line that says why, always
    there where the state is no PASS. value, limit: the judged measure and its threshold, where there was one.
    source: where the limit comes from (`floor 3.1e-07 x 8`, `mindformers: first loss`).
    """

    level: Level
    what: str
    state: State
    reason: str = ""
    mode: str = ""
    measure: str = ""
    value: float | None = None
    limit: float | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one level, or of all.

    findings: in the order of computation. compared, total: what was really compared, of all that either side has.
    emulated: whether a device was emulated. An emulated FAIL is a FAIL; an emulated PASS is none on the device.
    """

    level: Level | None
    state: State
    findings: tuple[Finding, ...]
    compared: int
    total: int
    emulated: bool = False
    reason: str = ""

    @property
    def coverage(self) -> float:
        """Share of what was really compared, 0 to 1; 0 of nothing."""
        return self.compared / self.total if self.total else 0.0

    @property
    def passed(self) -> bool:
        """Whether someone may rely on it."""
        return self.state is State.PASS and not self.emulated

    @property
    def first(self) -> Finding | None:
        """The first finding, in the order of computation, that is not a PASS."""
        return next((finding for finding in self.findings if finding.state is not State.PASS), None)

    @property
    def decisive(self) -> Finding | None:
        """The first finding that is a difference; if there is none, the first that is no PASS."""
        return next((finding for finding in self.findings if finding.state in DIFFERENCES), self.first)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, but for numbers that JSON does not know."""
        return {
            "level": self.level,
            "state": self.state,
            "compared": self.compared,
            "total": self.total,
            "coverage": self.coverage,
            "emulated": self.emulated,
            "reason": self.reason,
            "findings": [asdict(finding) for finding in self.findings],
        }


def verdict_of(level: Level, findings: Iterable[Finding], *, emulated: bool = False) -> Verdict:
    """A level's verdict from its findings."""
    known = tuple(findings)
    compared = sum(finding.state.judged for finding in known)
    return Verdict(level, worst(finding.state for finding in known), known, compared, len(known), emulated)
