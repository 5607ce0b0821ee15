"""Watches the nodes of any ONNX graph: in a copy, what is asked for becomes an output, and onnxruntime runs it."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from porting.backends.protocol import Array
from porting.backends.watch import Asked, Calls, Facts, Keep, Ran
from porting.errors import FormatError, UsageError, first_line_of

AT_ONCE = 32
"""Tensors that one run returns. onnxruntime frees the others, so the memory is bounded; every run computes all."""

_FOLDER = "session.model_external_initializers_file_folder_path"
"""Where a model given as bytes has its external data: onnxruntime_session_options_config_keys.h."""


def open_model(model: Any, batch: Any) -> OnnxWatched:
    """Hold a graph and its batch ready. Raises: FormatError for a file that is no model; UsageError."""
    if isinstance(model, onnx.ModelProto):
        return OnnxWatched(model, None, batch)
    path = Path(model)
    try:
        found = onnx.load(path, load_external_data=False)
    except FileNotFoundError:
        raise FormatError(path, "", "does not exist") from None
    except Exception as error:  # protobuf's own DecodeError is of another class in every build
        raise FormatError(path, "", f"is no ONNX model: {first_line_of(error)}") from error
    return OnnxWatched(found, path, batch)


class OnnxWatched:
    """A graph with its batch. See porting.backends.watch.Watched."""

    def __init__(self, model: Any, path: Path | None, batch: Any) -> None:
        self._model, self._folder = model, path.parent if path else None
        graph = model.graph
        stored = {tensor.name for tensor in graph.initializer}
        wanted = [one.name for one in graph.input if one.name not in stored]
        self._feeds = _feeds(wanted, batch)
        made = [name for node in graph.node if node.op_type != "Constant" for name in node.output if name]
        self.facts = Facts(
            model=graph.name or (path.stem if path else "graph"),
            framework="onnxruntime",
            device="cpu",
            names=tuple(made),
            versions={
                "python": platform.python_version(),
                "onnx": onnx.__version__,
                "onnxruntime": ort.__version__,
                "opset": ",".join(f"{one.domain or 'ai.onnx'} {one.version}" for one in model.opset_import),
            },
            compute=next((name for one in graph.initializer if "float" in (name := _dtype(one))), "float32"),
            switches={"graph_optimization": "off: every node's output is made as the graph says"},
        )

    def inputs(self) -> Iterator[tuple[str, Array]]:
        """The batch by the graph's names."""
        return iter(self._feeds.items())

    def weights(self) -> Iterator[tuple[str, Array]]:
        """The initializers."""
        folder = str(self._folder) if self._folder else ""
        return ((one.name, numpy_helper.to_array(one, folder)) for one in self._model.graph.initializer)

    def run(self, asked: Asked, keep: Keep) -> Ran:
        """As many runs as it takes, AT_ONCE tensors each. Raises: UsageError for a loss, gradients or a step."""
        if asked.gradients or asked.step is not None or asked.loss is not None:
            raise UsageError("onnxruntime computes no gradients: leave out loss, gradients and step")
        names = [name for name in self.facts.names if name in asked.modules]
        session = self._session(names)
        calls = Calls(keep, lambda value: isinstance(value, np.ndarray), np.asarray)
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            found = session.run(some, self._feeds)
            for name in some:
                calls(name, found.pop(0))
        return calls.ran()

    def _session(self, names: list[str]) -> Any:
        """A session of a copy of the graph in which all of these are outputs."""
        copy = onnx.ModelProto()
        copy.CopyFrom(self._model)
        there = {one.name for one in copy.graph.output}
        copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if self._folder:
            options.add_session_config_entry(_FOLDER, str(self._folder.resolve()))
        return ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _dtype(tensor: Any) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))


def _feeds(wanted: list[str], batch: Any) -> dict[str, Array]:
    """The batch by the graph's input names. Raises: UsageError naming what is missing or unknown."""
    if isinstance(batch, Mapping):
        given = dict(batch)
    else:
        parts = batch if isinstance(batch, (tuple, list)) else (batch,)
        if len(parts) != len(wanted):
            raise UsageError(f"batch: the graph wants {', '.join(wanted)}; got {len(parts)} arrays")
        given = dict(zip(wanted, parts, strict=True))
    if set(given) != set(wanted):
        raise UsageError(f"batch: the graph wants {', '.join(wanted)}; got {', '.join(map(str, given))}")
    return {name: np.asarray(given[name]) for name in wanted}
