"""Runs a port in onnxruntime: PyTorch's, exported to ONNX with the taps asked for as outputs. Forward only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import numpy as np
import torch

from porting.backends import feed
from porting.backends.onnxruntime import device
from porting.backends.protocol import Array, Batch, Build, Counters, StepResult
from porting.backends.torch.export import export_onnx
from porting.convert.registry import family_named
from porting.convert.sizes import config_sizes
from porting.errors import UsageError
from porting.model.batch import check_batch
from porting.model.recipe import Recipe
from porting.model.spec import Config, ModelSpec

_COMPUTES = ("float32", "float16")
"""What the exported operators have kernels for; bfloat16 and float64 lack most."""


def open_session(spec: ModelSpec, config: Config, build: Build, recipe: Recipe | None = None) -> OnnxSession:
    """Build a port and hold it ready.

    Raises: UsageError for a recipe, a device that onnxruntime would not run on, or a dtype that it has no kernels for.
    """
    spec.task(build.task)
    if recipe is not None:
        _refuse("step")
    if build.device not in device.PROVIDERS:
        raise UsageError(f"device {build.device}: onnxruntime has {', '.join(device.PROVIDERS)}")
    if build.compute not in _COMPUTES:
        raise UsageError(f"compute {build.compute}: onnxruntime runs ports in {' or '.join(_COMPUTES)}")
    device.prepare(build.device)
    return OnnxSession(spec, config, build)


def _refuse(what: str) -> NoReturn:
    raise UsageError(f"onnxruntime: no {what}: an ONNX graph is run forward only; PyTorch's port trains")


class OnnxSession:
    """A port in onnxruntime. See porting.backends.protocol.Session."""

    def __init__(self, spec: ModelSpec, config: Config, build: Build) -> None:
        self._spec, self._config, self._build = spec, config, build
        torch.manual_seed(build.dropout.seed)
        self._model: torch.nn.Module = spec.port("pytorch").build(config, build)
        self._named = dict(self._model.named_parameters())
        self._graphs: dict[tuple[tuple[str, ...], frozenset[str]], tuple[Any, tuple[str, ...]]] = {}

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name, those of PyTorch's port."""
        return {name: tuple(tensor.shape) for name, tensor in self._named.items()}

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of those that PyTorch's port trains."""
        return tuple(name for name, tensor in self._named.items() if tensor.requires_grad)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Array]) -> None:
        """Set every parameter. Raises: MismatchError."""
        for name, tensor in feed.accepted(f"{self._spec.name} in onnxruntime", self.parameters, tensors):
            self._named[name].copy_(torch.tensor(tensor))
        self._graphs.clear()  # weights are a part of them

    def weights(self) -> dict[str, Array]:
        """The parameters, float32."""
        return {name: tensor.detach().numpy().copy() for name, tensor in self._named.items()}

    def forward(
        self, batch: Batch, taps: Collection[str] = (), given: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """The task's outputs, the loss where there are labels, and the taps asked for. Raises: UsageError."""
        if given:
            _refuse("value can be put in the place of a tap")
        asked = feed.known_taps(self._spec, taps)
        check_batch(self._spec, self._config, self._build, batch)
        features = tuple(name for name in self._spec.task(self._build.task).features if name in batch)
        session, outputs = self._graph(features, asked)
        values = session.run(list(outputs), {name: _fed(batch[name]) for name in features})
        found = dict(zip(outputs, values, strict=True))
        return {name: _plain(value) for name, value in feed.given(self._spec, asked, found).items()}

    def gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """Raises: UsageError always."""
        del batch
        _refuse("gradients")

    def step(self, batch: Batch) -> StepResult:
        """Raises: UsageError always."""
        del batch
        _refuse("step")

    def slots(self) -> dict[str, dict[str, Array]]:
        """Raises: UsageError always."""
        _refuse("moments")

    def counters(self) -> Counters:
        """Of a session that has not trained."""
        return Counters()

    def resume(self, counters: Counters, slots: Mapping[str, Mapping[str, Array]]) -> None:
        """Raises: UsageError always."""
        del counters, slots
        _refuse("step")

    def _graph(self, features: tuple[str, ...], taps: frozenset[str]) -> tuple[Any, tuple[str, ...]]:
        """A graph that takes these features and gives these taps, and the names of its outputs; exported once."""
        if (features, taps) not in self._graphs:
            with TemporaryDirectory(prefix="porting-onnx-") as folder:
                path = Path(folder) / "model.onnx"
                # memories have the model's layers and units
                sizes = config_sizes(family_named(self._spec.family), self._config.to_dict())
                outputs = export_onnx(self._model, self._spec, self._build.task, path, features, taps, sizes)
                self._graphs[features, taps] = device.open_session(str(path), self._build.device), outputs
        return self._graphs[features, taps]


def _fed(value: Array) -> Array:
    """A feature as the graph takes it: whole numbers are int64."""
    return np.ascontiguousarray(value, np.int64 if np.asarray(value).dtype.kind in "iub" else np.float32)


def _plain(value: Array) -> Array:
    """An output; float16 as float32, which holds it exactly."""
    return value.astype(np.float32) if value.dtype == np.float16 else value
