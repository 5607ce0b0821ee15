"""The encoder in PyTorch: BERT's layers under the names that transformers and the original TinyBERT share."""

from __future__ import annotations

from typing import Any

import torch
from porting_bert.config import BertConfig
from porting_bert.torch_layers import Dense, LayerNorm, Pass
from porting_bert.torch_backbone import Layer
from torch import Tensor, nn

from porting_tinybert.config import TinyBertConfig


class Embeddings(nn.Module):
    """Word, position and token type tables, summed and normalised: (batch, seq, hidden) float32, before dropout."""

    def __init__(self, config: TinyBertConfig, scope: str) -> None:
        super().__init__()
        self.scope, self.padding = f"{scope}embeddings", config.padding_idx
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.padding_idx)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, run: Pass) -> Tensor:
        ids, types = run.batch["input_ids"], run.batch.get("segment_ids")
        words = run.rows(self.word_embeddings(ids), f"{self.scope}.word_embeddings.weight")
        if self.padding is not None:
            # The table's gradient heeds padding_idx by itself; that of the rows does only here.
            words = torch.where((ids == self.padding)[..., None], words.detach(), words)
        kinds = self.token_type_embeddings(torch.zeros_like(ids) if types is None else types)
        kinds = run.rows(kinds, f"{self.scope}.token_type_embeddings.weight")
        return self.LayerNorm(words + kinds + self.position_embeddings.weight[: ids.shape[1]])


class Encoder(nn.Module):
    """Embeddings, layers, pooler.

    scope: what stands before its names in the net. fused: layers whose attention may be PyTorch's fused kernel.
    """

    def __init__(self, config: TinyBertConfig, scope: str, fused: frozenset[int]) -> None:
        super().__init__()
        self.config = config
        plain: BertConfig = config.encoder
        self.embeddings = Embeddings(config, scope)
        layers = (Layer(plain, index, fused=index in fused) for index in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        self.pooler = nn.ModuleDict({"dense": Dense(config.hidden_size, config.hidden_size)})

    def forward(self, run: Pass) -> Tensor:
        """The sequence output (batch, seq, hidden)."""
        visible = run.batch.get("input_mask")
        adder = None if visible is None else (1.0 - visible[:, None, None, :].float()) * -10000.0
        total = run.tap("embeddings", self.embeddings(run))
        hidden = run.drop("embeddings", total.to(run.dtype), self.config.hidden_dropout_prob)
        run.tap("encoder.input", hidden)
        layers: Any = self.encoder["layer"]
        for layer in layers:
            hidden = layer(hidden, adder, run)
        return run.tap("sequence", hidden)

    def pool(self, sequence: Tensor, run: Pass) -> Tensor:
        """tanh of a dense of the first token: (batch, hidden)."""
        return run.tap("pooled", torch.tanh(self.pooler["dense"](sequence[:, 0])))
