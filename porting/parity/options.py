"""What the command line says, as values: levels, dtypes, recipes, a side of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from porting.backends.found import resolve
from porting.backends.names import BackendName
from porting.convert.config import read_config
from porting.errors import UsageError
from porting.model.recipe import Recipe
from porting.model.spec import Compute, ModelSpec
from porting.parity.capture_job import recipe_of
from porting.parity.probe import probe_recipe
from porting.parity.side import CAPTURED, Side
from porting.parity.state import Level
from porting.parity.subject import Subject

Mode = Literal["eager", "graph"]


def levels_of(text: str) -> tuple[Level, ...]:
    """Levels from `L0,L2`. Raises: UsageError for one that is not captured."""
    names = [word.strip() for word in text.split(",") if word.strip()]
    known = {str(level): level for level in CAPTURED}
    for name in names:
        if name not in known:
            raise UsageError(f"--level {name}: wanted some of {', '.join(known)}")
    return tuple(level for name, level in known.items() if name in names)


def computed(name: str) -> Compute:
    """A dtype of activations. Raises: UsageError for another."""
    known: tuple[Compute, ...] = get_args(Compute)
    for each in known:
        if each == name:
            return each
    raise UsageError(f"--dtype {name}: wanted one of {', '.join(known)}")


def mode_named(name: str) -> Mode:
    """How a framework runs. Raises: UsageError for another."""
    known: tuple[Mode, ...] = get_args(Mode)
    for each in known:
        if each == name:
            return each
    raise UsageError(f"--mode {name}: wanted one of {', '.join(known)}")


def recipe_named(spec: ModelSpec, name: str | None) -> Recipe:
    """The recipe of a JSON file, or the probe's. Raises: UsageError, FormatError."""
    if name is None:
        return probe_recipe(spec)
    values = read_config(Path(name)).values
    try:
        found = recipe_of(values)
    except (TypeError, KeyError) as error:
        raise UsageError(f"{name}: wanted a recipe: {error}") from None
    if found is None:
        raise UsageError(f"{name}: holds no recipe")
    return found


def chosen_side(  # noqa: PLR0913, PLR0917 - the options of a command, in their order
    subject: Subject,
    backend: str,
    level: str,
    steps: int,
    recipe: str | None,
    dtype: str,
    mode: str,
    timeout: float,
    *,
    require_device: bool,
) -> Side:
    """A side of a comparison from a command's options. Raises: UsageError for one that makes no sense."""
    if steps < 0:
        raise UsageError(f"--steps {steps}: wanted 0 or more")
    trains = recipe != "none" and steps > 0
    return Side(
        resolve(BackendName.parse(backend), require_device=require_device),
        subject,
        mode=mode_named(mode),
        compute=computed(dtype),
        recipe=recipe_named(subject.spec, recipe) if trains else None,
        levels=levels_of(level),
        steps=steps,
        timeout=timeout,
    )
