"""Gradients of weights that are read wrongly, with respect to the weights as they are.

A port that reads a matrix untransposed has the gradient of the matrix that it reads, in the place of the one that it
has. Every change of weights in the catalogue takes elements from elsewhere or puts zeros, so applied to the numbers of
elements it tells where each comes from, and gradients go back there.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from porting.errors import UsageError
from porting.parity.variation import Case, Tensors, Variation, varied

if TYPE_CHECKING:
    from porting.backends.protocol import Array


class Reading:
    """What the weights of a case become under variations."""

    def __init__(self, case: Case, chosen: Iterable[Variation]) -> None:
        self._case = case
        self._chosen = tuple(one for one in chosen if one.weights is not None)

    @cached_property
    def _origins(self) -> dict[str, Array]:
        """By name, the number of the element that each element is read from, from 1; 0 for zeros that stand there."""
        weights = self._case.weights
        starts = dict(zip(weights, accumulate((w.size for w in weights.values()), initial=1), strict=False))
        numbers = {
            n: np.arange(starts[n], starts[n] + w.size, dtype=np.int64).reshape(w.shape) for n, w in weights.items()
        }
        case = Case(self._case.spec, self._case.config, self._case.build, numbers, {})
        return {name: np.asarray(value) for name, value in varied(case, self._chosen).weights.items()}

    def gradients(self, found: Tensors) -> Tensors:
        """Of the weights as they are: the sum over all places that an element is read at."""
        if not self._chosen:
            return found
        total = np.zeros(1 + sum(w.size for w in self._case.weights.values()))
        for name, gradient in found.items():
            np.add.at(total, self._origins[name].ravel(), np.asarray(gradient, np.float64).ravel())
        return self._split(total, found)

    def steps(self, found: Tensors) -> Tensors:
        """Moments and changes, of a reading that takes every element once: what is not read has none here.

        Raises: UsageError for a reading that takes elements twice or never, whose steps are not those of the weights.
        """
        if not self._chosen:
            return found
        if not self._once:
            raise UsageError("weights that are read twice or never have no steps of their own")
        kinds: dict[str, dict[str, Array]] = {}
        for name, value in found.items():
            kind, slash, parameter = name.partition("/")
            if slash:
                kinds.setdefault(kind, {})[parameter] = value
        carried = {f"{kind}/{n}": v for kind, values in kinds.items() for n, v in self.gradients(values).items()}
        return {name: carried.get(name, value) for name, value in found.items()}

    @property
    def _once(self) -> bool:
        numbers = np.concatenate([value.ravel() for value in self._origins.values()])
        return bool((np.sort(numbers) == np.arange(1, numbers.size + 1)).all())

    def _split(self, total: Array, wanted: Tensors) -> Tensors:
        made, at = {}, 1
        for name, weight in self._case.weights.items():
            if name in wanted:
                made[name] = total[at : at + weight.size].reshape(weight.shape).astype(wanted[name].dtype)
            at += weight.size
        return {name: made[name] for name in wanted}
