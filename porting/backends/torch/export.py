"""Exports a port to ONNX through torch.export and onnxscript, the lengths of its axes left open."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from porting.errors import UsageError
from porting.model.spec import Feature, ModelSpec

OPSET = 18


class Positional(torch.nn.Module):
    """A port called with its features in order, which gives its outputs in order: what an ONNX graph is.

    taps: those that the model has to be asked for.
    """

    def __init__(
        self, model: torch.nn.Module, features: Sequence[str], outputs: Sequence[str], taps: frozenset[str]
    ) -> None:
        super().__init__()
        self.model, self.features, self.outputs, self.taps = model, tuple(features), tuple(outputs), taps

    def forward(self, *features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Takes tensors in the order of `self.features`."""
        found: dict[str, torch.Tensor] = self.model(dict(zip(self.features, features, strict=True)), self.taps)
        return tuple(found[name] for name in self.outputs)


def export_onnx(
    model: torch.nn.Module,
    spec: ModelSpec,
    task: str,
    path: str | Path,
    features: Sequence[str],
    taps: Collection[str] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> tuple[str, ...]:
    """Write a port as an ONNX model of opset 18 whose inputs and outputs have the spec's names; the outputs' names.

    features: of the task, that are inputs, in this order; whole numbers are int64. Their axes are open and named as in
    the spec: batch, seq. taps: to be outputs too, with whatever else the model gives of these features (its losses, if
    labels are among them); None for the task's outputs alone. sizes: of axes that the model fixes (`hidden` of mems).
    The model is exported as it evaluates, in the dtype and with the options it was built with.
    Raises: UsageError for a feature that the task has not, or one missing that it cannot do without.
    """
    known = {feature.name: feature for feature in spec.features}
    wanted = spec.task(task).features
    strangers = [name for name in features if name not in wanted]
    if strangers:
        raise UsageError(f"{spec.name} {task}: no feature {', '.join(strangers)}; there are {', '.join(wanted)}")
    missing = [name for name in wanted if not known[name].optional and name not in features]
    if missing:
        raise UsageError(f"{spec.name} {task}: cannot be exported without {', '.join(missing)}")
    examples, shapes = _examples([known[name] for name in features], sizes or {})
    asked = frozenset(taps or ())
    found = _given(model.eval(), dict(zip(features, examples, strict=True)), asked)
    outputs = found if taps is not None else tuple(name for name in spec.task(task).outputs if name in found)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.export and onnxscript about themselves
        torch.onnx.export(
            Positional(model, features, outputs, asked),
            tuple(examples),
            str(path),
            input_names=list(features),
            output_names=list(outputs),
            dynamic_shapes=(tuple(shapes),),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    return outputs


@torch.no_grad()
def _given(model: torch.nn.Module, batch: dict[str, torch.Tensor], taps: frozenset[str]) -> tuple[str, ...]:
    """What the model makes of such a batch: XLNet has beams without start positions, mems if it caches."""
    return tuple(name for name, value in model(batch, taps).items() if value is not None)


def _examples(features: Sequence[Feature], sizes: Mapping[str, int]) -> tuple[list[torch.Tensor], list[dict[int, Any]]]:
    """Features of unlike lengths to trace with, and which of their axes are open."""
    lengths = dict(sizes)
    examples, shapes = [], []
    for feature in features:
        labels = [axis.rstrip("'") for axis in feature.axes.split()]
        for label in labels:
            lengths.setdefault(label, int(label) if label.isdigit() else 3 + 2 * (len(lengths) - len(sizes)))
        dtype = torch.int64 if feature.dtype == "int32" else torch.float32
        examples.append(torch.zeros([lengths[label] for label in labels], dtype=dtype))
        opened = {
            place: torch.export.Dim(label)
            for place, label in enumerate(labels)
            if not label.isdigit() and label not in sizes
        }
        shapes.append(opened)
    return examples, shapes
