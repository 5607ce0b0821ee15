"""Watches any Keras 3 model on TensorFlow: functional, sequential or subclassed.

Keras has no forward hooks. Each layer's `call` is wrapped for the time of one run: it is looked up on the layer itself
by Keras's `__call__`, so the wrapping is seen, whoever calls the layer. A tf.function within the model runs eagerly for
that time: from its graph, nothing could be handed out.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from porting.backends.protocol import Array
from porting.backends.watch import LOSS, Asked, Calls, Facts, Keep, Ran, leaves, loss_of, root_name
from porting.errors import UsageError


def open_model(model: Any, batch: Any) -> KerasWatched:
    """Hold a model and its batch ready, building it by one call if it is not built.

    Raises: UsageError for what is no Keras 3 model on TensorFlow.
    """
    if not isinstance(model, keras.layers.Layer):
        raise UsageError(
            f"{type(model).__name__}: a raw TensorFlow function or module has no layers to hook: pass the keras.Model "
            "that it calls, or return the tensors that you want to compare from a keras.Model of your own"
        )
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            f"Keras runs on {keras.backend.backend()} here: set KERAS_BACKEND=tensorflow before it is imported"
        )
    return KerasWatched(model, batch)


class KerasWatched:
    """A Keras model with its batch. See porting.backends.watch.Watched."""

    def __init__(self, model: Any, batch: Any) -> None:
        self._model, self._batch = model, batch
        if not model.built:
            with suppress(Exception):  # the run itself fails in the same way, with hooks in place
                self._call()
        self._layers = dict(_named(model))
        self._root = root_name(self._layers)
        gpus = tf.config.list_logical_devices("GPU")
        self.facts = Facts(
            model=type(model).__name__ if type(model).__module__.split(".")[0] != "keras" else model.name,
            framework="tensorflow",
            device="gpu" if gpus else "cpu",
            names=(*self._layers, self._root),
            versions={
                "python": platform.python_version(),
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
            },
            switches={
                "tensor_float_32": str(tf.config.experimental.tensor_float_32_execution_enabled()),
                "dtype_policy": str(model.dtype_policy.name),
                "tf.function": "run eagerly",
            },
            compute=str(model.dtype_policy.compute_dtype),
        )

    def inputs(self) -> Iterator[tuple[str, Array]]:
        """The batch by name."""
        for path, tensor in leaves(self._batch, _is_given):
            yield path.removeprefix("."), np.asarray(tensor)

    def weights(self) -> Iterator[tuple[str, Array]]:
        """Variables by their path, moving statistics included."""
        return ((variable.path, np.asarray(variable.numpy())) for variable in self._model.weights)

    def run(self, asked: Asked, keep: Keep) -> Ran:
        """One pass in inference mode, one back where gradients are asked for. Raises: UsageError for a step."""
        if asked.step is not None:
            raise UsageError("step: of Keras the kit takes no optimizer's step; leave it out")
        calls = Calls(keep, tf.is_tensor, _host)
        with ExitStack() as hooks, _eagerly(), tf.GradientTape(watch_accessed_variables=asked.gradients) as tape:
            for name, layer in (*self._layers.items(), (self._root, self._model)):
                if name in asked.modules:
                    hooks.callback(_wrap(layer, name, calls))
            output = self._call()
            if asked.loss is None:
                return calls.ran()
            loss = loss_of(asked.loss, output, tf.is_tensor)
        if callable(asked.loss):
            keep("forward", LOSS, _host(loss))
        notes = self._gradients(tape, loss, keep) if asked.gradients else []
        return calls.ran(notes=notes)

    def _call(self) -> Any:
        """The model of the batch. A tuple is positions, but a functional model wants its inputs as one list."""
        if not isinstance(self._batch, tuple):
            return self._model(self._batch)
        return self._model(list(self._batch)) if hasattr(self._model, "operations") else self._model(*self._batch)

    def _gradients(self, tape: Any, loss: Any, keep: Keep) -> list[str]:
        """Write a gradient per trainable variable; the notes on those that there are none of."""
        notes = []
        variables = list(self._model.trainable_variables)
        found = tape.gradient(loss, [variable.value for variable in variables])
        for variable, grad in zip(variables, found, strict=True):
            if grad is None:
                notes.append(f"{variable.path}: the loss does not reach it; its gradient is written as zeros")
                keep("gradients", variable.path, np.zeros(tuple(variable.shape), variable.dtype))
            else:
                keep("gradients", variable.path, _host(grad))
        return notes


def _named(model: Any) -> Iterator[tuple[str, Any]]:
    """Every layer below the model by its path, without the model's own; `PATH~2` where Keras gives one twice."""
    seen: dict[str, int] = {}
    prefix = f"{model.path or model.name}/"
    for layer in model._flatten_layers(include_self=False):  # noqa: SLF001 - Keras shows only a model's direct layers
        if isinstance(layer, keras.layers.InputLayer):
            continue
        path = (layer.path or layer.name).removeprefix(prefix)
        seen[path] = count = seen.get(path, 0) + 1
        yield (path if count == 1 else f"{path}~{count}"), layer


@contextmanager
def _eagerly() -> Iterator[None]:
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _wrap(layer: Any, name: str, calls: Calls) -> Callable[[], None]:
    """Put a tap around a layer's call. Returns what takes it off again."""
    inner, own = layer.call, "call" in vars(layer)

    def call(*args: Any, **kwargs: Any) -> Any:
        output = inner(*args, **kwargs)
        calls(name, output)
        return output

    object.__setattr__(layer, "call", call)  # past Keras's tracking of attributes, which wants no functions

    def unwrap() -> None:
        if own:
            object.__setattr__(layer, "call", inner)
        else:
            object.__delattr__(layer, "call")

    return unwrap


def _is_given(value: Any) -> bool:
    return isinstance(value, np.ndarray) or tf.is_tensor(value)


def _host(tensor: Any) -> Array:
    """On the host; TensorFlow's own bfloat16 is that of ml_dtypes."""
    if isinstance(tensor, tf.IndexedSlices):
        tensor = tf.convert_to_tensor(tensor)
    if tf.is_symbolic_tensor(tensor):
        raise UsageError(f"{tensor.name}: is made in a graph, which hands out no values: pass the model without it")
    return np.asarray(tensor.numpy())
