"""What a port is fed beside the batch, and what a session takes in: no framework needed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from porting.backends.group import ALONE, World, part_of, whole_shapes
from porting.backends.protocol import Array, Batch, Build
from porting.convert.names import collapse
from porting.errors import MismatchError, UsageError
from porting.model.spec import Config, ModelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

MASK = "mask."
ROWS = "rows."
GIVEN = "given."
ROLES = ("m", "v")
"""The moments of Adam."""


class NoSuchTaps(UsageError):  # noqa: N818 - what it says
    """Taps that a model or a task does not have. names: all of them."""

    def __init__(self, title: str, names: Sequence[str]) -> None:
        self.names = tuple(names)
        super().__init__(f"{title}: this model and task have no tap {', '.join(names)}")


def masks(
    spec: ModelSpec, config: Config, build: Build, batch: Batch, step: int, world: World = ALONE
) -> dict[str, Array]:
    """The masks of every site for one step, as features; none unless the mode is `shared`.

    world: those of the whole batch are drawn, and a rank's rows taken: one process with all of it has the same masks.
    """
    if build.dropout.mode != "shared":
        return {}
    sites = spec.sites(config, build, whole_shapes(spec, batch, world))
    drawn = {name: build.dropout.mask(name, step, site.shape, site.rate) for name, site in sites.items()}
    return {MASK + name: part_of(mask, world) for name, mask in drawn.items()}


def rows(gathered: Mapping[str, str], widths: Mapping[str, tuple[int, ...]], batch: Batch) -> dict[str, Array]:
    """Zeros to add to what each gather gives, as features: their gradient is that of the gathered rows.

    gathered: parameter to the feature it is gathered by. widths: shapes of the parameters.
    """
    return {
        ROWS + name: np.zeros((*batch[feature].shape, *widths[name][1:]), np.float32)
        for name, feature in gathered.items()
        if feature in batch
    }


def accepted(
    title: str, wanted: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Array], *, double: bool = False
) -> Iterator[tuple[str, NDArray[np.floating[Any]]]]:
    """Tensors as float32, or float64 if `double`, in the order of the parameters.

    Raises: MismatchError listing all that is missing, unexpected or of another shape, before any is given.
    """
    problems = [f"{name}  missing" for name in collapse(name for name in wanted if name not in tensors)]
    problems += [f"{name}  unexpected" for name in collapse(name for name in tensors if name not in wanted)]
    problems += [
        f"{name}: the model wants {shape}, got {np.shape(tensors[name])}"
        for name, shape in wanted.items()
        if name in tensors and np.shape(tensors[name]) != shape
    ]
    if problems:
        raise MismatchError(title, problems)
    dtype = np.float64 if double else np.float32
    return ((name, np.ascontiguousarray(tensors[name], dtype)) for name in wanted)


def accepted_moments(
    title: str,
    wanted: Mapping[str, tuple[int, ...]],
    slots: Mapping[str, Mapping[str, Array]],
    *,
    double: bool = False,
) -> dict[str, list[NDArray[np.floating[Any]]]]:
    """Moments by role, in the order of the trained parameters. wanted: shapes of those.

    Raises: MismatchError listing all that is missing, unexpected or of another shape.
    """
    shapes = {f"{role}.{name}": shape for role in ROLES for name, shape in wanted.items()}
    given = {f"{role}.{name}": tensor for role, tensors in slots.items() for name, tensor in tensors.items()}
    found = dict(accepted(f"{title}, the optimizer's moments", shapes, given, double=double))
    return {role: [found[f"{role}.{name}"] for name in wanted] for role in ROLES}


def refuse_float64(build: Build, framework: str) -> None:
    """Raises: UsageError if the model is to be computed in float64, which PyTorch's ports only do."""
    if build.compute == "float64":
        raise UsageError(f"compute float64: {framework}'s ports have none; PyTorch's do")


def known_taps(spec: ModelSpec, taps: Collection[str]) -> frozenset[str]:
    """The taps asked for. Raises: UsageError for one that the spec does not list."""
    patterns = [re.compile(re.escape(tap.name).replace(r"\{layer\}", r"\d+")) for tap in spec.taps]
    for name in sorted(taps):
        if not any(pattern.fullmatch(name) for pattern in patterns):
            there = ", ".join(tap.name for tap in spec.taps)
            raise UsageError(f"{spec.name}: no tap {name}; there are {there}")
    return frozenset(taps)


def replacing(spec: ModelSpec, values: Mapping[str, Array] | None) -> dict[str, Array]:
    """What takes the place of taps, as features. Raises: UsageError for a tap that the spec does not list."""
    known_taps(spec, values or ())
    return {GIVEN + name: value for name, value in (values or {}).items()}


def check_given(values: Mapping[str, Any], given: Mapping[str, Array]) -> None:
    """Raises: UsageError for a value in the place of a tap that has not the shape of what was computed there."""
    for name, value in given.items():
        computed = values.get(name)
        if computed is not None and tuple(computed.shape) != np.shape(value):
            raise UsageError(f"tap {name}: wanted {tuple(computed.shape)}, got {np.shape(value)}")


def given(spec: ModelSpec, taps: Collection[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """What a port returned, without what it could not make (None).

    Raises: UsageError for a tap that it did not give: of a layer that there is not, or of another task.
    """
    missing = [name for name in sorted(taps) if values.get(name) is None]
    if missing:
        raise NoSuchTaps(spec.name, missing)
    return {name: value for name, value in values.items() if value is not None}


def loss_of(spec: ModelSpec, build: Build, values: Mapping[str, Any]) -> Any:
    """The loss. Raises: UsageError if there is none: the batch lacks labels, or the task has no loss."""
    loss = values.get("loss")
    if loss is None:
        wanted = ", ".join(spec.task(build.task).features)
        raise UsageError(f"{spec.name}: no loss in task {build.task}: a batch to train on has {wanted}")
    return loss
