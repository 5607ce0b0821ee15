"""XLNet's layers in MindSpore: relative attention of one or two streams, feed-forward, batch-major throughout.

Everything is fixed when a cell is built, so that a graph can be compiled: a cell always returns its taps, and takes
the masks of its dropout and what is given in place of its taps, None for none. A tap is returned as it was computed;
what is given goes on. Parameters carry the names of kit_ms. Axes in shapes: b batch, n head,
d of a head, h hidden, i query, j key, m mems, p predicted tokens, r relative positions.
"""

from __future__ import annotations

import math
from typing import Any

import mindspore as ms
from mindspore import nn, ops
from mindspore.common.initializer import Normal, initializer

from porting_xlnet.config import XLNetConfig

Tensor = Any
"""ms.Tensor or None: graphs are compiled for what is there."""

MASKED = 1e30
"""Subtracted from masked scores (modeling.py, rel_attn_core). Scores are float32 in every compute type, so it fits."""

LAYER_SITES = ("attention.probs", "attention.output", "ffn.inner", "ffn.output")
LAYER_TAPS = ("attention.scores", "attention.output", "ffn.output", "output")


class Cell(nn.Cell):  # type: ignore[misc] # MindSpore ships no types
    """MindSpore's, by a name that the type checker takes."""


def drawn(config: XLNetConfig, *shape: int) -> ms.Parameter:
    """A parameter from a normal distribution around 0."""
    return ms.Parameter(initializer(Normal(config.init_std), shape, ms.float32).init_data())


class Drop(Cell):
    """Dropout of one site: by a mask that is given, or by the framework's generator when it trains."""

    def __init__(self, rate: float, *, own: bool) -> None:
        super().__init__()
        self.own = own and rate > 0
        self.dropout = nn.Dropout(p=rate)

    def construct(self, value: Tensor, mask: Tensor) -> Tensor:
        """The value after dropout."""
        if mask is not None:
            return value * mask.astype(value.dtype)
        if self.own:
            return self.dropout(value)
        return value


class LayerNorm(Cell):
    """In float32 whatever the input is; parameters are float32."""

    def __init__(self, config: XLNetConfig) -> None:
        super().__init__()
        self.gamma = ms.Parameter(initializer("ones", (config.d_model,), ms.float32))
        self.beta = ms.Parameter(initializer("zeros", (config.d_model,), ms.float32))
        self.normalize = ops.LayerNorm(-1, -1, config.layer_norm_epsilon)

    def construct(self, value: Tensor) -> Tensor:
        """value: (…, h)."""
        normal, _, _ = self.normalize(value.astype(ms.float32), self.gamma, self.beta)
        return normal.astype(value.dtype)


