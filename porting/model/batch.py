"""Refuses a batch that no model could take, before any framework sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from porting.errors import UsageError

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting.model.spec import Config, Feature, ModelSpec

_KINDS = {"int32": "iub", "float32": "fiub"}
"""Kinds of numpy dtypes that a feature takes: whole numbers where a float32 is wanted lose nothing that counts."""


def check_batch(spec: ModelSpec, config: Config, build: Build, batch: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Check names, dtypes, shapes, lengths and ranges of a batch's features against the spec.

    A feature's `below` is a key of `spec.bounds`, or `labels` for the build's number of classes, or the label
    of an axis: a position in a sequence is less than the length that this batch has.
    Raises: UsageError with the first thing wrong: feature, wanted and got.
    """
    bounds = {"labels": build.labels, **spec.bounds(config)}
    for problem in _problems(spec, build.task, bounds, batch):
        raise UsageError(f"{spec.name} {build.task}: {problem}")


def _problems(
    spec: ModelSpec, task: str, bounds: Mapping[str, int], batch: Mapping[str, np.ndarray[Any, Any]]
) -> Iterator[str]:
    features = {feature.name: feature for feature in spec.features}
    wanted = spec.task(task).features
    yield from (f"no feature {name}; there are {', '.join(wanted)}" for name in batch if name not in wanted)
    sizes: dict[str, tuple[str, int]] = {}
    for name in wanted:
        feature = features[name]
        if name in batch:
            yield from _wrong_shape(feature, np.asarray(batch[name]), bounds, sizes)
        elif not feature.optional:
            yield f"{name} ({feature.axes}) is missing"
    ends = {**bounds, **{label: size for label, (_, size) in sizes.items()}}
    for name in wanted:
        if name in batch and features[name].below:
            yield from _out_of_range(features[name], np.asarray(batch[name]), ends[features[name].below])


def _wrong_shape(
    feature: Feature, tensor: np.ndarray[Any, Any], bounds: Mapping[str, int], sizes: dict[str, tuple[str, int]]
) -> Iterator[str]:
    """What is wrong with one feature. sizes: of labels seen so far, with the feature that showed them."""
    if tensor.dtype.kind not in _KINDS[feature.dtype]:
        yield f"{feature.name}: wanted {feature.dtype}, got {tensor.dtype}"
    axes = feature.axes.split()
    if tensor.ndim != len(axes):
        yield f"{feature.name}: wanted axes ({feature.axes}), got shape {tensor.shape}"
        return
    for axis, size in zip(axes, tensor.shape, strict=True):
        label = axis.rstrip("'")
        other, seen = ("the spec", int(axis)) if axis.isdigit() else sizes.setdefault(label, (feature.name, size))
        if size != seen:
            yield f"{feature.name}: {axis} is {size}, {other} has {seen}"
        if size > bounds.get(label, size):
            yield f"{feature.name}: {axis} is {size}, the model takes {bounds[label]} at most"


def _out_of_range(feature: Feature, tensor: np.ndarray[Any, Any], end: int) -> Iterator[str]:
    if tensor.size == 0:
        yield f"{feature.name}: shape {tensor.shape} holds nothing"
        return
    low, high = int(tensor.min()), int(tensor.max())
    if low < 0 or high >= end:
        worst = low if low < 0 else high
        place = [int(i) for i in np.argwhere(tensor == worst)[0]]
        yield f"{feature.name}{place} is {worst}, wanted 0 to {end - 1} ({feature.below} is {end})"
