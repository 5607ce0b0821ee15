"""Replicas: the same model under permutations that leave its function as it is.

Inner units, heads, the units within a head and the hidden axis are reordered, alike in every weight that knows them,
and so are the examples of the batch, over which gradients are sums; what comes out is put back. Nothing changes but the
order of sums, in any framework and without hooks: how far replicas are apart is what this model, on this data, cannot
decide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from porting.errors import UsageError
from porting.model.spec import Config, ModelSpec
from porting.model.symmetry import Symmetry
from porting.parity.axes import BATCH, Axes, Unit, feature_axes, moves, parameter_axes, tap_axes

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Build

Order = np.ndarray[Any, np.dtype[np.intp]]
"""A permutation: place i of what is permuted holds what stood at place order[i]."""


@dataclass(frozen=True)
class Replica:
    """One seed's permutations of one model, by parameter, tap and feature.

    parameters: the axes of each, by name in the dialect that the replica was made for. Gradients, moments and updates
    have their parameter's axes.
    """

    spec: ModelSpec
    symmetry: Symmetry
    seed: int
    parameters: Mapping[str, Axes]

    def parameter(self, name: str, tensor: Array) -> Array:
        """A parameter, a gradient or a moment of the source, as the replica has it."""
        return self._moved(name, self.parameters[name], tensor, back=False)

    def undo_parameter(self, name: str, tensor: Array) -> Array:
        """A parameter, a gradient or a moment of the replica, back in the source's order: the same bits."""
        return self._moved(name, self.parameters[name], tensor, back=True)

    def feature(self, name: str, tensor: Array) -> Array:
        """A feature of the source's batch, as the replica wants it."""
        return self._moved(name, feature_axes(self.spec, self.symmetry, name, tensor.ndim), tensor, back=False)

    def tap(self, name: str, tensor: Array) -> Array:
        """A tap or output of the source, as the replica has it. Raises: UsageError for an unknown tap."""
        return self._moved(name, tap_axes(self.spec, self.symmetry, name, tensor.ndim), tensor, back=False)

    def undo_tap(self, name: str, tensor: Array) -> Array:
        """A tap or output of the replica, back in the source's order. Raises: UsageError for an unknown tap."""
        return self._moved(name, tap_axes(self.spec, self.symmetry, name, tensor.ndim), tensor, back=True)

    @property
    def unmoved(self) -> dict[str, str]:
        """The parameters that stand as they are, and why."""
        reasons = self.symmetry.fixed
        return {name: _why(axes, reasons) for name, axes in self.parameters.items() if not axes.free}

    def _moved(self, name: str, axes: Axes, tensor: Array, *, back: bool) -> Array:
        if tensor.ndim != len(axes.axes):
            raise UsageError(f"{self.spec.name}: {name}: wanted {len(axes.axes)} axes, got shape {tensor.shape}")
        if axes.stacked is None:
            return self._along(name, axes, axes.layer, tensor, back=back)
        layers = np.moveaxis(tensor, axes.stacked, 0)
        inner = Axes(axes.part, axes.axes[: axes.stacked] + axes.axes[axes.stacked + 1 :])
        moved = [self._along(name, inner, str(layer), one, back=back) for layer, one in enumerate(layers)]
        return np.moveaxis(np.stack(moved), 0, axes.stacked)

    def _along(self, name: str, axes: Axes, layer: str, tensor: Array, *, back: bool) -> Array:
        """A tensor of one layer, permuted axis by axis."""
        for place, units in enumerate(axes.axes):
            if moves(units):
                sizes = _sizes(f"{self.spec.name}: {name}", units, tensor.shape[place])
                order = self._order(axes, units, sizes, layer)
                tensor = np.take(tensor, np.argsort(order) if back else order, axis=place)
        return tensor

    def _order(self, axes: Axes, units: tuple[Unit, ...], sizes: list[int], layer: str) -> Order:
        """Of one axis: of folded units the outer's order of blocks, the inner's within each."""
        order: Order = np.zeros(1, np.intp)
        for unit, size in zip(units, sizes, strict=True):
            one = np.arange(size, dtype=np.intp)
            if unit.free:
                name = BATCH if unit.label == BATCH else self.symmetry.order(axes.part, unit.label, layer)
                one = permutation(self.seed, name, size)
            order = (order[:, None] * size + one).ravel()
        return order


def replica_of(
    spec: ModelSpec,
    config: Config,
    build: Build,
    seed: int,
    shapes: Mapping[str, tuple[int, ...]],
    dialect: str,
) -> Replica:
    """The replica of a seed.

    shapes: of the parameters, by name in `dialect`, any of the family's: a seed means the same reordering in each.
    Raises: UsageError for a model that declares no symmetry, or one that leaves an axis open; MismatchError for names
    that are not of the family.
    """
    symmetry = symmetry_of(spec, config, build)
    return Replica(spec, symmetry, seed, parameter_axes(spec, symmetry, dialect, shapes))


def symmetry_of(spec: ModelSpec, config: Config, build: Build) -> Symmetry:
    """What may be reordered in a task's net.

    Raises: UsageError for a model that does not say, or for dropout, whose masks no replica could share.
    """
    if spec.symmetry is None:
        raise UsageError(
            f"{spec.name}: no replicas, and so no noise floor: its ModelSpec declares no `symmetry`"
            " (a function of config and build that returns a porting.model.symmetry.Symmetry)"
        )
    if build.dropout.mode != "off":
        raise UsageError(
            f"{spec.name}: a replica has no dropout of the source: wanted mode off, got {build.dropout.mode}"
        )
    return spec.symmetry(config, build)


def permutation(seed: int, order: str, size: int) -> Order:
    """A permutation of `size` units, of a seed and the name of their order; the identity for one unit only.

    Drawn by Philox, keyed by all three: no order of calls, and no framework, changes it.
    """
    key = hashlib.sha256(f"{seed}\0{order}\0{size}".encode()).digest()
    drawn = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little"))).permutation(size)
    still = np.array_equal(drawn, np.arange(size))
    return np.roll(drawn, 1) if still else drawn.astype(np.intp)


def _sizes(place: str, units: tuple[Unit, ...], length: int) -> list[int]:
    """Of the units of an axis, of which one at most is known by the length alone."""
    known = prod(unit.size or 1 for unit in units)
    unknown = sum(unit.size is None for unit in units)
    rest = length // known
    if unknown > 1 or (rest != 1 and not unknown) or known * rest != length:
        wanted = " x ".join(f"{unit.label} {unit.size or '?'}" for unit in units)
        raise UsageError(f"{place}: an axis of {length}, wanted {wanted}")
    return [unit.size or rest for unit in units]


def _why(axes: Axes, reasons: Mapping[str, str]) -> str:
    labels = dict.fromkeys(unit.label for axis in axes.axes for unit in axis)
    return "; ".join(f"{label}: {reasons[label]}" for label in labels if label in reasons) or "it has no axis of units"
