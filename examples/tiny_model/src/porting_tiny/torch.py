"""Tiny in PyTorch. Parameters carry the names of the torch dialect."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from porting_tiny.config import TinyConfig


class _Body(nn.Module):
    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.table = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.num_labels)


class Tiny(nn.Module):
    """input_ids: (batch, seq) int; logits: (batch, labels) float32."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.tiny = _Body(config)

    def forward(
        self, batch: Mapping[str, Tensor], taps: frozenset[str] = frozenset(), step: int = 0
    ) -> dict[str, Tensor]:
        """The task's outputs, the loss if there are labels, and the taps that are asked for."""
        del step
        bag = self.tiny.table(batch["input_ids"]).mean(dim=1)
        hidden = torch.tanh(self.tiny.dense(bag))
        found = {"bag": bag, "hidden": hidden, "logits": self.tiny.out(hidden)}
        if "label_ids" in batch:
            found["loss"] = nn.functional.cross_entropy(found["logits"], batch["label_ids"].long())
        return {name: value for name, value in found.items() if name in taps or name in ("logits", "loss")}


def build(config: TinyConfig, build: Any) -> Tiny:
    """The model; a build's options do not concern it, it has no dropout and one task."""
    del build
    return Tiny(config)
