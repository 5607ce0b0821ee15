"""What the MindSpore port's layers are made of. Parameters have their full names from the start, not by their place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn, ops

from porting_bert.config import Activation, BertConfig

Tensor = Any
"""ms.Tensor, which has no types worth the name."""

DTYPES = {"float32": ms.float32, "float16": ms.float16, "bfloat16": ms.bfloat16}


class Cell(nn.Cell):  # type: ignore[misc] # MindSpore ships no types
    """A cell that leaves the names of its parameters alone."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)


def table(name: str, shape: tuple[int, ...], config: BertConfig) -> Any:
    """Weights from a truncated normal, cut at two deviations: modeling.py:create_initializer."""
    initial = ms.common.initializer.TruncatedNormal(config.initializer_range, 0.0, -2.0, 2.0)
    return Parameter(ms.common.initializer.initializer(initial, shape, ms.float32).init_data(), name=name)


def constant(name: str, width: int, value: float) -> Any:
    """A vector of equal values."""
    return Parameter(ms.Tensor(np.full(width, value, np.float32)), name=name)


class Dense(Cell):
    """The product x @ weight^T + bias over the last axis; parameters are rounded to the dtype of what comes in."""

    def __init__(self, name: str, width: int, units: int, config: BertConfig) -> None:
        super().__init__()
        self.weight = table(f"{name}.weight", (units, width), config)
        self.bias = constant(f"{name}.bias", units, 0.0)

    def construct(self, x: Tensor) -> Tensor:
        return affine(x, self.weight, self.bias)


MATMUL = ops.MatMul(transpose_b=True)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The product x @ weight^T + bias over the last axis, as one of two matrices."""
    product = MATMUL(x.reshape((-1, x.shape[-1])), weight.astype(x.dtype))
    return ops.bias_add(product, bias.astype(x.dtype)).reshape(x.shape[:-1] + bias.shape)


class LayerNorm(Cell):
    """LayerNorm in float32, whatever comes in; it goes out as it came."""

    def __init__(self, name: str, config: BertConfig) -> None:
        super().__init__()
        self.gamma = constant(f"{name}.gamma", config.hidden_size, 1.0)
        self.beta = constant(f"{name}.beta", config.hidden_size, 0.0)
        self.normalise = ops.LayerNorm(-1, -1, config.layer_norm_eps)

    def construct(self, x: Tensor) -> Tensor:
        return self.normalise(x.astype(ms.float32), self.gamma, self.beta)[0].astype(x.dtype)


class Softmax(Cell):
    """Over the last axis, with a gradient of its own.

    In PyNative mode on a CPU MindSpore 2.10 computes a wrong gradient of ops.Softmax once it has seen another shape.
    """

    def construct(self, x: Tensor) -> Tensor:
        return ops.softmax(x, -1)

    def bprop(self, _x: Tensor, probs: Tensor, slope: Tensor) -> tuple[Tensor]:
        """The product probs (slope - sum(slope probs)). MindSpore gives input, output, gradient of the output."""
        return ((slope - (slope * probs).sum(-1, keepdims=True)) * probs,)


def activation(name: Activation) -> Callable[[Tensor], Tensor]:
    """The function of an explicit name."""
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "gelu_tanh": gelu_tanh,
        "gelu_erf": gelu_erf,
        "relu": ops.relu,
        "tanh": tanh,
        "sigmoid": ops.sigmoid,
        "silu": ops.silu,
        "linear": same,
    }
    return functions[name]


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent by expm1, in float32, exact to 2e-7.

    MindSpore's own operator (2.10, CPU) is off by 1e-6 between 2 and 3, and by 1e-4 between 4 and 6.
    """
    grown = ops.expm1(2.0 * ops.clamp(x.astype(ms.float32), -10.0, 10.0))
    return (grown / (grown + 2.0)).astype(x.dtype)


def gelu_tanh(x: Tensor) -> Tensor:
    """The product x sigmoid(2 u), which is 0.5 x (1 + tanh u), for u = sqrt(2 / pi) (x + 0.044715 x^3).

    MindSpore's own GeLU takes ten times as long on a CPU, and its tanh is inexact there.
    """
    return x * ops.sigmoid(2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x))


def gelu_erf(x: Tensor) -> Tensor:
    """The erf form."""
    return x * 0.5 * (1.0 + ops.erf(x * (1.0 / math.sqrt(2.0))))


def same(x: Tensor) -> Tensor:
    """The identity."""
    return x


class Drop(Cell):
    """Dropout at a site: the framework's own, a mask that is given, or none."""

    def __init__(self, mode: str, rate: float) -> None:
        super().__init__()
        self.own = mode == "own" and rate > 0
        self.dropout = nn.Dropout(p=rate)

    def construct(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.own:
            return self.dropout(x)
        return x if mask is None else x * mask.astype(x.dtype)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Per example, over the last axis: (rows, classes) float32, (rows) -> (rows)."""
    return ops.cross_entropy(logits, labels, reduction="none")


def replaced(value: Tensor, given: Tensor | None) -> Tensor:
    """What is given for a tap, in the dtype of what was computed; nothing given, the same value."""
    return value if given is None else given.astype(value.dtype)


def one_hot_rows(weights: Tensor, ids: Tensor) -> Tensor:
    """Rows of a table by a product: (..., ) ids -> (..., width)."""
    chosen = ops.one_hot(ids.reshape((-1,)), weights.shape[0], ms.Tensor(1.0, ms.float32), ms.Tensor(0.0, ms.float32))
    return ops.matmul(chosen, weights).reshape((*ids.shape, weights.shape[1]))


def unlearned(vectors: Tensor, visible: Tensor) -> Tensor:
    """The same, with no gradient where there is padding: padding_idx of fairseq and transformers."""
    return ops.where(visible.expand_dims(-1) == 0, ops.stop_gradient(vectors), vectors)
