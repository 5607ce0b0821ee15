"""What somebody signs: two sides, eight levels, a decision, and everything that it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from porting.acceptance.trajectory import Input, Metric, Numbers, Series
from porting.parity.presets import CALIBRATED
from porting.parity.settings import Difference
from porting.parity.state import DIFFERENCES, Finding, Level, State, Verdict, worst

Kind = Literal["capture", "parity", "runs", "logs", "log", "predictions"]
"""What a path turned out to be: a capture, a folder of `port parity`, its training runs, logs, a log, predictions."""


@dataclass(frozen=True, slots=True)
class Party:
    """One of the two sides, as far as its evidence tells.

    path: as it was given. environment: device, framework, versions, precision, …, only what was recorded. emulated: the
    emulated arithmetic, empty on a device. limits: what the evidence cannot support; notes: what was met on reading.
    """

    path: str
    kind: Kind
    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    limits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    emulated: str = ""

    def same_as(self, other: Party) -> bool:
        """Whether both are the same run (`FILE#RUN`) of the same bytes, whatever the files are called."""
        ours, theirs = (sorted(one.hash for one in party.inputs) for party in (self, other))
        runs = {party.name.partition("#")[2] for party in (self, other)}
        return bool(ours) and ours == theirs and len(runs) == 1


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One series of both sides.

    low, high: the noise band of the source, from its replicas; z: difference of the two groups of replicas over their
    pooled spread, per block of steps. None where there are no replicas.
    """

    name: str
    source: Series | None
    target: Series | None
    low: Series | None = None
    high: Series | None = None
    z: Series | None = None

    @property
    def shared(self) -> tuple[Numbers, Numbers, Numbers] | None:
        """Steps that both sides have, and the values of both there; None where there are none."""
        if self.source is None or self.target is None:
            return None
        steps, ours, theirs = np.intersect1d(self.source.steps, self.target.steps, return_indices=True)
        return (steps, self.source.values[ours], self.target.values[theirs]) if len(steps) else None


@dataclass(frozen=True, slots=True, eq=False)
class Pace:
    """How fast one side is.

    median, p95: seconds of a step once it is steady; jitter: half the range from the 16th to the 84th percentile over
    the median. warm_up: steps before that; first: seconds of the first of them; compile: seconds that they took beyond
    as many steady ones. values: seconds [steps], None where only a number was given by hand. examples, tokens: per
    second, where the size of a batch is known. memory_mb: the peak.
    """

    median: float
    p95: float | None = None
    jitter: float | None = None
    steps: int = 0
    warm_up: int = 0
    first: float | None = None
    compile: float | None = None
    values: Numbers | None = None
    examples: float | None = None
    tokens: float | None = None
    memory_mb: float | None = None
    given: bool = False


@dataclass(frozen=True, slots=True)
class Speed:
    """Step times of both sides. interval: of the ratio target / source, where both were measured."""

    source: Pace | None
    target: Pace | None
    interval: tuple[float, float] | None = None

    @property
    def ratio(self) -> float | None:
        """Target's step time over the source's."""
        if self.source is None or self.target is None or not self.source.median:
            return None
        return self.target.median / self.source.median


@dataclass(frozen=True, slots=True)
class Quality:
    """One metric of the task on both sides. interval: of 90 %, of the difference; paired: of the same examples."""

    name: str
    source: Metric | None
    target: Metric | None
    interval: tuple[float, float] | None = None
    paired: bool = False

    @property
    def difference(self) -> float | None:
        """Target minus source, in the metric's own unit."""
        if self.source is None or self.target is None:
            return None
        return self.target.value - self.source.value


@dataclass(frozen=True, slots=True)
class Advice:
    """What to look at next. key: of its text in the catalogue; values: what the text names, from the data."""

    key: str
    level: Level | None = None
    values: Mapping[str, str] = field(default_factory=dict)


Direction = Literal["worse", "better", "other"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was in the previous report."""

    what: str
    before: str
    after: str
    direction: Direction


@dataclass(frozen=True, slots=True)
class Regression:
    """A report held against a previous one."""

    previous: Input
    changes: tuple[Change, ...]

    @property
    def worse(self) -> bool:
        """Whether anything that was shown before is not shown any more."""
        return any(change.direction == "worse" for change in self.changes)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The judgement of a migration.

    levels: L0 to L7, each once; one without evidence is NOT_RUN and says why. overall: the calibrated verdict over
    them. rule: the verdict by the preset or file that was asked for beside it; rule_file: that file. made: the moment,
    ISO 8601 in UTC.
    """

    source: Party
    target: Party
    levels: tuple[Verdict, ...]
    overall: Verdict
    criteria: str = CALIBRATED
    rule: Verdict | None = None
    rule_file: Input | None = None
    curves: tuple[Curve, ...] = ()
    speed: Speed | None = None
    qualities: tuple[Quality, ...] = ()
    differences: tuple[Difference, ...] = ()
    counts: Mapping[str, tuple[int | None, int | None]] = field(default_factory=dict)
    advice: tuple[Advice, ...] = ()
    notes: tuple[str, ...] = ()
    regression: Regression | None = None
    made: str = ""
    kit: str = ""

    @property
    def state(self) -> State:
        """The decision: the worse of the calibrated verdict and of the rule that was asked for beside it."""
        return self.overall.state if self.rule is None else worst((self.overall.state, self.rule.state))

    @property
    def emulated(self) -> bool:
        """Whether any side was emulated."""
        return self.overall.emulated

    @property
    def passed(self) -> bool:
        """Whether someone may sign without a condition."""
        return self.state is State.PASS and not self.emulated and not (self.regression and self.regression.worse)

    @property
    def disagree(self) -> bool:
        """Whether the rule comes to another judgement than the calibrated verdict."""
        return self.rule is not None and self.rule.state is not self.overall.state

    @property
    def decisive(self) -> Finding | None:
        """The first difference, from the weights up; where there is none, the first finding of the decision's state."""
        by_rule = self.rule if self.rule is not None and self.overall.state is not self.state else None
        decides = DIFFERENCES if self.state in DIFFERENCES else (self.state,)
        return next((one for one in (by_rule or self.overall).findings if one.state in decides), None)

    @property
    def missing(self) -> tuple[Level, ...]:
        """Levels that nothing was judged at."""
        return tuple(level.level for level in self.levels if level.level is not None and not level.compared)

    def level(self, level: Level) -> Verdict:
        """The verdict of one level."""
        return next(verdict for verdict in self.levels if verdict.level is level)
