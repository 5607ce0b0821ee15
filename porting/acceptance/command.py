"""`port parity MODEL --steps N` from what a user names, and what it shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from porting.acceptance.limits import check_limit
from porting.acceptance.train import REPLICAS, Judged, Plan, on, train, training_recipe
from porting.backends.found import usable
from porting.backends.names import BackendName
from porting.errors import UsageError
from porting.model.recipe import Recipe
from porting.model.spec import Compute
from porting.parity.catalogue import names
from porting.parity.parity import COMPARISON
from porting.parity.presets import CALIBRATED
from porting.parity.rules import rule_named
from porting.parity.side import TIMEOUT, Side
from porting.parity.state import Finding, Level, State, Verdict
from porting.parity.subject import Subject


def train_both(  # noqa: PLR0913 - one keyword per choice
    subject: Subject,
    source: str,
    target: str,
    *,
    output: str | Path,
    steps: int,
    compute: Compute = "float32",
    recipe: Recipe | None = None,
    criteria: str = CALIBRATED,
    replicas: int | None = None,
    seeds: int = 0,
    plant: Sequence[str] = (),
    limit: float | None = None,
    require_device: bool = False,
    timeout: float = TIMEOUT,
    overwrite: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Judged:
    """Train a subject on two backends by name, and judge.

    recipe: None is the probe's, over these steps. replicas: runs beside each side's. seeds: runs of the source with
    other orders of the data. plant: mistakes of the catalogue, for the power. limit: of the ratio of step times.
    Raises: UsageError for what makes no sense, a backend that cannot be used, a folder of another run.
    """
    _sensible(steps, replicas, seeds, plant, limit)
    rule, ours, theirs = rule_named(criteria), BackendName.parse(source), BackendName.parse(target)
    learns = recipe or training_recipe(subject.spec, steps)
    here = usable(ours)
    one = on(Side(here, subject, recipe=learns, steps=steps, timeout=timeout), here)
    two = on(replace(one, compute=compute), usable(theirs, require_device=require_device))
    plan = Plan(one, two, REPLICAS if replicas is None else replicas, seeds, planted=tuple(plant))
    below = compared_before(Path(output))
    return train(plan, output, rule=rule, limit=limit, below=below, overwrite=overwrite, tell=tell)


def _sensible(steps: int, replicas: int | None, seeds: int, plant: Sequence[str], limit: float | None) -> None:
    """Raises: UsageError for what makes no sense."""
    unknown = [name for name in plant if name not in names()]
    if steps < 1 or seeds < 0 or (replicas is not None and replicas < 0):
        raise UsageError(f"--steps {steps}, --replicas {replicas}, --seeds {seeds}: wanted 1 or more, 0 or more")
    check_limit("--max-ratio", limit)
    if unknown:
        raise UsageError(f"--plant {unknown[0]}: not known; there are {', '.join(names())}")


def compared_before(folder: Path) -> tuple[Verdict, ...]:
    """The verdicts of L0 to L4 that `port parity` without `--steps` left in a folder; none where it did not."""
    try:
        levels = json.loads((folder / COMPARISON).read_text(encoding="utf-8"))["levels"]
        return tuple(
            Verdict(Level(one["level"]), State(one["state"]), (), one["compared"], one["total"], one["emulated"])
            for one in levels
        )
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def judged_lines(found: Judged) -> Iterator[str]:
    """What is shown: each level with its findings, the worst first."""
    for verdict in (found.trajectory, found.speed):
        emulated = " EMULATED, no evidence of a device" if verdict.emulated else ""
        counts = f"{verdict.compared} of {verdict.total} judged"
        yield f"{verdict.level}  {verdict.state}{emulated}  ({counts})" + (
            f"  {verdict.reason}" if verdict.reason else ""
        )
        yield from (f"    {line}" for line in _table(verdict.findings))
    yield f"{found.made} runs made, {found.kept} were there"


def _table(findings: Sequence[Finding]) -> Iterator[str]:
    width = max((len(one.what) for one in findings), default=0)
    for one in sorted(findings, key=lambda one: -one.state.rank):
        held = ""
        if one.value is not None:
            held = f"{one.measure} {one.value:.3g}" + (f", limit {one.limit:.3g}" if one.limit is not None else "")
        source = f"({one.source})" if one.source else ""
        parts = [part for part in (held, source) if part]
        told = "; ".join(part for part in (" ".join(parts), one.reason) if part)
        yield f"{one.what:{width}}  {one.state:11}  {told}"
