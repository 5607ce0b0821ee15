"""Exports a port to MindIR, the lengths of its axes left open where MindSpore allows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import nn

from porting.errors import UsageError
from porting.model.spec import ModelSpec


class Predicting(nn.Cell):  # type: ignore[misc]  # MindSpore has no types
    """A port called with some of its features, in their order; the others are not given. Returns the task's outputs."""

    def __init__(self, model: Any, features: Sequence[str], outputs: int) -> None:
        super().__init__(auto_prefix=False)
        self.model, self.count = model, outputs
        self.rest = (None,) * (len(model.features) - len(features))

    def construct(self, *features: Any) -> Any:
        """The outputs of the task, without the loss."""
        return self.model(*features, *self.rest)[: self.count]


def export_mindir(model: Any, spec: ModelSpec, task: str, path: str | Path, features: Sequence[str]) -> tuple[str, ...]:
    """Write a port as MindIR, as it evaluates; the names of its outputs.

    features: of the task, that are inputs, in this order; the first that the port takes. Axes are open.
    Raises: UsageError for features that are not the port's first; with MindSpore's reason where it refuses.
    """
    if tuple(model.features[: len(features)]) != tuple(features):
        raise UsageError(f"{spec.name} {task}: MindIR wants the features {', '.join(model.features)} in this order")
    known = {feature.name: feature for feature in spec.features}
    inputs = []
    for name in features:
        axes = known[name].axes.split()
        dtype = ms.int32 if known[name].dtype == "int32" else ms.float32
        inputs.append(ms.Tensor(shape=[None] * len(axes), dtype=dtype))
    outputs = tuple(spec.task(task).outputs)
    model.set_train(False)
    try:
        ms.export(Predicting(model, features, len(outputs)), *inputs, file_name=str(path), file_format="MINDIR")
    except (RuntimeError, ValueError, TypeError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UsageError(f"{spec.name} {task}: MindSpore exports no MindIR: {reason}") from None
    return outputs
