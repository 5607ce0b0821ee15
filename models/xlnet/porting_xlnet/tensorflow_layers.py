"""XLNet's layers in TensorFlow: relative attention of one or two streams, feed-forward, batch-major throughout.

Parameters carry the original's names. Axes in shapes: b batch, n head, d of a head, h hidden, i query, j key,
m mems, p predicted tokens, r relative positions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from porting.errors import UsageError
from porting.model.dropout import Dropout
from porting_xlnet.config import XLNetConfig

Tensor = Any
"""tf.Tensor, for which TensorFlow ships no usable types."""

MASKED = 1e30
"""Subtracted from masked scores (modeling.py, rel_attn_core). Scores are float32 in every compute type, so it fits."""

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": partial(tf.nn.gelu, approximate=True),
    "gelu_erf": partial(tf.nn.gelu, approximate=False),
    "relu": tf.nn.relu,
    "silu": tf.nn.silu,
}


def replaced(name: str, value: Tensor, given: Tensor) -> Tensor:
    """What is given for a tap, in the dtype of what was computed. Raises: UsageError if it has another shape."""
    if not given.shape.is_compatible_with(value.shape):
        raise UsageError(f"tap {name}: wanted {tuple(value.shape)}, got {tuple(given.shape)}")
    return tf.cast(given, value.dtype)


class Run:
    """One call of a model: which taps it keeps, and what its dropout does."""

    def __init__(self, dropout: Dropout, batch: Mapping[str, Tensor], taps: Collection[str], *, training: bool) -> None:
        self.taps = taps
        self.batch = batch
        self.kept: dict[str, Tensor] = {}
        self.own = dropout.mode == "own" and training

    def tap(self, name: str, value: Tensor) -> Tensor:
        """Keep the value if it was asked for; what is given in its place goes on."""
        given = self.batch.get(f"given.{name}")
        if name in self.taps or given is not None:
            self.kept[name] = value
        return value if given is None else replaced(name, value, given)

    def drops(self, site: str, rate: float) -> bool:
        """Does dropout act there?"""
        return f"mask.{site}" in self.batch or (self.own and rate > 0)

    def drop(self, site: str, value: Tensor, rate: float) -> Tensor:
        """The value after dropout of the site."""
        mask = self.batch.get(f"mask.{site}")
        if mask is not None:
            return value * tf.cast(mask, value.dtype)
        return tf.nn.dropout(value, rate) if self.own and rate > 0 else value


class Memory(NamedTuple):
    """What a layer attends to beside its own input.

    mems: (b, m, h) or None. positions: (b or 1, r, h). differs: (b, 1, i, j), whether a key is of another segment,
    or None. masks: of the content and the query stream, (b or 1, 1, i or 1, j) to add to scores, or None.
    mapping: (b, p, i), which position a predicted token stands at, or None.
    """

    mems: Tensor | None
    positions: Tensor
    differs: Tensor | None
    masks: tuple[Tensor | None, Tensor | None]
    mapping: Tensor | None


class Weights(tf.Module):  # type: ignore[misc] # TensorFlow ships no types
    """Variables by name, made in the order of their first mention."""

    def __init__(self, std: float, seed: int) -> None:
        super().__init__()
        self._std = std
        self._random = np.random.default_rng(seed)
        self._made: dict[str, tf.Variable] = {}

    def normal(self, name: str, *shape: int) -> None:
        """From a normal distribution around 0."""
        self._make(name, self._random.standard_normal(shape, np.float32) * np.float32(self._std))

    def filled(self, name: str, size: int, value: float) -> None:
        """(size,), all of one value."""
        self._make(name, np.full(size, value, np.float32))

    def dense(self, name: str, width: int, out: int, *, bias: bool = True) -> None:
        """A kernel and its bias."""
        self.normal(f"{name}/kernel", width, out)
        if bias:
            self.filled(f"{name}/bias", out, 0)

    def layer_norm(self, name: str, width: int) -> None:
        """Gamma and beta."""
        self.filled(f"{name}/beta", width, 0)
        self.filled(f"{name}/gamma", width, 1)

    def kernel(self, name: str, config: XLNetConfig) -> None:
        """A projection to or from heads, (h, n, d); that of the output too."""
        self.normal(f"{name}/kernel", config.d_model, config.n_head, config.d_head)

    def __getitem__(self, name: str) -> tf.Variable:
        return self._made[name]

    def __contains__(self, name: str) -> bool:
        return name in self._made

    def _make(self, name: str, value: np.ndarray[Any, Any]) -> None:
        self._made[name] = tf.Variable(value, name=name, dtype=tf.float32)


def dense(value: Tensor, weights: Weights, name: str) -> Tensor:
    """(…, in) to (…, out), in the type of the input."""
    product = tf.tensordot(value, tf.cast(weights[f"{name}/kernel"], value.dtype), 1)
    bias = f"{name}/bias"
    return product + tf.cast(weights[bias], value.dtype) if bias in weights else product


def layer_norm(value: Tensor, weights: Weights, name: str, epsilon: float) -> Tensor:
    """In float32 whatever the input is. tf_slim layers.layer_norm."""
    wide = tf.cast(value, tf.float32)
    mean, variance = tf.nn.moments(wide, [-1], keepdims=True)
    normal = tf.nn.batch_normalization(wide, mean, variance, weights[f"{name}/beta"], weights[f"{name}/gamma"], epsilon)
    return tf.cast(normal, value.dtype)


def to_heads(value: Tensor, weights: Weights, name: str) -> Tensor:
    """(b, i, h) by (h, n, d) to (b, n, i, d)."""
    return tf.einsum("bih,hnd->bnid", value, tf.cast(weights[f"{name}/kernel"], value.dtype))


def from_heads(value: Tensor, weights: Weights, name: str) -> Tensor:
    """(b, n, i, d) by (h, n, d) to (b, i, h)."""
    return tf.einsum("bnid,hnd->bih", value, tf.cast(weights[f"{name}/kernel"], value.dtype))


def relative_shift(score: Tensor, klen: Tensor) -> Tensor:
    """(b, n, i, r) by relative position to (b, n, i, j) by key: row i is read from column qlen - i on."""
    batch, heads, qlen, positions = tf.unstack(tf.shape(score))
    shifted = tf.reshape(score, (batch, heads, positions, qlen))[:, :, 1:]
    return tf.reshape(shifted, (batch, heads, qlen, positions - 1))[..., :klen]


def make_layer(weights: Weights, config: XLNetConfig, layer: str) -> None:
    """The variables of a layer; the biases of all layers are one tensor, made elsewhere."""
    for name in "qkvro":
        weights.kernel(f"{layer}/rel_attn/{name}", config)
    weights.layer_norm(f"{layer}/rel_attn/LayerNorm", config.d_model)
    weights.dense(f"{layer}/ff/layer_1", config.d_model, config.d_inner)
    weights.dense(f"{layer}/ff/layer_2", config.d_inner, config.d_model)
    weights.layer_norm(f"{layer}/ff/LayerNorm", config.d_model)


class Layer(NamedTuple):
    """One layer, its weights shared by both streams.

    scope: of its variables. biases: r_w, r_r and r_s, (n, d) each. segments: (2, n, d). tap: how its taps begin.
    """

    config: XLNetConfig
    weights: Weights
    scope: str
    biases: tuple[Tensor, Tensor, Tensor]
    segments: Tensor
    tap: str

    def __call__(self, content: Tensor, query: Tensor | None, memory: Memory, run: Run) -> tuple[Tensor, Tensor | None]:
        """content: (b, i, h). query: (b, p, h), or (b, i, h) without a mapping."""
        attended, asked = self._attention(content, query, memory, run)
        if asked is not None:
            asked = self._feed_forward(asked, run, f"{self.tap}.query")
        return self._feed_forward(attended, run, self.tap), asked

    def _attention(
        self, content: Tensor, query: Tensor | None, memory: Memory, run: Run
    ) -> tuple[Tensor, Tensor | None]:
        """modeling.py, rel_multihead_attn and two_stream_rel_attn."""
        scope = f"{self.scope}/rel_attn"
        seen = content if memory.mems is None else tf.concat((memory.mems, content), 1)
        keys = (
            to_heads(seen, self.weights, f"{scope}/k"),
            to_heads(seen, self.weights, f"{scope}/v"),
            to_heads(memory.positions, self.weights, f"{scope}/r"),
        )
        heads = to_heads(content, self.weights, f"{scope}/q")
        vectors = self._attend(heads, keys, memory.masks[0], memory, run, self.tap)
        attended = self._finish(content, vectors, run, self.tap)
        if query is None:
            return attended, None
        heads = to_heads(query, self.weights, f"{scope}/q")
        tap = f"{self.tap}.query"
        if memory.mapping is None:
            vectors = self._attend(heads, keys, memory.masks[1], memory, run, tap)
        else:
            mapping = tf.cast(memory.mapping, heads.dtype)
            placed = tf.einsum("bnpd,bpi->bnid", heads, mapping)
            vectors = self._attend(placed, keys, memory.masks[1], memory, run, tap)
            vectors = tf.einsum("bnid,bpi->bnpd", vectors, mapping)
        return attended, self._finish(query, vectors, run, tap)

    def _attend(
        self,
        heads: Tensor,
        keys: tuple[Tensor, Tensor, Tensor],
        mask: Tensor | None,
        memory: Memory,
        run: Run,
        tap: str,
    ) -> Tensor:
        """heads: (b, n, i, d). keys: of content, values, positions. Returns (b, n, i, d)."""
        key, value, position = keys
        by_word, by_place, by_segment = (tf.cast(bias, heads.dtype)[:, None] for bias in self.biases)
        score = tf.matmul(heads + by_word, key, transpose_b=True)
        shifted = relative_shift(tf.matmul(heads + by_place, position, transpose_b=True), tf.shape(key)[2])
        score = tf.cast(score, tf.float32) + tf.cast(shifted, tf.float32)
        if memory.differs is not None:
            segments = tf.cast(self.segments, heads.dtype)
            segments = tf.cast(tf.einsum("bnid,snd->bnis", heads + by_segment, segments), tf.float32)
            score += tf.where(memory.differs, segments[..., 1:], segments[..., :1])
        score *= 1 / self.config.d_head**0.5
        if mask is not None:
            # Added, not filled in: a fully masked row is uniform and passes its gradient on.
            score += mask
        score = run.tap(f"{tap}.attention.scores", score)
        probs = tf.cast(tf.nn.softmax(score), heads.dtype)
        return tf.matmul(run.drop(f"{tap}.attention.probs", probs, self.config.dropatt), value)

    def _finish(self, residual: Tensor, vectors: Tensor, run: Run, tap: str) -> Tensor:
        scope = f"{self.scope}/rel_attn"
        output = from_heads(vectors, self.weights, f"{scope}/o")
        output = run.drop(f"{tap}.attention.output", output, self.config.dropout)
        normal = layer_norm(output + residual, self.weights, f"{scope}/LayerNorm", self.config.layer_norm_epsilon)
        return run.tap(f"{tap}.attention.output", normal)

    def _feed_forward(self, value: Tensor, run: Run, tap: str) -> Tensor:
        """modeling.py, positionwise_ffn."""
        scope, rate = f"{self.scope}/ff", self.config.dropout
        inner = ACTIVATIONS[self.config.ff_activation](dense(value, self.weights, f"{scope}/layer_1"))
        inner = run.drop(f"{tap}.ffn.inner", inner, rate)
        output = run.tap(f"{tap}.ffn.output", dense(inner, self.weights, f"{scope}/layer_2"))
        output = run.drop(f"{tap}.ffn.output", output, rate)
        normal = layer_norm(output + value, self.weights, f"{scope}/LayerNorm", self.config.layer_norm_epsilon)
        return run.tap(f"{tap}.output", normal)
