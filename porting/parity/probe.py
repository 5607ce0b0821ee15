"""The probe: weights, a batch and a recipe made so that the mistakes of the catalogue show.

On a trained model's weights and a user's batch some mistakes cannot show: a mask of -10000 and one of -1e9 are the
same bits unless a row is fully masked, epsilons differ by rounding unless a variance is small. How each mistake of the
catalogue shows here is in docs/probe.md; what draws the values is declared by each family (`ModelSpec.probe`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from porting.convert.registry import family_named
from porting.errors import UsageError
from porting.model.names import names_in
from porting.model.probe import Probe
from porting.model.recipe import Clip, LossScale, Recipe, Schedule
from porting.model.spec import Config, ModelSpec
from porting.model.symmetry import Symmetry
from porting.parity.replica import symmetry_of

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Build

EXAMPLES = 5
LENGTH = 12
"""Of the batch, unless the model takes less: every kind of mask occurs."""

CLIP = 1.0
"""Norm of the probe's recipe, far below that of its gradient."""

PEAK = 1e-3
"""Of the rate."""

EPSILON = 1e-4
"""Adam's: far above the root of the second moment of a gradient that is zero but for rounding, which would be an update
of full size otherwise; and far below that of most."""

SCALE = 8.0
"""Of the loss: divided twice it shows eightfold, and a gradient of the probe times it is within float16's 65504."""

STEPS = 2
"""Updates in which every mistake of the optimizer shows: one at rate 0, and one that changes weights."""


def probe_batch(
    spec: ModelSpec, config: Config, build: Build, *, seed: int = 0, batch: int = EXAMPLES, seq: int = LENGTH
) -> dict[str, Array]:
    """A batch of a task, all optional features included, at most as long as the model takes.

    Raises: UsageError for a model that declares no probe.
    """
    longest = spec.bounds(config).get("seq", seq)
    return dict(_probe_of(spec, config, build).batch(_generator(seed, "batch"), batch, min(seq, longest)))


def probe_weights(
    spec: ModelSpec,
    config: Config,
    build: Build,
    shapes: Mapping[str, tuple[int, ...]],
    dialect: str,
    *,
    seed: int = 0,
    only: Collection[str] | None = None,
) -> dict[str, Array]:
    """Values for parameters of these shapes, float32, by name in a dialect of the family.

    Values are drawn in that dialect's layout: draw them in one, the first, and convert them for the others.
    shapes: of all parameters of the net, for a name means nothing without the others. only: those that are drawn.
    Raises: UsageError for a model that declares no probe, or a parameter for which it has no draw.
    """
    probe, symmetry = _probe_of(spec, config, build), symmetry_of(spec, config, build)
    named = names_in(spec.family, dialect, symmetry.dialect, tuple(shapes))
    wanted = [name for name in shapes if only is None or name in only]
    problems = [name for name in wanted if _draw(probe, named[name].name, symmetry) is None]
    if problems:
        raise UsageError(f"{spec.name}: its probe has no draw for", *(f"  {name}" for name in problems))
    found = {}
    for name in wanted:
        mean, std = _draw(probe, named[name].name, symmetry) or (0.0, 0.0)
        normal = _generator(seed, name).standard_normal(shapes[name], np.float32)
        found[name] = np.float32(mean) + np.float32(std) * normal
    return found


def probe_recipe(spec: ModelSpec) -> Recipe:
    """Adam with a decay that shows in one step, a clip that acts, LayerNorm and biases not decayed, no bias correction.

    With a warm-up and a loss scale, for their mistakes. The first step is of rate 0, so it takes `STEPS` to show all.
    """
    return Recipe(
        name="probe",
        schedule=Schedule("bert", peak=PEAK, steps=20, warmup=4),
        weight_decay=0.1,
        epsilon=EPSILON,
        excludes=("LayerNorm", "layer_norm", "layernorm", "bias"),
        names_of=family_named(spec.family).dialects[0].name,
        clip=Clip("global_norm", CLIP),
        loss_scale=LossScale("static", SCALE),
    )


def _probe_of(spec: ModelSpec, config: Config, build: Build) -> Probe:
    if spec.probe is None:
        raise UsageError(
            f"{spec.name}: no probe: its ModelSpec declares no `probe`"
            " (a function of config and build that returns a porting.model.probe.Probe)"
        )
    return spec.probe(config, build)


def _draw(probe: Probe, name: str, symmetry: Symmetry) -> tuple[float, float] | None:
    """Mean and standard deviation of a parameter by its name in the symmetry's dialect; None if no draw fits."""
    draw = next((draw for draw in probe.draws if fnmatchcase(name, draw.name)), None)
    if draw is None:
        return None
    sizes = symmetry.part(name.partition(".")[0]).sizes
    root = prod(sizes[label] for label in draw.over) ** 0.5
    return draw.mean / root, draw.std / root


def _generator(seed: int, name: str) -> np.random.Generator:
    """Philox, keyed by seed and name: no order of calls changes what is drawn."""
    key = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
