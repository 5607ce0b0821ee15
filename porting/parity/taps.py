"""Which taps a net may have, in the order of computation: those of its spec, layer by layer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import groupby
from typing import Any

from porting.model.spec import Config, ModelSpec, Tap

_LAYER = "layer.{layer}"

_COUNTS = ("num_hidden_layers", "n_layer")
"""Under the names of published configs."""


def candidates(spec: ModelSpec, config: Config) -> tuple[str, ...]:
    """Every tap of the spec, for as many layers as the config has anywhere; not every task has each of them.

    And one more, for what stands before and after each layer (TinyBERT's fit.{layer}).
    """
    return tuple(name for taps in _runs(spec) for name in _expanded(taps, range(_layers(config.to_dict()) + 1)))


def gaps(spec: ModelSpec, taps: Collection[str]) -> Iterator[str]:
    """Taps that some layers of a net lack while others have the like of them: a fault of a port, not of a task.

    >>> from porting.model.registry import model_named
    >>> list(gaps(model_named("bert"), ["layer.0.output", "layer.0.ffn.output", "layer.1.output"]))
    ['layer.1.ffn.output']
    """
    for run in filter(lambda run: _many(run[0]), _runs(spec)):
        numbers = range(len(taps))  # of layers: each that is there has a tap at least
        layers = [layer for layer in numbers if any(_of_layer(tap, layer) in taps for tap in run)]
        for tap in run:
            names = [_of_layer(tap, layer) for layer in range(max(layers, default=-1) + 1)]
            if any(name in taps for name in names):
                yield from (name for name in names if name not in taps)


def _runs(spec: ModelSpec) -> Iterator[list[Tap]]:
    """Taps of layers together, of one part of a net (`teacher.`); all others alone."""
    for _, run in groupby(spec.taps, lambda tap: _part(tap) if _many(tap) else tap):
        yield list(run)


def _many(tap: Tap) -> bool:
    return "{layer}" in tap.name


def _part(tap: Tap) -> str:
    """What stands before the layer."""
    return tap.name.partition(_LAYER)[0]


def _of_layer(tap: Tap, layer: int) -> str:
    return tap.name.replace("{layer}", str(layer))


def _expanded(taps: list[Tap], layers: range) -> Iterator[str]:
    if not _many(taps[0]):
        yield from (tap.name for tap in taps)
        return
    yield from (_of_layer(tap, layer) for layer in layers for tap in taps)


def _layers(values: Mapping[str, Any]) -> int:
    own = [int(values[name]) for name in _COUNTS if isinstance(values.get(name), int)]
    inner = [_layers(value) for value in values.values() if isinstance(value, Mapping)]
    return max([*own, *inner], default=0)
