"""A summary of a sequence in MindSpore: modeling.py, summarize_sequence."""

from __future__ import annotations

import mindspore as ms
from mindspore import ops

from porting.backends.protocol import Build
from porting_xlnet.config import XLNetConfig
from porting_xlnet.mindspore_layers import (
    MASKED,
    Cell,
    Dense,
    Drop,
    LayerNorm,
    Tensor,
    drawn,
    from_heads,
    kernel,
    tanh,
    to_heads,
)

Drops = tuple[Tensor, ...]


class Attention(Cell):
    """One learned query over all tokens, no residual: modeling.py, multihead_attn."""

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__()
        own = build.dropout.mode == "own"
        self.scale = 1 / config.d_head**0.5
        self.q, self.k, self.v, self.o = (kernel(config) for _ in range(4))
        self.layer_norm = LayerNorm(config)
        self.drop_probs = Drop(config.dropatt, own=own)
        self.drop_output = Drop(config.dropout, own=own)

    def construct(self, query: Tensor, sequence: Tensor, padding: Tensor, drops: Drops) -> Tensor:
        """query: (b, 1, h). sequence: (b, i, h). Returns (b, h)."""
        key, value = to_heads(sequence, self.k), to_heads(sequence, self.v)
        score = ops.matmul(to_heads(query, self.q), key.swapaxes(2, 3)).astype(ms.float32) * self.scale
        if padding is not None:
            score = score - MASKED * padding.reshape(padding.shape[0], 1, 1, -1)
        probs = self.drop_probs(ops.softmax(score, -1).astype(sequence.dtype), drops[0])
        output = self.drop_output(from_heads(ops.matmul(probs, value), self.o), drops[1])
        return self.layer_norm(output)[:, 0]


class Summary(Cell):
    """modeling.py, summarize_sequence."""

    def __init__(self, config: XLNetConfig, build: Build) -> None:
        super().__init__()
        self.kind, self.projects = config.summary_type, config.use_summ_proj
        if self.kind == "attn":
            self.summary_bias = drawn(config, config.d_model)
            self.abs_attn = Attention(config, build)
        if self.projects:
            self.summary = Dense(config, config.d_model, config.d_model)
        self.drop = Drop(config.dropout, own=build.dropout.mode == "own")

    def construct(self, sequence: Tensor, padding: Tensor, drops: Drops) -> Tensor:
        """(b, i, h) to (b, h)."""
        if self.kind == "last":
            pooled = sequence[:, -1]
        elif self.kind == "first":
            pooled = sequence[:, 0]
        elif self.kind == "mean":
            pooled = sequence.mean(1)
        else:
            query = ops.tile(self.summary_bias.astype(sequence.dtype), (sequence.shape[0], 1, 1))
            pooled = self.abs_attn(query, sequence, padding, drops)
        if self.projects:
            pooled = tanh(self.summary(pooled))
        return self.drop(pooled, drops[2])
