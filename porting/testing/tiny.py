"""Configs of a size that tests run in a moment, of any model: the published ones with their sizes replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from porting.model.spec import Config, ModelSpec

SIZES: Mapping[str, int] = {
    **dict.fromkeys(("vocab_size", "n_token"), 50),
    **dict.fromkeys(("hidden_size", "d_model"), 32),
    **dict.fromkeys(("intermediate_size", "d_inner"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head"), 4),
    **dict.fromkeys(("d_head",), 8),
    **dict.fromkeys(("max_position_embeddings",), 20),
}
"""Under the names of published configs."""


def tiny(spec: ModelSpec, **changes: Any) -> Config:
    """A small config of a model. changes: of fields, those that it has. A config in a config is larger than its own."""
    config: Config = _shrunk(next(iter(spec.sizes.values())), {**SIZES, **changes}, inner=False)
    return config


def square(spec: ModelSpec) -> Config:
    """One whose vocabulary, hidden and inner axis are of one size, so that no shape tells a transposed weight."""
    return tiny(spec, **{name: 32 for name in SIZES if SIZES[name] in (32, 50, 64)})


def _shrunk(config: Any, sizes: Mapping[str, Any], *, inner: bool) -> Any:
    """inner: of a config in a config, whose hidden axis and count of layers are made others."""
    found: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            found[field.name] = _shrunk(value, sizes, inner=True)
        elif field.name in sizes:
            found[field.name] = sizes[field.name]
    if inner:
        found |= {name: found[name] * 2 for name in ("hidden_size", "num_hidden_layers") if name in found}
    return replace(config, **found)
