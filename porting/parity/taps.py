"""Which taps a net may have, in the order of computation: those of its spec, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from porting.model.spec import Config, ModelSpec, Tap

_COUNTS = ("num_hidden_layers", "n_layer")
"""Under the names of published configs."""


def candidates(spec: ModelSpec, config: Config) -> tuple[str, ...]:
    """Every tap of the spec, for as many layers as the config has anywhere; not every task has each of them."""
    return tuple(name for taps in _runs(spec) for name in _expanded(taps, range(_layers(config.to_dict()))))


def _runs(spec: ModelSpec) -> Iterator[list[Tap]]:
    """Taps of layers together, of one part of a net (`teacher.`); all others alone."""
    for part, run in groupby(spec.taps, lambda tap: tap.name.partition("layer.{layer}")[::2][0] if _many(tap) else tap):
        del part
        yield list(run)


def _many(tap: Tap) -> bool:
    return "{layer}" in tap.name


def _expanded(taps: list[Tap], layers: range) -> Iterator[str]:
    if not _many(taps[0]):
        yield from (tap.name for tap in taps)
        return
    yield from (tap.name.replace("{layer}", str(layer)) for layer in layers for tap in taps)


def _layers(values: Mapping[str, Any]) -> int:
    own = [int(values[name]) for name in _COUNTS if isinstance(values.get(name), int)]
    inner = [_layers(value) for value in values.values() if isinstance(value, Mapping)]
    return max([*own, *inner], default=0)
