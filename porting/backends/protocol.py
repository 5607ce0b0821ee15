"""What a backend does with a model: the same few verbs in every framework.

`porting/backends/<framework>/run.py` has `open_session(spec, config, build, recipe=None) -> Session`.
Everything that goes in and out is numpy, so that what compares two sessions needs no framework.

What a session asks of a port, beside `build(config, build)` and the call:

training
    `forward` evaluates: no dropout, whatever `Build.dropout` says. `gradients` and `step` train. The
    session says which by torch's `train()` and `eval()`, MindSpore's `set_train`, and for
    TensorFlow the attribute `training` of the model, set before each call (and so before each trace).

masks of dropout, mode `shared`
    `ModelSpec.sites(config, build, shapes)` lists the sites of a batch, with shape and rate: one function for
    all frameworks, so that all draw masks of one shape. The session draws them on the host
    (`Dropout.mask(site, step, shape, rate)`, the step counted from 0) and adds them to the batch as
    `mask.<site>`, float32; a port multiplies by what it finds there and draws nothing itself. Without the key
    it multiplies by nothing. The first axis of every mask is the batch. In MindSpore, where features are positional,
    `model.features` ends with those names if the mode is `shared`, in the order of `sites`; an evaluation feeds None
    for each.

rows of a gathered table, `Clip.rows == "apart"`
    TensorFlow's gradient of a gathered embedding is IndexedSlices, whose rows are not summed before the
    global norm. PyTorch and MindSpore give the summed gradient only, so there the port has an attribute
    `gathered`: a mapping from the name of each trainable table all of whose uses in this task are one
    gather, to the feature it is gathered by ({"bert.embeddings.word_embeddings.weight": "input_ids"}). A table
    that is also a decoder's weight, or is read by a slice or a one-hot product, is not in it. The session adds to
    the batch a `rows.<parameter>` of zeros, shaped (*feature, width), float32; the port adds it to what the gather
    gives (before LayerNorm, dropout or a transpose changes it), and the gradient there is that of
    the rows. Without the key it adds nothing. In MindSpore `model.features` has these names after the
    task's own and before the masks if `build.extra.get("rows")`, which the session sets.

what is given in place of taps
    `forward(given=…)` adds the values to the batch as `given.<tap>`. A port's tap keeps what it computed and goes on
    with what is there. In MindSpore `model.features` ends with the names that `build.extra["given"]` lists.

types
    float32 features are float32; whole numbers are int64 in PyTorch, which indexes with them, int32 elsewhere.

what a batch may hold
    `porting.model.batch.check_batch` refuses features that are missing, of another shape or dtype, ids out of
    the vocabulary and sequences longer than the positions, before a port sees them: by `Feature.axes`, `Feature.below`
    and `ModelSpec.bounds`. `below="labels"` is `Build.labels`, `below="seq"` the length that the batch has.

parameters that the loss does not reach (a pooler under token classification)
    PyTorch and TensorFlow give None for their gradients; MindSpore gives zeros, so there a port has the attribute
    `unused`: their names in this task, where there are any. Recipes say whether they decay.

several processes
    A session that can train with others has `join(team)` (porting.backends.group). From then on `gradients` and `step`
    take this process's part of a batch and give what one process gives of the whole; `forward` stays its own.

compilations
    A session that can tell has an attribute `compilations`: graphs that were compiled so far, 0 of an eager one. What
    is compiled after the first step was compiled anew.

MindSpore's positions
    Features of the task that a batch lacks are fed as None; an output that cannot be made then (the loss without
    labels) is returned as None.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from porting.model.dropout import OFF, Dropout
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
    dropout: Dropout = OFF
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepResult:
    """One training step.

    loss: before the update. lr: used in it. overflow: whether the update was skipped for non-finite gradients.
    grad_norm: before clipping, over all gradients, gathered rows counted as the recipe's clipping counts them.
    norms: of each gradient for itself, in the order of `Session.trainable`; none after an overflow.
    """

    loss: float
    lr: float
    grad_norm: float
    loss_scale: float = 1.0
    overflow: bool = False
    norms: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Counters:
    """How far a session has trained; with weights and moments all that the next step depends on.

    steps: made, skipped ones too. updates: made. good: steps without overflow since the loss scale last changed.
    Random numbers that a framework draws itself (dropout of mode `own`) are not among them.
    """

    steps: int = 0
    updates: int = 0
    loss_scale: float = 1.0
    good: int = 0


class Session(Protocol):
    """A model with its parameters, on one device."""

    @property
    def parameters(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes by name, in the dialect that the spec names for this framework: all that `load` wants.

        Tied ones stand there once.
        """
        ...

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of those that are trained: all but a teacher's (requires_grad, `trainable`)."""
        ...

    def load(self, tensors: Mapping[str, Array]) -> None:
        """Set every parameter. Raises: MismatchError listing all that is missing, unexpected or of another shape."""
        ...

    def weights(self) -> dict[str, Array]:
        """The parameters as they are now, float32."""
        ...

    def forward(
        self, batch: Batch, taps: Collection[str] = (), given: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """The task's outputs, and the taps that are asked for.

        given: values for taps. Each of them is returned as it was computed, and replaced for all that follows: with
        all taps of another run given, every module computes from that run's values (teacher forcing).
        Raises: UsageError for a tap that does not exist, or a value of another shape.
        """
        ...

    def gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The loss and its gradient for every trainable parameter, dense, unclipped, in float32."""
        ...

    def step(self, batch: Batch) -> StepResult:
        """One training step by the recipe. Raises: UsageError if the session has none."""
        ...

    def slots(self) -> dict[str, dict[str, Array]]:
        """The optimizer's moments by role (`m`, `v`) and parameter name."""
        ...

    def counters(self) -> Counters:
        """How far it has trained."""
        ...

    def resume(self, counters: Counters, slots: Mapping[str, Mapping[str, Array]]) -> None:
        """Go on where another session stood, whose weights are loaded: set the counters and all moments.

        Raises: UsageError without a recipe; MismatchError listing all moments that are missing, unexpected or of
        another shape, before anything is changed.
        """
        ...
