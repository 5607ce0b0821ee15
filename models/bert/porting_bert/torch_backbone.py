"""Embeddings, encoder and pooler of BERT and RoBERTa in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from porting_bert.config import BertConfig
from porting_bert.spec import option
from porting_bert.torch_layers import Dense, LayerNorm, Pass, activation, wide

if TYPE_CHECKING:
    from porting.backends.protocol import Build


class Embeddings(nn.Module):
    """Words, positions and token types, summed and normalised: (batch, seq, hidden)."""

    def __init__(self, config: BertConfig, *, one_hot: bool) -> None:
        super().__init__()
        self.config, self.one_hot = config, one_hot
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, batch: Mapping[str, Tensor], run: Pass) -> Tensor:
        ids, types = batch["input_ids"], batch.get("segment_ids")
        if self.config.model_type == "roberta":
            padding = ids == self.config.pad_token_id
            words = _unlearned(self._words(ids, run), padding)
            places = self.position_embeddings(self.places(padding))
            positions = run.rows(places, "roberta.embeddings.position_embeddings.weight")
            positions = _unlearned(positions, padding)
        else:
            words = self._words(ids, run)
            positions = self.position_embeddings.weight[: ids.shape[1]]
        # Without segments all are of type 0: one row for all tokens.
        table = self.token_type_embeddings.weight
        kinds = table[0] if types is None else F.embedding(types, table)
        total = run.tap("embeddings", self.LayerNorm(words + kinds + positions))
        return run.drop("embeddings", total.to(run.dtype), self.config.hidden_dropout_prob)

    def places(self, padding: Tensor) -> Tensor:
        """RoBERTa's rows of the table of positions: counted from pad_token_id + 1 on, that one for padding."""
        return (~padding).cumsum(1) * ~padding + self.config.pad_token_id

    def _words(self, ids: Tensor, run: Pass) -> Tensor:
        if self.one_hot:
            table = self.word_embeddings.weight
            return F.one_hot(ids, self.config.vocab_size).to(table.dtype) @ table
        return run.rows(self.word_embeddings(ids), f"{self.config.model_type}.embeddings.word_embeddings.weight")


def _unlearned(vectors: Tensor, padding: Tensor) -> Tensor:
    """The same, with no gradient where there is padding: padding_idx of fairseq and transformers."""
    return torch.where(padding[..., None], vectors.detach(), vectors)


class Layer(nn.ModuleDict):
    """One layer of the encoder: self-attention and two denses, each with its residual and LayerNorm."""

    def __init__(self, config: BertConfig, index: int, *, fused: bool) -> None:
        hidden, inner = config.hidden_size, config.intermediate_size
        projections = {name: Dense(hidden, hidden) for name in ("query", "key", "value")}
        super().__init__(
            {
                "attention": nn.ModuleDict({"self": nn.ModuleDict(projections), "output": _joint(hidden, config)}),
                "intermediate": nn.ModuleDict({"dense": Dense(hidden, inner)}),
                "output": _joint(inner, config),
            }
        )
        self.config, self.fused, self.site = config, fused, f"layer.{index}"
        self.activate = activation(config.hidden_act)

    def forward(self, hidden: Tensor, adder: Tensor | None, run: Pass) -> Tensor:
        rate, site = self.config.hidden_dropout_prob, self.site
        attention: Any = self["attention"]
        intermediate: Any = self["intermediate"]
        output: Any = self["output"]
        context = self._attend(hidden, adder, run)
        mixed = run.drop(f"{site}.attention.output", attention["output"]["dense"](context), rate)
        hidden = run.tap(f"{site}.attention.output", attention["output"]["LayerNorm"](mixed + hidden))
        inner = self.activate(intermediate["dense"](hidden))
        widened = run.tap(f"{site}.ffn.output", output["dense"](inner))
        widened = run.drop(f"{site}.ffn.output", widened, rate)
        return run.tap(f"{site}.output", output["LayerNorm"](widened + hidden))

    def _attend(self, hidden: Tensor, adder: Tensor | None, run: Pass) -> Tensor:
        batch, seq, width = hidden.shape
        size, rate = self.config.head_size, self.config.attention_probs_dropout_prob
        heads = (batch, seq, self.config.num_attention_heads, size)
        attention: Any = self["attention"]
        own = attention["self"]
        query, key, value = (own[name](hidden).view(heads).transpose(1, 2) for name in ("query", "key", "value"))
        if self.fused:
            run.refuse(f"{self.site}.attention.scores")
            mask = None if adder is None else adder.to(query.dtype).expand(batch, 1, seq, seq)
            drop = rate if run.dropping else 0.0
            context = F.scaled_dot_product_attention(query, key, value, mask, drop)
        else:
            scores = wide(query @ key.transpose(2, 3)) * size**-0.5
            scores = run.tap(f"{self.site}.attention.scores", scores if adder is None else scores + adder)
            probs = run.drop(f"{self.site}.attention.probs", scores.softmax(-1), rate)
            context = probs.to(value.dtype) @ value
        return context.transpose(1, 2).reshape(batch, seq, width)


def _joint(width: int, config: BertConfig) -> nn.ModuleDict:
    """What ends each half of a layer."""
    norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
    return nn.ModuleDict({"dense": Dense(width, config.hidden_size), "LayerNorm": norm})


class Backbone(nn.Module):
    """Embeddings, encoder, and the pooler where the task wants one."""

    def __init__(self, config: BertConfig, build: Build, *, pooler: bool) -> None:
        super().__init__()
        fused = option(build, "attention", "eager", "sdpa") == "sdpa"
        self.embeddings = Embeddings(config, one_hot=option(build, "one_hot", False, True))
        layers = (Layer(config, index, fused=fused) for index in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        if pooler:
            self.pooler = nn.ModuleDict({"dense": Dense(config.hidden_size, config.hidden_size)})

    def forward(self, batch: Mapping[str, Tensor], run: Pass) -> Tensor:
        """The last layer's output, (batch, seq, hidden)."""
        mask = batch.get("input_mask")
        wanted = self.embeddings.word_embeddings.weight.dtype
        adder = None if mask is None else (1.0 - mask[:, None, None, :].to(wanted)) * -10000.0
        hidden = self.embeddings(batch, run)
        layers: Any = self.encoder["layer"]
        for layer in layers:
            hidden = layer(hidden, adder, run)
        return run.tap("sequence", hidden)

    def pool(self, sequence: Tensor, run: Pass) -> Tensor:
        """The first token through a dense and tanh: (batch, hidden)."""
        return run.tap("pooled", torch.tanh(self.pooler["dense"](sequence[:, 0])))
