"""What the TensorFlow port's layers are made of, and the state of one pass through them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from porting.errors import UsageError
from porting_bert.config import Activation

Tensor = Any
"""tf.Tensor: TensorFlow ships no types."""


def activation(name: Activation) -> Callable[[Tensor], Tensor]:
    """The function of an explicit name."""
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "gelu_tanh": gelu_tanh,
        "gelu_erf": tf.nn.gelu,
        "relu": tf.nn.relu,
        "tanh": tf.tanh,
        "sigmoid": tf.sigmoid,
        "silu": tf.nn.silu,
        "linear": tf.identity,
    }
    return functions[name]


def gelu_tanh(x: Tensor) -> Tensor:
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): modeling.py:gelu, its power a product, which is faster."""
    return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def replaced(name: str, value: Tensor, given: Tensor) -> Tensor:
    """What is given for a tap, in the dtype of what was computed. Raises: UsageError if it has another shape."""
    if not given.shape.is_compatible_with(value.shape):
        raise UsageError(f"tap {name}: wanted {tuple(value.shape)}, got {tuple(given.shape)}")
    return tf.cast(given, value.dtype)


class Pass:
    """One pass: the model's variables, the taps asked for and what they gave, and how dropout is done in it.

    batch: holds the shared masks (`mask.<site>`). epsilon: of LayerNorm.
    """

    def __init__(
        self,
        weights: Mapping[str, Any],
        batch: Mapping[str, Tensor],
        taps: frozenset[str],
        mode: str,
        dtype: str,
        epsilon: float,
    ) -> None:
        self.weights, self.batch, self.taps, self.mode = weights, batch, taps, mode
        self.dtype, self.epsilon = tf.as_dtype(dtype), epsilon
        self.found: dict[str, Tensor] = {}

    def dense(self, scope: str, x: Tensor) -> Tensor:
        """The product x @ kernel + bias over the last axis, whatever stands before it."""
        return self.affine(x, self.weights[f"{scope}/kernel"], self.weights[f"{scope}/bias"])

    def output(self, scope: str, x: Tensor) -> Tensor:
        """The product x @ weights^T + bias, under the names of Google's heads; float32."""
        weights, bias = self.weights[f"{scope}output_weights"], self.weights[f"{scope}output_bias"]
        return tf.cast(self.affine(x, weights, bias, transposed=True), tf.float32)

    def affine(self, x: Tensor, kernel: Tensor, bias: Tensor, *, transposed: bool = False) -> Tensor:
        """A product of two matrices: TensorFlow's batched one sums the kernel's gradient over the batch afterwards."""
        flat = tf.reshape(x, [-1, x.shape[-1]])
        product = tf.matmul(flat, tf.cast(kernel, x.dtype), transpose_b=transposed)
        product = tf.nn.bias_add(product, tf.cast(bias, x.dtype))
        return tf.reshape(product, tf.concat([tf.shape(x)[:-1], [bias.shape[0]]], 0))

    def layer_norm(self, scope: str, x: Tensor) -> Tensor:
        """In float32, as contrib's layer_norm does it: moments, then batch_normalization. It goes out as it came."""
        wide = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(wide, [-1], keepdims=True)
        beta, gamma = self.weights[f"{scope}/beta"], self.weights[f"{scope}/gamma"]
        return tf.cast(tf.nn.batch_normalization(wide, mean, variance, beta, gamma, self.epsilon), x.dtype)

    def given(self, name: str) -> Tensor | None:
        """What takes the place of a tap."""
        return self.batch.get(f"given.{name}")

    def tap(self, name: str, value: Tensor) -> Tensor:
        """The same value, kept in float32 if it is asked for; what is given in its place goes on."""
        given = self.given(name)
        if name in self.taps or given is not None:
            self.found[name] = tf.cast(value, tf.float32)
        return value if given is None else replaced(name, value, given)

    def emit(self, name: str, value: Tensor) -> Tensor:
        """The same for an output of the task, which is asked for always."""
        given = self.given(name)
        self.found.setdefault(name, value)
        return value if given is None else replaced(name, value, given)

    def drop(self, site: str, value: Tensor, rate: float) -> Tensor:
        """Dropout at a site."""
        if self.mode == "own":
            return tf.nn.dropout(value, rate) if rate else value
        mask = self.batch.get(f"mask.{site}")
        return value if mask is None else value * tf.cast(mask, value.dtype)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Per example, over the last axis: (rows, classes), (rows) -> (rows)."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
