"""The installed models, through the entry points `porting.models`."""

from __future__ import annotations

from functools import cache

from porting.errors import UsageError
from porting.model.spec import ModelSpec
from porting.plugins import installed


@cache
def models() -> dict[str, ModelSpec]:
    """All installed models by name. Loads specs only; no port, and so no framework, is imported.

    Raises: UsageError naming the entry point that does not give a ModelSpec.
    """
    found: dict[str, ModelSpec] = {}
    for point in installed("porting.models"):
        spec = point.load()
        if not isinstance(spec, ModelSpec):
            raise UsageError(f"entry point {point.name} = {point.value}: wanted a ModelSpec, got {type(spec).__name__}")
        found[spec.name] = spec
    return dict(sorted(found.items()))


def model_named(name: str) -> ModelSpec:
    """Raises: UsageError listing the models there are."""
    known = models()
    if name not in known:
        raise UsageError(f"model {name}: not known; there are {', '.join(known)}")
    return known[name]
