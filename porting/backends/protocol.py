"""What a backend does with a model: the same few verbs in every framework.

`porting/backends/<framework>/run.py` has `open_session(spec, config, build, recipe=None) -> Session`.
Everything that goes in and out is numpy, so that what compares two sessions needs no framework.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from porting.model.dropout import Dropout
from porting.model.spec import Compute

Array = np.ndarray[Any, np.dtype[Any]]
Batch = Mapping[str, Array]
"""Arrays by feature name, batch-major, as the spec's features describe them."""


@dataclass(frozen=True, slots=True)
class Build:
    """How a model is built and run.

    task: a task of the spec. labels: classes of a classification head (1 for regression).
    mode: `eager` or `graph`: torch eager or compiled, TensorFlow eager or tf.function, MindSpore PyNative or graph.
    compute: dtype of activations; parameters stay float32. training: whether dropout may act.
    extra: what only some models know (`summary_type` of XLNet).
    """

    task: str
    labels: int = 2
    mode: Literal["eager", "graph"] = "eager"
    compute: Compute = "float32"
    device: str = "cpu"
    dropout: Dropout = Dropout()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepResult:
    """One training step. loss: before the update. lr: used in it. grad_norm: of the clipping's kind, before
    clipping. overflow: whether the update was skipped for non-finite gradients."""

    loss: float
    lr: float
    grad_norm: float
    loss_scale: float = 1.0
    overflow: bool = False


class Session(Protocol):
    """A model with its parameters, on one device."""

    @property
    def parameters(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes by name, in the dialect that the spec names for this framework; trainable ones, tied ones once."""
        ...

    def load(self, tensors: Mapping[str, Array]) -> None:
        """Set every parameter. Raises: MismatchError listing all that is missing, unexpected or of another shape."""
        ...

    def weights(self) -> dict[str, Array]:
        """The parameters as they are now, float32."""
        ...

    def forward(self, batch: Batch, taps: Collection[str] = ()) -> dict[str, Array]:
        """The task's outputs, and the taps that are asked for. Raises: UsageError for a tap that does not exist."""
        ...

    def gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The loss and its gradient for every parameter, dense, unclipped, in float32."""
        ...

    def step(self, batch: Batch) -> StepResult:
        """One training step by the recipe. Raises: UsageError if the session has none."""
        ...

    def slots(self) -> dict[str, dict[str, Array]]:
        """The optimizer's moments by role (`m`, `v`) and parameter name."""
        ...
