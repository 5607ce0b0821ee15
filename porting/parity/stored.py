"""A checkpoint's parameters in its family's first dialect, in memory: what a capture loads into a port."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from porting.checkpoint.registry import read
from porting.convert.find import find
from porting.convert.names import collapse
from porting.convert.naming import Wishes, target_of
from porting.convert.plan import plan_model
from porting.convert.registry import family_named
from porting.convert.sizes import bind
from porting.errors import MismatchError
from porting.model.spec import Config, ModelSpec
from porting.parity.naming import of_task

if TYPE_CHECKING:
    from porting.backends.protocol import Array


def labels_in(path: Path, spec: ModelSpec) -> int | None:
    """Classes of the head that a checkpoint holds, None where it holds none; only shapes are read.

    Raises: FormatError, UsageError; MismatchError if it is no checkpoint of the model's family.
    """
    family = family_named(spec.family)
    checkpoint = read(path)
    match = find(tuple(checkpoint), {family.name: family})
    counts = [bind(model, checkpoint).sizes.get("labels") for model in match.models]
    return next((count for count in counts if count is not None), None)


def stored(path: Path, spec: ModelSpec, config: Config, task: str) -> dict[str, Array]:
    """Names and values; those of a mapped file are views of it. task: reads a head that two tasks name alike.

    Raises: FormatError, UsageError; MismatchError if it is no checkpoint of the model's family, or not a whole one.
    """
    family = family_named(spec.family)
    checkpoint = read(path)
    match = find(tuple(checkpoint), {family.name: family})
    dialect = family.dialects[0]
    settings = {name: value for name, value in config.to_dict().items() if isinstance(value, bool)}
    bounds = [bind(of_task(model, task), checkpoint, settings) for model in match.models]
    several = len(bounds) > 1
    wishes = Wishes(variables=dialect.scopes[0].variables, config=settings)
    plans = [plan_model(bound, target_of(bound, dialect, wishes, several=several), checkpoint) for bound in bounds]
    problems = [problem for bound in bounds for problem in bound.problems]
    problems += [problem for plan in plans for problem in plan.problems]
    if problems:
        raise MismatchError(f"{path}: {match.dialect.name} to {dialect.name}", collapse(problems))
    planned = [one for plan in plans for one in plan.tensors]
    return {one.name: one.entry(checkpoint.__getitem__).read() for one in planned}
