"""A model's spec: everything about it that holds in every framework.

A spec is data. The ports (`torch.py`, `tensorflow.py`, `mindspore.py` beside it) are imported by name
only when a backend builds them, so that listing models imports no framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from porting.errors import UsageError

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting.model.probe import Probe
    from porting.model.symmetry import Symmetry
    from porting.parity.variation import Variation

Framework = Literal["pytorch", "tensorflow", "mindspore"]
Compute = Literal["float32", "float16", "bfloat16", "float64"]
"""Of activations; parameters stay float32. With float64, which PyTorch's ports only have, everything is float64."""


class Config(Protocol):
    """A model's config: a frozen dataclass that refuses nonsense when it is made.

    Its constructor raises UsageError with one line that names the field, the wanted and the got.
    """

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, under the published names of the original's config file."""
        ...


@dataclass(frozen=True, slots=True)
class Feature:
    """An input.

    axes: labels of its shape (`batch seq`). optional: tasks run without it.
    below: the bound (a key of `ModelSpec.bounds`) that its values, from 0, stay under: `vocab_size` for ids.
    """

    name: str
    axes: str
    dtype: Literal["int32", "float32"]
    optional: bool = False
    below: str = ""


@dataclass(frozen=True, slots=True)
class Tap:
    """A named point of the computation that means the same in every framework.

    name: with `{layer}` where there is one per layer. axes: labels of its shape. what: which value, in a sentence.
    """

    name: str
    axes: str
    what: str


@dataclass(frozen=True, slots=True)
class Mean:
    """What a loss is a mean over. Several processes with a part of the batch each weight theirs by it.

    tap: `loss`, or one of the taps whose sum it is. counts: the feature that says what counts: by weights (float32), or
    by labels (int32), which count from 0 on; without it every example counts alike.
    more, floor: what the denominator has more than the count, and what it is at least.
    """

    tap: str
    counts: str = ""
    more: float = 0.0
    floor: float = 0.0


@dataclass(frozen=True, slots=True)
class Task:
    """A head with its loss. features: names of what a batch of it holds. outputs: taps it produces at its end.

    means: what its loss is a mean over, if not over examples that count alike.
    """

    name: str
    features: tuple[str, ...]
    outputs: tuple[str, ...]
    means: tuple[Mean, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """A place where dropout acts: the shape of its mask for one batch, and the rate there."""

    shape: tuple[int, ...]
    rate: float


def no_bounds(config: Config) -> Mapping[str, int]:
    """The bounds of a model that takes whatever it is given."""
    del config
    return {}


def no_sites(config: Config, build: Build, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Site]:
    """The sites of a model without dropout."""
    del config, build, shapes
    return {}


@dataclass(frozen=True)
class ModelSpec:
    """A model.

    family: the table that knows its names. package: where the ports are (`porting_bert`).
    sizes: published sizes by name (`bert-base`). configure: from a config file's values to a Config.
    dialects: whose names the port of each framework gives its parameters.
    taps: all taps, in the order of computation.
    bounds: what a batch may not exceed, of a config: by the label of an axis its greatest length ({"seq": 512};
        RoBERTa's is less by its padding's offset), by a name that features' `below` refers to the end of their values.
    sites: dropout sites by name, in the order of computation, of a config and a build for a batch of these shapes.
    symmetry: what may be reordered in a task's net without a change of its function; without it there are no replicas,
        and so no noise floor of this model.
    probe: weights and a batch of a task on which mistakes show; without it only a user's own are compared.
    mistakes: what only this family's ports can get wrong, by name of the catalogue, as changes of PyTorch's port.
    """

    name: str
    family: str
    package: str
    sizes: Mapping[str, Config]
    configure: Callable[[Mapping[str, Any]], Config]
    tasks: tuple[Task, ...]
    features: tuple[Feature, ...]
    taps: tuple[Tap, ...]
    dialects: Mapping[Framework, str]
    traps: tuple[str, ...] = field(default=())
    bounds: Callable[[Any], Mapping[str, int]] = no_bounds
    sites: Callable[[Any, Build, Mapping[str, tuple[int, ...]]], Mapping[str, Site]] = no_sites
    symmetry: Callable[[Any, Build], Symmetry] | None = None
    probe: Callable[[Any, Build], Probe] | None = None
    mistakes: Callable[[Any, Build], Mapping[str, tuple[Variation, ...]]] | None = None

    def task(self, name: str) -> Task:
        """Raises: UsageError listing the tasks there are."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise UsageError(f"{self.name}: no task {name}; there are {', '.join(task.name for task in self.tasks)}")

    def port(self, framework: Framework) -> Any:
        """The module of a framework's port. Importing it imports the framework."""
        name = {"pytorch": "torch"}.get(framework, framework)
        return import_module(f"{self.package}.{name}")
