"""The batch of every step of a training run: a function of the subject, the order's seed and the step alone.

So both sides, every replica, and a run that is begun again see the same data, and its hash in each step proves it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from porting.errors import UsageError
from porting.parity.prepare import batch_of
from porting.parity.probe import EXAMPLES

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Build
    from porting.model.spec import ModelSpec
    from porting.parity.subject import Subject

POOL = 8
"""Batches of the probe that steps go round in: few enough to be learned, so that the loss falls."""


def batches_of(subject: Subject, build: Build, order: int) -> Callable[[int], Mapping[str, Array]]:
    """A function from a step, counted from 0, to its batch.

    Without a file: the probe's batches. Of a file: its examples, `subject.examples` a step. Either is gone through in
    an order drawn anew for every epoch, by `order`.
    Raises: UsageError for a file with fewer examples than a batch; what `batch_of` raises.
    """
    if subject.batch is None:
        pool = [batch_of(replace(subject, seed=_seed(subject.seed, number)), build) for number in range(POOL)]
        return lambda step: pool[_order(order, step // POOL, POOL)[step % POOL]]
    whole = batch_of(subject, build)
    axes = _axes(subject.spec, whole)
    count = {whole[name].shape[axis] for name, axis in axes.items()}.pop()
    size = min(subject.examples or EXAMPLES, count)
    if subject.examples and subject.examples > count:
        raise UsageError(f"{subject.batch}: holds {count} examples, fewer than a batch of {subject.examples}")
    steps = count // size

    def batch(step: int) -> Mapping[str, Array]:
        epoch, place = divmod(step, steps)
        chosen = _order(order, epoch, count)[place * size : (place + 1) * size]
        return {name: np.take(one, chosen, axes[name]) if name in axes else one for name, one in whole.items()}

    return batch


def _axes(spec: ModelSpec, whole: Mapping[str, Array]) -> dict[str, int]:
    """Where each feature has its examples. Raises: UsageError for a batch none of whose features has any."""
    features = {one.name: one.axes.split() for one in spec.features}
    found = {name: features[name].index("batch") for name in whole if "batch" in features[name]}
    if not found:
        raise UsageError(f"{spec.name}: none of its features has an axis `batch` to make batches along")
    return found


def _order(seed: int, epoch: int, count: int) -> Array:
    """The order of one epoch."""
    return np.random.Generator(np.random.Philox(key=_seed(seed, epoch))).permutation(count)


def _seed(*parts: int) -> int:
    """A seed of several numbers."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little")
