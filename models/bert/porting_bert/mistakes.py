"""Mistakes that a port of BERT can have by its graph alone, as changes of PyTorch's port: also TinyBERT's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from porting.parity.variation import Variation

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting_bert.config import BertConfig

TOKENS = {"the last token": -1, "the second token": 1, "the mean of the tokens": None}


def mistakes(config: BertConfig, build: Build) -> dict[str, tuple[Variation, ...]]:
    """By name of the catalogue."""
    tied = build.task in ("mlm", "pretraining")
    pooler = pooler_token() if config.model_type == "bert" else ()
    ties = (Variation("the decoder's gradient does not reach the table", patch=_untied),) if tied else ()
    return {"pooler_token": pooler, "decoder_untied": ties}


def pooler_token() -> tuple[Variation, ...]:
    """What a pooler may take in the place of the first token."""
    return tuple(Variation(form, patch=partial(_pooling, token)) for form, token in TOKENS.items())


@contextmanager
def _pooling(token: int | None) -> Iterator[None]:
    from porting_bert.torch_backbone import Backbone

    original = Backbone.pool

    def pool(self: Backbone, sequence: Any, run: Any) -> Any:
        taken = sequence.mean(1, keepdim=True) if token is None else sequence[:, token][:, None]
        return original(self, taken, run)

    Backbone.pool = pool  # type: ignore[method-assign]
    try:
        yield
    finally:
        Backbone.pool = original  # type: ignore[method-assign]


@contextmanager
def _untied() -> Iterator[None]:
    """The decoder multiplies by a copy of the table, which the loss does not train."""
    from porting_bert.torch_heads import MaskedLM

    original = MaskedLM.decode

    def decode(self: MaskedLM, backbone: Any, hidden: Any) -> Any:
        table = SimpleNamespace(weight=backbone.embeddings.word_embeddings.weight.detach())
        copied: Any = SimpleNamespace(embeddings=SimpleNamespace(word_embeddings=table))
        return original(self, copied, hidden)

    MaskedLM.decode = decode  # type: ignore[method-assign]
    try:
        yield
    finally:
        MaskedLM.decode = original  # type: ignore[method-assign]
