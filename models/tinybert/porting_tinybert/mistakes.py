"""Mistakes that a port of TinyBERT can have by its graph alone: BERT's, and its own losses'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from porting.parity.variation import Variation
from porting_bert.mistakes import pooler_token

if TYPE_CHECKING:
    from porting.backends.protocol import Build
    from porting_tinybert.config import TinyBertConfig


def mistakes(config: TinyBertConfig, build: Build) -> dict[str, tuple[Variation, ...]]:
    """By name of the catalogue."""
    del config, build
    return {"pooler_token": pooler_token()}
