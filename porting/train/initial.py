"""Initial weights, as the originals draw them: what a checkpoint does not hold, or a net that begins from nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from porting.model.spec import Config

if TYPE_CHECKING:
    from porting.backends.protocol import Array

_RANGES = ("initializer_range", "init_std")
"""What configs call the deviation."""

CUT = 2.0
"""Standard deviations beyond which a value is drawn again."""


def initial_weights(
    config: Config, shapes: Mapping[str, tuple[int, ...]], *, seed: int, only: Collection[str] | None = None
) -> dict[str, Array]:
    """Values of the parameters of these shapes, float32. only: those that are drawn, None for all.

    Weights are normal, of the config's deviation, cut at two of them, as tf.truncated_normal_initializer gives them;
    what a LayerNorm multiplies by is 1, biases are 0. XLNet's biases of attention, which are no vectors, are normal.
    Each is drawn by its own name, so that no order changes it. Source: google-research/bert modeling.py,
    create_initializer(0.02). The initial weights of XLNet and RoBERTa are not cut by their authors.
    """
    deviation = _deviation(config)
    return {name: _drawn(name, shapes[name], deviation, seed) for name in shapes if only is None or name in only}


def _deviation(config: Config) -> float:
    values: Mapping[str, Any] = config.to_dict()
    return float(next((values[name] for name in _RANGES if name in values), 0.02))


def _drawn(name: str, shape: tuple[int, ...], deviation: float, seed: int) -> Array:
    last = name.replace("/", ".").lower()
    if last.endswith(("gamma", "layernorm.weight", "layer_norm.weight", "norm.weight")):
        return np.ones(shape, np.float32)
    if len(shape) == 1:
        return np.zeros(shape, np.float32)
    key = hashlib.sha256(f"{seed}\0initial\0{name}".encode()).digest()
    random = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
    values = random.standard_normal(shape, np.float32)
    while (far := np.abs(values) > CUT).any():
        values[far] = random.standard_normal(int(far.sum()), np.float32)
    return np.float32(deviation) * values
