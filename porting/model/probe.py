"""What a family says of weights and a batch on which mistakes in a port show. `porting.parity.probe` draws them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray[Any, np.dtype[Any]]]
Draws = Callable[[np.random.Generator, int, int], Arrays]
"""From a generator, a number of examples and a length of sequences to a batch."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Normal values for parameters of a name, in the dialect of the model's symmetry; `*` stands for anything.

    std, mean: divided by the square root of the number of units that `over` names, labels of the symmetry: of a kernel
    the units that it sums, so that `Draw("*.query.weight", std=2 / 0.02, over=("hidden",))` turns a stream of 0.02
    (root mean square) into queries of 2.
    """

    name: str
    std: float
    mean: float = 0.0
    over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """A family's part in the probe of a task. draws: the first that fits a name counts. batch: makes the features."""

    draws: tuple[Draw, ...]
    batch: Draws
