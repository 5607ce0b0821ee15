"""Mistakes that a port of BERT can have by its graph alone, as changes of PyTorch's port: also TinyBERT's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from porting.parity.variation import Variation, patched

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting_bert.config import BertConfig

SEEN = "seen"

TOKENS: dict[str, int | str] = {
    "the last token": -1,
    "the second token": 1,
    "the mean of the tokens": "mean",
    "the maximum of the tokens": "amax",
    "the sum of the tokens": "sum",
    "the last token that is seen": SEEN,
}


def mistakes(config: BertConfig, build: Build) -> dict[str, tuple[Variation, ...]]:
    """By name of the catalogue."""
    tied = build.task in ("mlm", "pretraining")
    pooler = pooler_token() if config.model_type == "bert" else ()
    return {
        "pooler_token": pooler,
        "decoder_untied": _ties(config) if tied else (),
        "positions_shifted": _places() if config.model_type == "roberta" else (),
    }


def _ties(config: BertConfig) -> tuple[Variation, ...]:
    lookups = partial(patched, "lookups_detached", config.vocab_size)
    return (
        Variation("the decoder's gradient does not reach the table", patch=_untied),
        Variation("the gradient of lookups does not reach the table", patch=lookups),
    )


PLACES: dict[str, Callable[[Any, int], Any]] = {
    "from 0 on, as BERT's": lambda padding, _: _counted(padding),
    "from pad + 1 on, padding too": lambda padding, pad: _counted(padding) + 1 + pad,
    "from pad + 2 on": lambda padding, pad: ((~padding).cumsum(1) + 1) * ~padding + pad,
    "from pad on": lambda padding, pad: (~padding).cumsum(1) * ~padding + pad - 1,
    "padding is as what stands before it": lambda padding, pad: (~padding).cumsum(1) + pad,
}
"""Rows of RoBERTa's table of positions, by where there is padding."""


def _counted(padding: Any) -> Any:
    return (padding | ~padding).cumsum(1) - 1


def _places() -> tuple[Variation, ...]:
    return tuple(Variation(form, patch=partial(_placing, rows)) for form, rows in PLACES.items())


@contextmanager
def _placing(rows: Callable[[Any, int], Any]) -> Iterator[None]:
    from porting_bert.torch_backbone import Embeddings

    original = Embeddings.places

    def places(self: Embeddings, padding: Any) -> Any:
        return rows(padding, self.config.pad_token_id).clamp(0, self.config.max_position_embeddings - 1)

    Embeddings.places = places  # type: ignore[method-assign]
    try:
        yield
    finally:
        Embeddings.places = original  # type: ignore[method-assign]


def pooler_token() -> tuple[Variation, ...]:
    """What a pooler may take in the place of the first token."""
    return tuple(Variation(form, patch=partial(_pooling, token)) for form, token in TOKENS.items())


@contextmanager
def _pooling(token: int | str) -> Iterator[None]:
    from porting_bert.torch_backbone import Backbone

    original = Backbone.pool

    def pool(self: Backbone, sequence: Any, run: Any) -> Any:
        if token == SEEN:
            mask = run.batch["input_mask"]
            places = (mask.cumsum(1) * mask).argmax(1)
            return original(self, sequence[range(len(places)), places][:, None], run)
        taken = sequence[:, token][:, None] if isinstance(token, int) else getattr(sequence, token)(1, keepdim=True)
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
