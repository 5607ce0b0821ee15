"""L1: whether two captures were made of one model, on one batch, with one recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from porting.parity.capture import Manifest
from porting.parity.state import Finding, Level, State

LOWER = ("float16", "bfloat16")

_HARMLESS = {
    "build.device": "where it runs",
    "build.mode": "how it runs",
    "config._name_or_path": "a name",
    "config.architectures": "a name",
    "config.dtype": "of the file, not of the run",
    "config.initializer_range": "initial values, which the checkpoint replaces",
    "config.torch_dtype": "of the file, not of the run",
    "config.transformers_version": "of the file",
    "recipe.name": "a name",
    "recipe.names_of": "in which dialect the parameters are named",
}
"""Settings that may differ between captures of one model, and why."""

PRECISION = "build.compute"

_TRAINED = ("gradients", "step.weights", "step.m", "step.v")


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that differs and is no finding: versions, switches, the device. For people to know."""

    what: str
    source: str
    target: str


def differences(source: Manifest, target: Manifest) -> list[Difference]:
    """What differs and may."""
    found = [
        Difference(name, _text(getattr(source, name)), _text(getattr(target, name)))
        for name in ("backend", "framework", "device", "emulated", "code", "replica")
    ]
    for name in ("versions", "switches"):
        found += [Difference(*row) for row in _rows(name, getattr(source, name), getattr(target, name))]
    for name in ("config", "build", "recipe"):
        found += [Difference(*row) for row in _rows(name, getattr(source, name), getattr(target, name)) if _may(row[0])]
    return [difference for difference in found if difference.source != difference.target]


def settings_findings(source: Manifest, target: Manifest, *, trained: bool, three_way: bool) -> Iterator[Finding]:
    """A finding for every setting that the result depends on.

    trained: whether either side holds gradients or a step, which a recipe and dropout act on. three_way: whether a
    lower precision of the target is judged against float64, and so is no difference by itself.
    """
    yield _equal("model", source.model, target.model, "a capture of another model")
    yield _known("batch", source.batch, target.batch, "the inputs are not the same")
    for name in ("config", "build"):
        for what, a, b in _rows(name, getattr(source, name), getattr(target, name)):
            if what == PRECISION:
                yield _precision(a, b, three_way=three_way)
            elif not _may(what):
                yield _equal(what, a, b, "the setting differs")
    if trained:
        yield from _recipe(source.recipe, target.recipe)


def _recipe(source: Mapping[str, Any] | None, target: Mapping[str, Any] | None) -> Iterator[Finding]:
    if source is None and target is None:
        return
    if source is None or target is None:
        side = "source" if source is None else "target"
        yield Finding(Level.SETTINGS, "recipe", State.UNMATCHED, f"the {side} was captured without one")
        return
    for what, a, b in _rows("recipe", source, target):
        if not _may(what):
            yield _equal(what, a, b, "the setting differs")


def _may(what: str) -> bool:
    return what in _HARMLESS


def _equal(what: str, source: str, target: str, reason: str) -> Finding:
    if source == target:
        return Finding(Level.SETTINGS, what, State.PASS)
    return Finding(Level.SETTINGS, what, State.FAIL, f"{reason}: source {source}, target {target}")


def _known(what: str, source: str, target: str, reason: str) -> Finding:
    """For a hash, which may not have been recorded."""
    if not source or not target:
        sides = " and ".join(side for side, value in (("source", source), ("target", target)) if not value)
        return Finding(Level.SETTINGS, what, State.NOT_RUN, f"no hash of it was recorded by {sides}")
    return _equal(what, source, target, reason)


def _precision(source: str, target: str, *, three_way: bool) -> Finding:
    if source == target or three_way:
        reason = "" if source == target else f"source {source}, target {target}: judged against float64"
        return Finding(Level.SETTINGS, PRECISION, State.PASS, reason)
    reason = f"source {source}, target {target}, and no run in float64 to judge both against"
    return Finding(Level.SETTINGS, PRECISION, State.CONDITIONAL, reason)


def _rows(
    name: str, source: Mapping[str, Any] | None, target: Mapping[str, Any] | None
) -> Iterator[tuple[str, str, str]]:
    """Every value of two nested mappings as (dotted name, source, target) in text."""
    a, b = dict(_leaves(name, source or {})), dict(_leaves(name, target or {}))
    for what in dict.fromkeys((*a, *b)):
        yield what, a.get(what, "none"), b.get(what, "none")


def _leaves(name: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(f"{name}.{key}", value)
        else:
            yield f"{name}.{key}", _text(value)


def _text(value: Any) -> str:
    """A value as people read it; 1 and 1.0, and a tuple and a list, are the same."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value) if value not in (None, "") else "none"


def is_trained(sections: set[str]) -> bool:
    """Whether any of the sections depends on a recipe or on dropout."""
    return bool(sections & set(_TRAINED))
