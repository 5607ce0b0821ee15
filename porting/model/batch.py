"""Refuses a batch that no model could take, before any framework sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from porting.errors import UsageError
from porting.model.spec import Config, Feature, ModelSpec

_KINDS = {"int32": "iub", "float32": "fiub"}
"""Kinds of numpy dtypes that a feature takes: whole numbers where a float32 is wanted lose nothing that counts."""


def check_batch(spec: ModelSpec, config: Config, task: str, batch: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Check names, dtypes, shapes, lengths and ranges of a batch's features.

    Labels of a task may be absent where the feature is optional.
    Raises: UsageError with the first thing wrong: feature, wanted and got.
    """
    for problem in _problems(spec, config, task, batch):
        raise UsageError(f"{spec.name} {task}: {problem}")


def _problems(spec: ModelSpec, config: Config, task: str, batch: Mapping[str, np.ndarray[Any, Any]]) -> Iterator[str]:
    features = {feature.name: feature for feature in spec.features}
    wanted = spec.task(task).features
    yield from (f"no feature {name}; there are {', '.join(wanted)}" for name in batch if name not in wanted)
    bounds = spec.bounds(config)
    sizes: dict[str, tuple[str, int]] = {}
    for name in wanted:
        feature = features[name]
        if name in batch:
            yield from _wrong(feature, np.asarray(batch[name]), bounds, sizes)
        elif not feature.optional:
            yield f"feature {name} ({feature.axes}) is missing"


def _wrong(
    feature: Feature, tensor: np.ndarray[Any, Any], bounds: Mapping[str, int], sizes: dict[str, tuple[str, int]]
) -> Iterator[str]:
    """What is wrong with one feature. sizes: of labels seen so far, with the feature that showed them."""
    labels = feature.axes.split()
    if tensor.dtype.kind not in _KINDS[feature.dtype]:
        yield f"{feature.name}: wanted {feature.dtype}, got {tensor.dtype}"
    if tensor.ndim != len(labels):
        yield f"{feature.name}: wanted axes ({feature.axes}), got shape {tensor.shape}"
        return
    for label, size in zip(labels, tensor.shape, strict=True):
        fixed = int(label) if label.isdigit() else None
        other, seen = sizes.setdefault(label.rstrip("'"), (feature.name, size)) if fixed is None else (label, fixed)
        if size != seen:
            yield f"{feature.name}: {label} is {size}, but {other} has {seen}"
        if size > bounds.get(label.rstrip("'"), size):
            yield f"{feature.name}: {label} is {size}, the model takes {bounds[label.rstrip(chr(39))]} at most"
    if feature.below and tensor.size:
        yield from _out_of_range(feature, tensor, bounds[feature.below])


def _out_of_range(feature: Feature, tensor: np.ndarray[Any, Any], end: int) -> Iterator[str]:
    low, high = int(tensor.min()), int(tensor.max())
    if low < 0 or high >= end:
        worst = low if low < 0 else high
        place = tuple(int(i) for i in np.argwhere(tensor == worst)[0])
        yield f"{feature.name}{list(place)} is {worst}, wanted 0 to {end - 1} ({feature.below} {end})"
