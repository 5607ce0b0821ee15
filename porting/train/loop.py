"""The loop of a training run: batches, steps, lines of a log, states on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from porting.backends.protocol import Batch, Session, StepResult
from porting.errors import UsageError
from porting.train.best import Evaluation, add_evaluation, keep_best
from porting.train.parallel import Part, world
from porting.train.state import Position, State, check_run, read_state, save, state_path, states


class Batches(Protocol):
    """Data whose every batch is known by its place, so that a run can begin anywhere in it."""

    @property
    def per_epoch(self) -> int:
        """Batches of one epoch."""
        ...

    def batch(self, epoch: int, number: int) -> Batch:
        """Batch `number` of an epoch, both from 0: the same whenever it is asked for."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run trains, and what it leaves behind.

    steps: made in all, skipped ones too. run: what makes two runs the same, as JSON values.
    save_every: steps between states; 0 for one at the end only. keep: states that stay.
    """

    steps: int
    folder: Path
    run: Mapping[str, Any]
    save_every: int = 0
    keep: int = 1

    def __post_init__(self) -> None:
        """Raises: UsageError naming the field that makes no sense."""
        for name, least in (("steps", 1), ("save_every", 0), ("keep", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}: wanted at least {least}, got {getattr(self, name)}")


Told = Callable[[Position, int, StepResult], None]
"""Takes each step as it is made: its place in the data, its number from 1, what came out."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Evaluates a run, whose best weights are kept (porting.train.best).

    every: steps between evaluations; 0 for one at each epoch's end. The last step is evaluated in any case.
    evaluate: leaves the session as it is. metric: that the best has the highest of.
    """

    every: int
    evaluate: Callable[[Session], Mapping[str, float]]
    metric: str

    def __post_init__(self) -> None:
        """Raises: UsageError for a number of steps below 0."""
        if self.every < 0:
            raise UsageError(f"eval_steps: wanted at least 0, got {self.every}")


def train(session: Session, batches: Batches, plan: Plan, told: Told, judge: Judge | None = None) -> Path:
    """Train to the end of the plan, from the newest state in its folder if there is one. Returns the last state.

    Of several ranks (porting.train.parallel) each takes its part of a batch; all read the state and evaluate, and the
    first writes.

    Raises: UsageError for data without a batch, or a state of another run; FormatError for a damaged state (remove it
    to go on from the one before), or where a state cannot be written.
    """
    if batches.per_epoch < 1:
        raise UsageError("the data give no batch: fewer examples than one batch holds")
    here = world()
    parts, leads = Part(batches, here), here.leads
    found = states(plan.folder)
    position = _resumed(session, found[-1], plan.run) if found else Position()
    saved = found[-1] if found else None
    while (step := session.counters().steps) < plan.steps:
        result = session.step(parts.batch(position.epoch, position.batch))
        told(position, step + 1, result)
        if judge is not None and _due(judge, plan, batches, position, step + 1):
            evaluation = Evaluation(step + 1, position.epoch + 1, judge.evaluate(session))
            if leads:
                _judged(session, judge, plan, evaluation)
        position = _after(position, batches.per_epoch)
        if step + 1 == plan.steps or (plan.save_every and (step + 1) % plan.save_every == 0):
            saved = state_path(plan.folder, step + 1)
            if leads:
                save(plan.folder, State.of(session, position, plan.run), keep=plan.keep)
    if saved is None:
        raise UsageError(f"steps: the session has made {step} already, and no state is in {plan.folder}")
    return saved


def _due(judge: Judge, plan: Plan, batches: Batches, position: Position, step: int) -> bool:
    """Whether a step, from 1, is followed by an evaluation."""
    if step == plan.steps:
        return True
    return step % judge.every == 0 if judge.every else position.batch + 1 == batches.per_epoch


def _judged(session: Session, judge: Judge, plan: Plan, evaluation: Evaluation) -> None:
    """Write an evaluation down. It stands before the state of its step is written, so that none is left out."""
    keep_best(plan.folder, evaluation, judge.metric, session.weights(), plan.run)
    add_evaluation(plan.folder, evaluation)


def _resumed(session: Session, path: Path, run: Mapping[str, Any]) -> Position:
    state = read_state(path)
    check_run(path, state.mark, run)
    state.restore(session)
    return state.mark.position


def _after(position: Position, per_epoch: int) -> Position:
    """The place of the next batch."""
    if position.batch + 1 < per_epoch:
        return Position(position.epoch, position.batch + 1)
    return Position(position.epoch + 1, 0)
