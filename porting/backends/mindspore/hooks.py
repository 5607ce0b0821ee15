"""Watches any MindSpore Cell in PyNative mode. A graph calls no forward hooks, so one that is compiled is refused."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import mindspore as ms
import ml_dtypes
import numpy as np
from mindspore import nn

from porting.backends.protocol import Array
from porting.backends.watch import LOSS, Asked, Calls, Facts, Keep, Ran, arguments, leaves, loss_of, root_name
from porting.errors import UsageError

_DECLARE = "declare the taps as outputs of construct instead, or"


def open_model(model: Any, batch: Any) -> MindSporeWatched:
    """Hold a Cell and its batch ready. Raises: UsageError for one that runs as a graph."""
    if getattr(getattr(model, "__func__", model), "__wrapped_by_jit__", False):
        raise UsageError(f"a graph made by mindspore.jit calls no hooks: {_DECLARE} pass the Cell it was made from")
    if not isinstance(model, nn.Cell):
        raise UsageError(f"{type(model).__name__}: wanted a mindspore.nn.Cell")
    if ms.get_context("mode") == ms.GRAPH_MODE:
        raise UsageError(
            f"MindSpore is in GRAPH_MODE, which calls no hooks: {_DECLARE} call "
            "mindspore.set_context(mode=mindspore.PYNATIVE_MODE)"
        )
    for path, cell in model.cells_and_names():
        if isinstance(cell, nn.GraphCell) or getattr(cell.construct, "__wrapped_by_jit__", False):
            at = path or "the cell"
            raise UsageError(f"{at} is compiled to a graph, which calls no hooks: {_DECLARE} take mindspore.jit off it")
    return MindSporeWatched(model, batch)


class MindSporeWatched:
    """A Cell with its batch. See porting.backends.watch.Watched."""

    def __init__(self, model: Any, batch: Any) -> None:
        self._model, self._batch = model, _placed(batch)
        self._cells = [(path, cell) for path, cell in model.cells_and_names() if path]
        self._root = root_name([path for path, _ in self._cells])
        self.facts = Facts(
            model=type(model).__name__,
            framework="mindspore",
            device=str(ms.get_context("device_target")).lower(),
            names=(*(path for path, _ in self._cells), self._root),
            versions={"python": platform.python_version(), "mindspore": ms.__version__},
            switches={"deterministic": str(ms.get_context("deterministic")), "mode": "PYNATIVE_MODE"},
            compute=next(
                (name for p in model.get_parameters() if "float" in (name := str(p.dtype).lower())), "float32"
            ),
            training=bool(model.training),
            notes=_dropouts(self._cells),
        )

    def inputs(self) -> Iterator[tuple[str, Array]]:
        """The batch by name."""
        return ((path.removeprefix("."), _host(tensor)) for path, tensor in leaves(self._batch, _is_tensor))

    def weights(self) -> Iterator[tuple[str, Array]]:
        """Parameters, moving statistics included."""
        return ((parameter.name, _host(parameter)) for parameter in self._model.get_parameters())

    def run(self, asked: Asked, keep: Keep) -> Ran:
        """One pass forward, one back where gradients are asked for. Raises: UsageError if a step is asked for."""
        if asked.step is not None:
            raise UsageError("step: of MindSpore the kit takes no optimizer's step; leave it out")
        calls = Calls(keep, _is_tensor, _host)
        positional, named = arguments(self._batch)

        trained = list(self._model.trainable_params()) if asked.gradients else []

        def forward() -> Any:
            output = self._model(*positional, **named)
            return output if asked.loss is None else loss_of(asked.loss, output, _is_tensor)

        with ExitStack() as hooks:
            for path, cell in (*self._cells, ("", self._model)):
                if (name := path or self._root) in asked.modules:
                    hooks.callback(cell.register_forward_hook(_tap(calls, name)).remove)
            loss, grads = ms.value_and_grad(forward, None, trained)() if asked.gradients else (forward(), ())
        if callable(asked.loss):
            keep("forward", LOSS, _host(loss))
        for parameter, grad in zip(trained, grads, strict=True):
            keep("gradients", parameter.name, _host(grad))
        return calls.ran()


def _tap(calls: Calls, name: str) -> Any:
    def hook(_cell: Any, _inputs: Any, output: Any) -> None:
        calls(name, output)

    return hook


def _is_tensor(value: Any) -> bool:
    return isinstance(value, ms.Tensor)


def _placed(value: Any) -> Any:
    """The batch with its arrays as tensors, of the dtype that they have."""
    if isinstance(value, np.ndarray):
        return ms.Tensor(np.ascontiguousarray(value))
    if isinstance(value, Mapping):
        return {key: _placed(part) for key, part in value.items()}
    return type(value)(_placed(part) for part in value) if type(value) in (tuple, list) else value


def _host(tensor: Any) -> Array:
    """On the host; numpy has bfloat16 through ml_dtypes only."""
    if tensor.dtype == ms.bfloat16:
        return np.asarray(tensor.astype(ms.float32).asnumpy().astype(ml_dtypes.bfloat16))
    return np.asarray(tensor.asnumpy())


def _dropouts(cells: list[tuple[str, Any]]) -> tuple[str, ...]:
    """A note where two runs cannot be equal."""
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
    acting = [path for path, cell in cells if isinstance(cell, kinds) and cell.training]
    if not acting:
        return ()
    return (
        f"{acting[0]} and {len(acting) - 1} more: dropout acts, so no two runs agree; set_train(False) turns it off",
    )
