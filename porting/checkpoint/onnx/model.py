"""ONNX models: their initializers as a checkpoint, read and written.

Read: weights of the main graph, mapped lazily wherever their bytes lie (inline or external), under the
names of the torch parameters they are (see `onnx_scopes`). Tensors of Constant nodes are not weights:
the exporters keep every parameter as an initializer.

Written: into the graph of a given model, whose other bytes are kept (see `onnx_write`).
"""

from __future__ import annotations

from pathlib import Path

from porting.checkpoint.entry import Checkpoint
from porting.checkpoint.onnx.graph import is_model, read_graph
from porting.checkpoint.onnx.names import metadata, present


def locate(path: Path) -> Path | None:
    """The path itself if its outermost records are a ModelProto's."""
    return path if path.is_file() and is_model(path) else None


def read(path: Path) -> Checkpoint:
    """The initializers of the model at `path`.

    Raises: FormatError.
    """
    graph = read_graph(path)
    shown = present(graph)
    files = dict.fromkeys([path, *(tensor.data for tensor in graph.initializers.values() if tensor.data)])
    return Checkpoint(path, "onnx", shown.entries, tuple(files), metadata(graph, shown), graph.notes)