class Dense(Cell):
    """Computes in the type of its input; parameters are float32."""

    def __init__(self, config: XLNetConfig, width: int, out: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = drawn(config, out, width)
        self.bias: Tensor = ms.Parameter(initializer("zeros", (out,), ms.float32)) if bias else None
        self.has_bias = bias

    def construct(self, value: Tensor) -> Tensor:
        """value: (…, in) to (…, out)."""
        output = ops.matmul(value, self.weight.astype(value.dtype).T)
        return output + self.bias.astype(value.dtype) if self.has_bias else output


def kernel(config: XLNetConfig) -> ms.Parameter:
    """A projection to or from heads, (h, n, d); that of the output too."""
    return drawn(config, config.d_model, config.n_head, config.d_head)


def tanh(value: Tensor) -> Tensor:
    """By expm1, in float32: MindSpore 2.10's own operator is 1e-4 off at 5 on the CPU."""
    grown = ops.expm1(2 * ops.clamp(value.astype(ms.float32), -10.0, 10.0))
    return (grown / (grown + 2)).astype(value.dtype)


def gelu_tanh(value: Tensor) -> Tensor:
    """The tanh form, as x sigmoid(2u): MindSpore 2.10's own operator is many times slower on the CPU."""
    return value * ops.sigmoid(2 * math.sqrt(2 / math.pi) * (value + 0.044715 * value * value * value))


def replaced(value: Tensor, given: Tensor) -> Tensor:
    """What is given for a tap, in the dtype of what was computed; nothing given, the same value."""
    return value if given is None else given.astype(value.dtype)


def log_softmax(logits: Tensor) -> Tensor:
    """Over the last axis. MindSpore 2.10's own is 5e-6 off on the CPU, twice this."""
    below = logits - logits.max(-1, keepdims=True)
    return below - ops.log(ops.exp(below).sum(-1, keepdims=True))


def picked(log_probs: Tensor, index: Tensor) -> Tensor:
    """(…, classes), (…) to (…)."""
    return ops.gather_elements(log_probs, log_probs.ndim - 1, ops.expand_dims(index, -1)).squeeze(-1)


def to_heads(value: Tensor, weight: Tensor) -> Tensor:
    """(b, i, h) by (h, n, d) to (b, n, i, d)."""
    hidden, heads, width = weight.shape
    flat = ops.matmul(value, weight.reshape(hidden, heads * width).astype(value.dtype))
    return flat.reshape(*value.shape[:2], heads, width).swapaxes(1, 2)


def from_heads(value: Tensor, weight: Tensor) -> Tensor:
    """(b, n, i, d) by (h, n, d) to (b, i, h)."""
    batch, heads, length, width = value.shape
    flat = value.swapaxes(1, 2).reshape(batch, length, heads * width)
    return ops.matmul(flat, weight.reshape(weight.shape[0], heads * width).astype(value.dtype).T)


def relative_shift(score: Tensor, klen: int) -> Tensor:
    """(b, n, i, r) by relative position to (b, n, i, j) by key: row i is read from column qlen - i on."""
    batch, heads, qlen, positions = score.shape
    shifted = score.reshape(batch, heads, positions, qlen)[:, :, 1:]
    return shifted.reshape(batch, heads, qlen, positions - 1)[:, :, :, :klen]


class RelativeAttention(Cell):
    """modeling.py, rel_multihead_attn and two_stream_rel_attn.

    with_biases: whether r_w, r_r and r_s are this layer's own; those of tied layers are the first one's.
    """

    def __init__(self, config: XLNetConfig, *, with_biases: bool, own: bool) -> None:
        super().__init__()
        self.scale = 1 / config.d_head**0.5
        self.q, self.k, self.v, self.o, self.r = (kernel(config) for _ in range(5))
        if with_biases:
            self.r_w_bias, self.r_r_bias, self.r_s_bias = (
                drawn(config, config.n_head, config.d_head) for _ in range(3)
            )
        self.seg_embed = drawn(config, 2, config.n_head, config.d_head)
        self.layer_norm = LayerNorm(config)
        self.drop_probs = Drop(config.dropatt, own=own)
        self.drop_output = Drop(config.dropout, own=own)

    def keys(self, seen: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys of content, values, keys of positions."""
        return to_heads(seen, self.k), to_heads(seen, self.v), to_heads(positions, self.r)

    def construct(
        self,
        states: Tensor,
        keys: tuple[Tensor, Tensor, Tensor],
        biases: tuple[Tensor, Tensor, Tensor],
        where: tuple[Tensor, Tensor, Tensor],
        drops: tuple[Tensor, ...],
        given: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """states: (b, i, h), or (b, p, h) with a mapping. Returns these after LayerNorm, and the scores.

        where: (b, 1, i, j), whether a key is of another segment; (b or 1, 1, i or 1, j) to add to scores; the mapping
        (b, p, i), which position a predicted token stands at. given: in place of the scores. None for each that there
        is not.
        """
        differs, mask, mapping = where
        heads = to_heads(states, self.q)
        if mapping is not None:
            places = ops.expand_dims(mapping.astype(heads.dtype), 1)
            heads = ops.matmul(places.swapaxes(2, 3), heads)
        scores = self._scores(heads, keys, biases, differs)
        if mask is not None:
            # Added, not filled in: a fully masked row is uniform and passes its gradient on.
            scores = scores + mask
        probs = self.drop_probs(ops.softmax(replaced(scores, given), -1).astype(heads.dtype), drops[0])
        vectors = ops.matmul(probs, keys[1])
        if mapping is not None:
            vectors = ops.matmul(ops.expand_dims(mapping.astype(heads.dtype), 1), vectors)
        output = self.drop_output(from_heads(vectors, self.o), drops[1])
        return self.layer_norm(output + states), scores

    def _scores(
        self,
        heads: Tensor,
        keys: tuple[Tensor, Tensor, Tensor],
        biases: tuple[Tensor, Tensor, Tensor],
        differs: Tensor,
    ) -> Tensor:
        by_word = heads + ops.expand_dims(biases[0], 1).astype(heads.dtype)
        by_place = heads + ops.expand_dims(biases[1], 1).astype(heads.dtype)
        score = ops.matmul(by_word, keys[0].swapaxes(2, 3)).astype(ms.float32)
        shifted = relative_shift(ops.matmul(by_place, keys[2].swapaxes(2, 3)), keys[0].shape[2])
        score = score + shifted.astype(ms.float32)
        if differs is not None:
            by_segment = heads + ops.expand_dims(biases[2], 1).astype(heads.dtype)
            segments = ops.matmul(by_segment, self.seg_embed.transpose(1, 2, 0).astype(heads.dtype)).astype(ms.float32)
            score = score + ops.where(differs, segments[:, :, :, 1:], segments[:, :, :, :1])
        return score * self.scale


class Activation(Cell):
    """By its name in config.ACTIVATIONS."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def construct(self, value: Tensor) -> Tensor:
        """Elementwise."""
        if self.kind == "relu":
            return ops.relu(value)
        if self.kind == "silu":
            return ops.silu(value)
        if self.kind == "gelu_tanh":
            return gelu_tanh(value)
        return 0.5 * value * (1 + ops.erf(value * math.sqrt(0.5)))


class FeedForward(Cell):
    """modeling.py, positionwise_ffn."""

    def __init__(self, config: XLNetConfig, *, own: bool) -> None:
        super().__init__()
        self.activation = Activation(config.ff_activation)
        self.layer_norm = LayerNorm(config)
        self.layer_1 = Dense(config, config.d_model, config.d_inner)
        self.layer_2 = Dense(config, config.d_inner, config.d_model)
        self.drop_inner = Drop(config.dropout, own=own)
        self.drop_output = Drop(config.dropout, own=own)

    def construct(self, value: Tensor, drops: tuple[Tensor, ...], given: Tensor) -> tuple[Tensor, Tensor]:
        """value: (b, i, h). given: in place of what the second dense gave. Returns the output, and that."""
        inner = self.drop_inner(self.activation(self.layer_1(value)), drops[2])
        output = self.layer_2(inner)
        return self.layer_norm(self.drop_output(replaced(output, given), drops[3]) + value), output


class Layer(Cell):
    """One layer, its weights shared by both streams."""

    def __init__(self, config: XLNetConfig, *, with_biases: bool, own: bool) -> None:
        super().__init__()
        self.rel_attn = RelativeAttention(config, with_biases=with_biases, own=own)
        self.ff = FeedForward(config, own=own)

    def construct(
        self,
        content: Tensor,
        query: Tensor,
        memory: tuple[Any, ...],
        biases: tuple[Tensor, Tensor, Tensor],
        drops: tuple[Tensor, ...],
        given: tuple[Tensor, ...],
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """content: (b, i, h). query: (b, p, h), (b, i, h) without a mapping, or None.

        memory: mems (b, m, h) or None; positions (b or 1, r, h); then what RelativeAttention's `where` holds, masks of
        both streams for one. drops: masks of LAYER_SITES, of the content stream, then of the query stream. given: in
        place of LAYER_TAPS, likewise. Returns both streams, and LAYER_TAPS of both as they were computed, None for
        those of a query stream that there is not.
        """
        mems, positions, differs, masks, mapping = memory
        seen = content if mems is None else ops.cat((mems, content), 1)
        keys = self.rel_attn.keys(seen, positions)
        attended, scores = self.rel_attn(content, keys, biases, (differs, masks[0], None), drops[:4], given[0])
        output, inner = self.ff(replaced(attended, given[1]), drops[:4], given[2])
        taps, content = (scores, attended, inner, output), replaced(output, given[3])
        if query is None:
            return content, None, (*taps, None, None, None, None)
        asked, scores = self.rel_attn(query, keys, biases, (differs, masks[1], mapping), drops[4:], given[4])
        answer, inner = self.ff(replaced(asked, given[5]), drops[4:], given[6])
        return content, replaced(answer, given[7]), (*taps, scores, asked, inner, answer)
