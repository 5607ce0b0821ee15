"""One change of a run: a value that says how a known mistake would alter the reference.

The reference is the kit's own port in PyTorch. Most mistakes can be made without touching its code: by another
config, other weights, another batch, a value fed to a module in place of the right one. What cannot is a patch, a
context within which the port computes something else; a family declares those of its own port (`ModelSpec.mistakes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Build
    from porting.model.recipe import Recipe
    from porting.model.spec import Config, ModelSpec

Tensors = Mapping[str, "Array"]
Change = Callable[[Tensors], Tensors]


@dataclass(frozen=True, slots=True)
class Case:
    """What is run: a model for a task, its weights, a batch and a recipe.

    weights: by name in the dialect of the reference. taps: all that the task has, in the order of computation.
    recipe: None where no step is made.
    """

    spec: ModelSpec
    config: Config
    build: Build
    weights: Tensors
    batch: Tensors
    taps: tuple[str, ...] = ()
    recipe: Recipe | None = None


@dataclass(frozen=True)
class Seen:
    """What a change of taps may look at.

    taps: as the varied reference computed them. source, target: of the two sides, all forced by the source's.
    unmasked: the reference's taps without any mask in the batch.
    """

    case: Case
    taps: Tensors
    source: Tensors
    target: Tensors
    unmasked: Callable[[], Tensors]


@dataclass(frozen=True, slots=True)
class Variation:
    """What is changed; what is None or empty stays.

    form: in a few words, as a report shows it. config: fields to values, `teacher.layer_norm_eps` for one of a config
    within. build: fields of Build. weights, batch: functions of all of them. given: of what takes the place of taps
    (teacher forcing), outputs: of the taps that come out; both act on forced runs only. loss: a factor of the loss and
    so of its gradients; slope: of the gradients alone. patch: entered around the run.
    """

    form: str
    config: Mapping[str, Any] = field(default_factory=dict)
    build: Mapping[str, Any] = field(default_factory=dict)
    weights: Change | None = None
    batch: Change | None = None
    recipe: Callable[[Recipe], Recipe] | None = None
    given: Change | None = None
    outputs: Callable[[Seen], Tensors] | None = None
    loss: float = 1.0
    slope: float = 1.0
    patch: Callable[[], AbstractContextManager[Any]] | None = None

    @property
    def whole(self) -> bool:
        """Whether it changes the model itself, so that it can be run from end to end."""
        return self.given is None and self.outputs is None


def varied(case: Case, variations: Iterable[Variation]) -> Case:
    """The case with each variation's config, build, weights, batch and recipe, one after the other.

    Raises: UsageError for a config that cannot be.
    """
    for one in variations:
        recipe = case.recipe
        case = replace(
            case,
            config=with_values(case.config, one.config),
            build=replace(case.build, **one.build),
            weights=case.weights if one.weights is None else one.weights(case.weights),
            batch=case.batch if one.batch is None else one.batch(case.batch),
            recipe=recipe if one.recipe is None or recipe is None else one.recipe(recipe),
        )
    return case


def with_values(config: Any, values: Mapping[str, Any]) -> Any:
    """A config with other values, by dotted names. Raises: UsageError for one that cannot be."""
    for path, value in values.items():
        head, _, rest = path.partition(".")
        config = replace(config, **{head: with_values(getattr(config, head), {rest: value}) if rest else value})
    return config


def leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every field of a config and of the configs within it, by dotted name."""
    found: dict[str, Any] = {}
    for one in fields(config):
        value = getattr(config, one.name)
        found |= leaves(value, f"{prefix}{one.name}.") if is_dataclass(value) else {prefix + one.name: value}
    return found


def head_size(config: Any) -> int:
    """Units of a head, by what families call it; 0 if a config has no heads."""
    heads = getattr(config, "num_attention_heads", 0)
    return int(getattr(config, "d_head", 0) or (config.hidden_size // heads if heads else 0))


def patched(name: str, *args: Any) -> AbstractContextManager[Any]:
    """A context of the reference's framework, which it imports."""
    return getattr(import_module("porting.backends.torch.mistakes"), name)(*args)  # type: ignore[no-any-return]


def same_bits(one: Tensors, two: Tensors) -> bool:
    """Whether both hold the same names and bits."""
    return one.keys() == two.keys() and all(
        np.shape(one[name]) == np.shape(two[name])
        and np.asarray(one[name]).tobytes() == np.asarray(two[name]).tobytes()
        for name in one
    )
