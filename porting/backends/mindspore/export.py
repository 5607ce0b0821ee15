"""Exports a port to MindIR, the lengths of its axes left open where that works."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from porting.errors import UsageError, first_line_of
from porting.model.spec import Feature, ModelSpec

TRIED = ((2, 7), (3, 5))
"""Batches and lengths that a graph with open axes is tried with."""

AGREE = 1e-4
"""Between the port and its graph, whose operators MindSpore may fuse: 1e-6 is rounding, another function is far off."""


class Predicting(nn.Cell):  # type: ignore[misc]  # MindSpore has no types
    """A port called with some of its features, in their order; the others are not given. Returns the task's outputs."""

    def __init__(self, model: Any, features: Sequence[str], outputs: int) -> None:
        super().__init__(auto_prefix=False)
        self.model, self.count = model, outputs
        self.rest = (None,) * (len(model.features) - len(features))

    def construct(self, *features: Any) -> Any:
        """The outputs of the task, without the loss."""
        return self.model(*features, *self.rest)[: self.count]


def export_mindir(
    model: Any, spec: ModelSpec, task: str, path: str | Path, features: Sequence[str], shape: tuple[int, int]
) -> tuple[str, ...]:
    """Write a port as MindIR, as it evaluates; the names of its outputs.

    features: of the task, that are inputs, in this order; the first that the port takes.
    shape: batch and length of its inputs, where the graph with open axes does not compute what the port does: MindSpore
    2.10 writes lengths of XLNet's into it. Either graph is loaded and run before it is believed.
    Raises: UsageError for features that are not the port's first, or with MindSpore's reason where it refuses both.
    """
    if tuple(model.features[: len(features)]) != tuple(features):
        raise UsageError(f"{spec.name} {task}: MindIR wants the features {', '.join(model.features)} in this order")
    known = {feature.name: feature for feature in spec.features}
    chosen = [known[name] for name in features]
    outputs = tuple(spec.task(task).outputs)
    model.set_train(False)
    net = Predicting(model, features, len(outputs))
    reason = ""
    for inputs, shapes in (
        ([_open(one) for one in chosen], TRIED),
        ([_filled(one, shape) for one in chosen], (shape,)),
    ):
        try:
            ms.export(net, *inputs, file_name=str(path), file_format="MINDIR")
            graph = nn.GraphCell(ms.load(str(path)))
            if all(_agree(net, graph, [_filled(one, tried) for one in chosen]) for tried in shapes):
                return outputs
            reason = "its graph computes something else"
        except (RuntimeError, ValueError, TypeError) as error:
            reason = first_line_of(error)
    raise UsageError(f"{spec.name} {task}: MindSpore exports no MindIR: {reason}")


def _open(feature: Feature) -> Any:
    """An input of any lengths."""
    return ms.Tensor(shape=[None] * len(feature.axes.split()), dtype=_dtype(feature))


def _filled(feature: Feature, shape: tuple[int, int]) -> Any:
    """An input of a batch and a length. Zeros and ones in turn."""
    lengths = [shape[1] if axis.startswith("seq") else shape[0] for axis in feature.axes.split()]
    return ms.Tensor(np.arange(int(np.prod(lengths))).reshape(lengths) % 2, _dtype(feature))


def _dtype(feature: Feature) -> Any:
    return ms.int32 if feature.dtype == "int32" else ms.float32


def _agree(net: Any, graph: Any, inputs: Sequence[Any]) -> bool:
    """Whether a graph that was read back gives what the port gives."""
    wanted, found = net(*inputs), graph(*inputs)
    pairs = zip(wanted, found if isinstance(found, tuple) else (found,), strict=True)
    return all(np.allclose(one.asnumpy(), two.asnumpy(), rtol=0, atol=AGREE) for one, two in pairs)
