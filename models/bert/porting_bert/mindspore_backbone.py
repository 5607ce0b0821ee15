"""Embeddings, encoder and pooler of BERT and RoBERTa in MindSpore.

A graph is fixed when it is compiled, so every cell returns all of its taps; what nobody asks for is not computed. It
takes what is given in their place, None for nothing: a tap is returned as it was computed, and what is given goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import mindspore as ms
from mindspore import nn, ops

from porting_bert.config import BertConfig
from porting_bert.mindspore_layers import (
    DTYPES,
    Cell,
    Dense,
    Drop,
    LayerNorm,
    Softmax,
    Tensor,
    activation,
    one_hot_rows,
    replaced,
    table,
    tanh,
    unlearned,
)
from porting_bert.spec import option

if TYPE_CHECKING:
    from porting.backends.protocol import Build

Masks = tuple[Tensor | None, ...]
Given = tuple[Tensor | None, ...]

LAYER_TAPS = ("attention.scores", "attention.output", "ffn.output", "output")


def backbone_scope(config: BertConfig) -> str:
    """What the names of the backbone begin with."""
    return "bert.bert.bert_" if config.model_type == "bert" else "roberta."


def head_scope(config: BertConfig) -> str:
    """What the names of the heads begin with."""
    return "bert." if config.model_type == "bert" else ""


class Embeddings(Cell):
    """Words, positions and token types, summed and normalised: (batch, seq, hidden) float32."""

    def __init__(self, config: BertConfig, *, one_hot: bool) -> None:
        super().__init__()
        scope, hidden = backbone_scope(config), config.hidden_size
        self.roberta, self.pad, self.one_hot = config.model_type == "roberta", config.pad_token_id, one_hot
        post = f"{scope}embedding_postprocessor"
        self.words = table(f"{scope}embedding_lookup.embedding_table", (config.vocab_size, hidden), config)
        types = (config.type_vocab_size, hidden)
        self.types = table(f"{post}.token_type_embedding.embedding_table", types, config)
        positions = (config.max_position_embeddings, hidden)
        self.positions = table(f"{post}.full_position_embedding.embedding_table", positions, config)
        self.norm = LayerNorm(f"{post}.layernorm", config)

    def construct(self, ids: Tensor, segments: Tensor | None, word_rows: Tensor, position_rows: Tensor) -> Tensor:
        words = one_hot_rows(self.words, ids) if self.one_hot else ops.gather(self.words, ids, 0)
        if word_rows is not None:
            words = words + word_rows
        if self.roberta:
            visible = (ids != self.pad).astype(ms.int32)
            placed = ops.gather(self.positions, ops.cumsum(visible, 1) * visible + self.pad, 0)
            if position_rows is not None:
                placed = placed + position_rows
            words, placed = unlearned(words, visible), unlearned(placed, visible)
        else:
            placed = self.positions[: ids.shape[1]]
        # Without segments all are of type 0: one row for all tokens.
        kinds = self.types[0] if segments is None else one_hot_rows(self.types, segments)
        return self.norm(words + kinds + placed)


class Attention(Cell):
    """Self-attention up to its own dense: scores (batch, head, query, key), context (batch, seq, hidden)."""

    def __init__(self, config: BertConfig, name: str, mode: str) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.heads, self.size = config.num_attention_heads, config.head_size
        self.query, self.key, self.value = (
            Dense(f"{name}.{part}_layer", hidden, hidden, config) for part in ("query", "key", "value")
        )
        self.drop = Drop(mode, config.attention_probs_dropout_prob)
        self.softmax = Softmax()
        self.score, self.mix = ops.BatchMatMul(transpose_b=True), ops.BatchMatMul()
        self.scale = self.size**-0.5

    def construct(
        self, hidden: Tensor, adder: Tensor | None, mask: Tensor | None, given: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        query, key, value = self.split(self.query(hidden)), self.split(self.key(hidden)), self.split(self.value(hidden))
        scores = self.score(query, key).astype(ms.float32) * self.scale
        if adder is not None:
            scores = scores + adder
        probs = self.drop(self.softmax(replaced(scores, given)), mask)
        context = self.mix(probs.astype(value.dtype), value)
        return scores, context.transpose((0, 2, 1, 3)).reshape(hidden.shape)

    def split(self, x: Tensor) -> Tensor:
        """(batch, seq, hidden) -> (batch, head, seq, size)."""
        return x.reshape((x.shape[0], x.shape[1], self.heads, self.size)).transpose((0, 2, 1, 3))


class Layer(Cell):
    """One layer of the encoder; returns its four taps, its output last. given: in place of these."""

    def __init__(self, config: BertConfig, index: int, mode: str) -> None:
        super().__init__()
        name, hidden, inner = (
            f"{backbone_scope(config)}encoder.layers.{index}",
            config.hidden_size,
            config.intermediate_size,
        )
        self.attention = Attention(config, f"{name}.attention.attention", mode)
        self.attention_dense = Dense(f"{name}.attention.output.dense", hidden, hidden, config)
        self.attention_norm = LayerNorm(f"{name}.attention.output.layernorm", config)
        self.intermediate = Dense(f"{name}.intermediate", hidden, inner, config)
        self.output = Dense(f"{name}.output.dense", inner, hidden, config)
        self.output_norm = LayerNorm(f"{name}.output.layernorm", config)
        self.activate = activation(config.hidden_act)
        self.drop = Drop(mode, config.hidden_dropout_prob)

    def construct(
        self, hidden: Tensor, adder: Tensor | None, masks: Masks, given: Given
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scores, context = self.attention(hidden, adder, masks[0], given[0])
        mixed = self.drop(self.attention_dense(context), masks[1])
        attended = self.attention_norm(mixed + hidden)
        taken = replaced(attended, given[1])
        widened = self.output(self.activate(self.intermediate(taken)))
        summed = self.drop(replaced(widened, given[2]), masks[2]) + taken
        return scores, attended, widened, self.output_norm(summed)


class Backbone(Cell):
    """Embeddings and encoder. names: of the taps that it returns, in order, `sequence` last."""

    def __init__(self, config: BertConfig, build: Build) -> None:
        super().__init__()
        mode = build.dropout.mode
        self.embeddings = Embeddings(config, one_hot=option(build, "one_hot", False, True))
        layers = (Layer(config, index, mode) for index in range(config.num_hidden_layers))
        self.layers = nn.CellList(list(layers), auto_prefix=False)
        self.drop = Drop(mode, config.hidden_dropout_prob)
        self.dtype = DTYPES[build.compute]
        names = [f"layer.{index}.{tap}" for index in range(config.num_hidden_layers) for tap in LAYER_TAPS]
        self.names = ("embeddings", *names, "sequence")

    def construct(self, text: Masks, rows: Masks, masks: Masks, given: Given) -> tuple[Tensor, ...]:
        """text: ids, mask, segments. rows: of words, of positions. masks: of the embeddings, then three per layer.

        given: in place of what it returns, in that order.
        """
        ids, mask, segments = text
        adder = None
        if mask is not None:
            adder = (1.0 - mask.astype(ms.float32).reshape((mask.shape[0], 1, 1, mask.shape[1]))) * -10000.0
        normed = self.embeddings(ids, segments, rows[0], rows[1])
        values = (normed,)
        hidden = self.drop(replaced(normed, given[0]).astype(self.dtype), masks[0])
        for index, layer in enumerate(self.layers):
            own = given[4 * index + 1 : 4 * index + 5]
            found = layer(hidden, adder, masks[3 * index + 1 : 3 * index + 4], own)
            values = values + found
            hidden = replaced(found[3], own[3])
        return (*values, hidden)


class Pooler(Cell):
    """The first token through a dense and tanh: (batch, hidden)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = Dense("bert.bert.dense", config.hidden_size, config.hidden_size, config)

    def construct(self, sequence: Tensor) -> Tensor:
        return tanh(self.dense(sequence[:, 0]))
