"""Simulated training: a small network in numpy, many runs at once, with noise in the place of rounding.

It is a real training (softmax of a tanh layer, Adam, warm-up, decay, clipping), so that mistakes do what they do,
and so quick that a thousand pairs of sides are trained in a minute. Each run's activations and gradients are
multiplied by noise of their own, as another order of sums does in lower precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from porting.acceptance.trajectory import Runs, Series, Trajectory

Array = np.ndarray[Any, np.dtype[np.float64]]

INPUTS, HIDDEN, CLASSES, EXAMPLES = 8, 12, 4, 16


@dataclass(frozen=True, slots=True)
class Trained:
    """A side's settings; the defaults are right. noise: relative, of each activation and gradient.

    weights: seed of the initial weights; data: of the batches. scale: of the hidden layer's values. slope: a factor of
    all gradients. ahead: steps by which the schedule is off.
    """

    steps: int = 300
    lr: float = 0.01
    warmup: int = 30
    ahead: int = 0
    decay: float = 0.05
    beta2: float = 0.999
    clip: float = 1.0
    slope: float = 1.0
    scale: float = 1.0
    noise: float = 3e-3
    weights: int = 0
    data: int = 0
    precision: str = "float16"


MISTAKES: Mapping[str, Trained] = {
    "attention scale x 0.97": Trained(scale=0.97),
    "weight decay 0": Trained(decay=0.0),
    "learning rate + 2 %": Trained(lr=0.01 * 1.02),
    "warm-up off by one": Trained(ahead=1),
    "beta2 0.95": Trained(beta2=0.95),
    "gradients x 0.5": Trained(slope=0.5),
    "no clipping": Trained(clip=np.inf),
    "other initial weights": Trained(weights=1),
}
"""What ports get wrong, as PARITY.md lists it."""


def runs(side: Trained, count: int, seed: int, *, name: str = "run") -> tuple[Trajectory, ...]:
    """Train `count` replicas at once. seed: of their noise."""
    random = np.random.default_rng((seed, count))
    features, labels = _data(side)
    net = _Net.start(side, count)
    losses, norms = np.empty((count, side.steps)), np.empty((count, side.steps, 2))
    rates = np.array([_rate(side, step + side.ahead) for step in range(side.steps)])
    for step in range(side.steps):
        losses[:, step], grads = net.slopes(side, features[step], labels[step], random)
        norms[:, step] = np.stack([_norm(grads[:1]), _norm(grads[1:])], axis=1)
        net.update(side, grads, float(rates[step]), step)
    return tuple(_trajectory(side, f"{name} {i}", losses[i], norms[i], i or None) for i in range(count))


def sides(source: Trained, target: Trained, seed: int, *, count: int = 6, seeds: int = 0) -> tuple[Runs, Runs]:
    """Two sides of `count` runs each, the source with `seeds` more on other orders of the data."""
    ours, theirs = runs(source, count, 2 * seed, name="source"), runs(target, count, 2 * seed + 1, name="target")
    other = tuple(runs(replace(source, data=100 + i), 1, 10_000 + i, name="seed")[0] for i in range(seeds))
    return Runs(ours[0], ours[1:], seeds=other), Runs(theirs[0], theirs[1:])


@dataclass(slots=True)
class _Net:
    """Weights [runs, in, out] of two layers, with moments."""

    weights: list[Array]
    m: list[Array]
    v: list[Array]

    @classmethod
    def start(cls, side: Trained, count: int) -> _Net:
        random = np.random.default_rng(side.weights)
        first = random.standard_normal((INPUTS, HIDDEN)) / INPUTS**0.5
        second = random.standard_normal((HIDDEN, CLASSES)) / HIDDEN**0.5
        weights = [np.repeat(one[None], count, axis=0) for one in (first, second)]
        return cls(weights, [np.zeros_like(one) for one in weights], [np.zeros_like(one) for one in weights])

    def slopes(self, side: Trained, x: Array, labels: Array, random: np.random.Generator) -> tuple[Array, list[Array]]:
        """Losses [runs], and the gradients of both layers."""
        first, second = self.weights
        hidden = np.tanh(x @ first)
        hidden = hidden * (side.scale * (1 + side.noise * random.standard_normal(hidden.shape)))
        logits = hidden @ second
        logits -= logits.max(axis=2, keepdims=True)
        shares = np.exp(logits)
        shares /= shares.sum(axis=2, keepdims=True)
        losses = -np.log(shares[:, np.arange(EXAMPLES), labels]).mean(axis=1)
        shares[:, np.arange(EXAMPLES), labels] -= 1
        back = shares / EXAMPLES
        two = hidden.swapaxes(1, 2) @ back
        inner = (back @ second.swapaxes(1, 2)) * side.scale * (1 - (hidden / side.scale) ** 2)
        grads = [x.T @ inner, two]
        return losses, [side.slope * one * (1 + side.noise * random.standard_normal(one.shape)) for one in grads]

    def update(self, side: Trained, grads: list[Array], rate: float, step: int) -> None:
        """Adam with bias correction and decoupled decay, clipped by the global norm."""
        factor = np.minimum(1.0, side.clip / np.maximum(_norm(grads), 1e-12))[:, None, None]
        correction = (1 - side.beta2 ** (step + 1)) ** 0.5 / (1 - 0.9 ** (step + 1))
        for i, grad in enumerate(grads):
            self.m[i] = 0.9 * self.m[i] + 0.1 * grad * factor
            self.v[i] = side.beta2 * self.v[i] + (1 - side.beta2) * (grad * factor) ** 2
            change = correction * self.m[i] / (np.sqrt(self.v[i]) + 1e-8) + side.decay * self.weights[i]
            self.weights[i] = self.weights[i] - rate * change


def _data(side: Trained) -> tuple[Array, Array]:
    """Batches [steps, examples, inputs] and labels, by a linear teacher."""
    teacher = np.random.default_rng(7).standard_normal((INPUTS, CLASSES))
    features = np.random.default_rng((3, side.data)).standard_normal((side.steps, EXAMPLES, INPUTS))
    return features, (features @ teacher).argmax(axis=2)


def _rate(side: Trained, step: int) -> float:
    """Warm-up, then a straight line to 0."""
    return side.lr * min(1.0, step / side.warmup) * max(0.0, 1 - step / side.steps)


def _norm(grads: list[Array]) -> Array:
    return np.asarray(np.sqrt(np.sum([(one**2).sum(axis=(1, 2)) for one in grads], axis=0)))


def _trajectory(side: Trained, name: str, losses: Array, norms: Array, replica: int | None) -> Trajectory:
    steps = np.arange(side.steps)
    values = {
        "loss": losses,
        "grad_norm": np.sqrt((norms**2).sum(axis=1)),
        "grad_norm/layer.0": norms[:, 0],
        "grad_norm/head": norms[:, 1],
    }
    return Trajectory(
        name, "capture", (), {key: Series(steps, value) for key, value in values.items()},
        environment={"precision": side.precision}, weights=f"simulated:{side.weights}",
        batches=tuple(f"{side.data}:{step}" for step in steps), dropout="off", replica=replica,
    )  # fmt: skip
