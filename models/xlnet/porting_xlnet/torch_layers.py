"""XLNet's layers in PyTorch: relative attention of one or two streams, feed-forward, batch-major throughout.

Parameters carry transformers' names. Axes in shapes: b batch, n head, d of a head, h hidden, i query, j key,
m mems, p predicted tokens, r relative positions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from porting.errors import UsageError
from porting.model.dropout import Dropout
from porting_xlnet.config import XLNetConfig

MASKED = 1e30
"""Subtracted from masked scores (modeling.py, rel_attn_core). Scores are float32 in every compute type, so it fits."""

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "gelu_erf": functional.gelu,
    "relu": functional.relu,
    "silu": functional.silu,
}


def wide(value: Tensor) -> Tensor:
    """In float32, or in float64 if it is."""
    return value if value.dtype == torch.float64 else value.float()


def replaced(name: str, value: Tensor, given: Tensor) -> Tensor:
    """What is given for a tap, in the dtype of what was computed. Raises: UsageError if it has another shape."""
    if given.shape != value.shape:
        raise UsageError(f"tap {name}: wanted {tuple(value.shape)}, got {tuple(given.shape)}")
    return given.to(value.dtype)


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
            return value * mask.to(value.dtype)
        return functional.dropout(value, rate) if self.own else value


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


class LayerNorm(nn.LayerNorm):
    """In float32 whatever the input is; parameters are float32."""

    def forward(self, value: Tensor) -> Tensor:
        """value: (…, h)."""
        normal = functional.layer_norm(wide(value), self.normalized_shape, self.weight, self.bias, self.eps)
        return normal.to(value.dtype)


class Dense(nn.Linear):
    """Computes in the type of its input; parameters are float32."""

    def forward(self, value: Tensor) -> Tensor:
        """value: (…, in) to (…, out)."""
        bias = None if self.bias is None else self.bias.to(value.dtype)
        return functional.linear(value, self.weight.to(value.dtype), bias)


def kernel(config: XLNetConfig) -> nn.Parameter:
    """A projection to or from heads, (h, n, d); that of the output too."""
    return nn.Parameter(torch.empty(config.d_model, config.n_head, config.d_head).normal_(0, config.init_std))


def to_heads(value: Tensor, weight: Tensor) -> Tensor:
    """(b, i, h) by (h, n, d) to (b, n, i, d)."""
    flat = value @ weight.flatten(1).to(value.dtype)
    return flat.view(*flat.shape[:2], *weight.shape[1:]).transpose(1, 2)


def from_heads(value: Tensor, weight: Tensor) -> Tensor:
    """(b, n, i, d) by (h, n, d) to (b, i, h)."""
    return functional.linear(value.transpose(1, 2).flatten(2), weight.flatten(1).to(value.dtype))


def relative_shift(score: Tensor, klen: int) -> Tensor:
    """(b, n, i, r) by relative position to (b, n, i, j) by key: row i is read from column qlen - i on."""
    batch, heads, qlen, positions = score.shape
    shifted = score.reshape(batch, heads, positions, qlen)[:, :, 1:]
    return shifted.reshape(batch, heads, qlen, positions - 1)[..., :klen]


class RelativeAttention(nn.Module):
    """modeling.py, rel_multihead_attn and two_stream_rel_attn.

    shared: the biases of the first layer, if all have the same.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    r: Tensor
    r_w_bias: Tensor
    r_r_bias: Tensor
    r_s_bias: Tensor

    def __init__(self, config: XLNetConfig, shared: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self.dropout, self.dropatt = config.dropout, config.dropatt
        self.scale = 1 / config.d_head**0.5
        for name in "qkvor":
            self.register_parameter(name, kernel(config))
        heads = (config.n_head, config.d_head)
        for name in ("r_w_bias", "r_r_bias", "r_s_bias"):
            own = nn.Parameter(torch.empty(heads).normal_(0, config.init_std))
            self.register_parameter(name, shared.get(name, own))
        self.seg_embed = nn.Parameter(torch.empty(2, *heads).normal_(0, config.init_std))
        self.layer_norm = LayerNorm(config.d_model, eps=config.layer_norm_epsilon)

    def forward(
        self, content: Tensor, query: Tensor | None, memory: Memory, run: Run, layer: str
    ) -> tuple[Tensor, Tensor | None]:
        """content: (b, i, h). query: (b, p, h), or (b, i, h) without a mapping. Returns both after LayerNorm."""
        seen = content if memory.mems is None else torch.cat((memory.mems, content), 1)
        keys = to_heads(seen, self.k), to_heads(seen, self.v), to_heads(memory.positions, self.r)
        heads = to_heads(content, self.q)
        vectors = self._attend(heads, keys, memory.masks[0], memory, run, layer)
        new_content = self._finish(content, vectors, run, layer)
        if query is None:
            return new_content, None
        heads = to_heads(query, self.q)
        layer = f"{layer}.query"
        if memory.mapping is None:
            vectors = self._attend(heads, keys, memory.masks[1], memory, run, layer)
        else:
            mapping = memory.mapping[:, None].to(heads.dtype)
            vectors = self._attend(mapping.mT @ heads, keys, memory.masks[1], memory, run, layer)
            vectors = mapping @ vectors
        return new_content, self._finish(query, vectors, run, layer)

    def _attend(
        self,
        heads: Tensor,
        keys: tuple[Tensor, Tensor, Tensor],
        mask: Tensor | None,
        memory: Memory,
        run: Run,
        layer: str,
    ) -> Tensor:
        """heads: (b, n, i, d). keys: of content, values, positions. Returns (b, n, i, d)."""
        key, value, position = keys
        score = self._biased(heads, self.r_w_bias) @ key.mT
        shifted = relative_shift(self._biased(heads, self.r_r_bias) @ position.mT, key.shape[2])
        score = wide(score) + wide(shifted)
        if memory.differs is not None:
            segments = self._biased(heads, self.r_s_bias) @ self.seg_embed.permute(1, 2, 0).to(heads.dtype)
            score = score + wide(torch.where(memory.differs, segments[..., 1:], segments[..., :1]))
        score = score * self.scale
        if mask is not None:
            # Added, not filled in: a fully masked row is uniform and passes its gradient on.
            score = score + mask
        score = run.tap(f"{layer}.attention.scores", score)
        weights = run.drop(f"{layer}.attention.probs", score.softmax(-1).to(heads.dtype), self.dropatt)
        return weights @ value

    def _biased(self, heads: Tensor, bias: Tensor) -> Tensor:
        return heads + bias[:, None].to(heads.dtype)

    def _finish(self, residual: Tensor, vectors: Tensor, run: Run, layer: str) -> Tensor:
        output = run.drop(f"{layer}.attention.output", from_heads(vectors, self.o), self.dropout)
        return run.tap(f"{layer}.attention.output", self.layer_norm(output + residual))


class FeedForward(nn.Module):
    """modeling.py, positionwise_ffn."""

    def __init__(self, config: XLNetConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.activation = ACTIVATIONS[config.ff_activation]
        self.layer_norm = LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.layer_1 = Dense(config.d_model, config.d_inner)
        self.layer_2 = Dense(config.d_inner, config.d_model)

    def forward(self, value: Tensor, run: Run, layer: str) -> Tensor:
        """value: (b, i, h)."""
        inner = run.drop(f"{layer}.ffn.inner", self.activation(self.layer_1(value)), self.dropout)
        output = run.tap(f"{layer}.ffn.output", self.layer_2(inner))
        output = run.drop(f"{layer}.ffn.output", output, self.dropout)
        return run.tap(f"{layer}.output", self.layer_norm(output + value))


class Layer(nn.Module):
    """One layer, its weights shared by both streams."""

    def __init__(self, config: XLNetConfig, shared: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self.rel_attn = RelativeAttention(config, shared)
        self.ff = FeedForward(config)

    def forward(
        self, content: Tensor, query: Tensor | None, memory: Memory, run: Run, layer: str
    ) -> tuple[Tensor, Tensor | None]:
        """As RelativeAttention's."""
        content, query = self.rel_attn(content, query, memory, run, layer)
        if query is not None:
            query = self.ff(query, run, f"{layer}.query")
        return self.ff(content, run, layer), query
