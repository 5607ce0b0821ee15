"""Specs in words, for `port models`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from porting.model.spec import ModelSpec


def model_lines(models: Mapping[str, ModelSpec]) -> list[str]:
    """A line per model: family, sizes, frameworks."""
    width = max((len(name) for name in models), default=0)
    return [
        f"{name.ljust(width)}  family {spec.family}; {', '.join(spec.dialects)}; {', '.join(spec.sizes) or 'no sizes'}"
        for name, spec in models.items()
    ]


def spec_lines(spec: ModelSpec) -> list[str]:
    """Everything about a model that holds in every framework."""
    lines = [f"{spec.name}: family {spec.family}, ports in {spec.package}"]
    lines += ["", "dialect of the parameters"]
    lines += [f"  {framework:12} {dialect}" for framework, dialect in spec.dialects.items()]
    lines += ["", "sizes", *(f"  {name}" for name in spec.sizes)]
    lines += ["", "tasks"]
    lines += _aligned([(task.name, " ".join(task.features), "-> " + " ".join(task.outputs)) for task in spec.tasks])
    lines += ["", "features"]
    lines += _aligned([(f.name, f"({f.axes})", f.dtype + (", optional" if f.optional else "")) for f in spec.features])
    lines += ["", "taps"]
    lines += _aligned([(tap.name, f"({tap.axes})", tap.what) for tap in spec.taps])
    if spec.traps:
        lines += ["", "known traps", *(f"  {trap}" for trap in spec.traps)]
    return lines


def spec_json(spec: ModelSpec) -> dict[str, Any]:
    """The same as JSON values."""
    return {
        "name": spec.name,
        "family": spec.family,
        "package": spec.package,
        "dialects": dict(spec.dialects),
        "sizes": {name: config.to_dict() for name, config in spec.sizes.items()},
        "tasks": {task.name: {"features": list(task.features), "outputs": list(task.outputs)} for task in spec.tasks},
        "features": {f.name: {"axes": f.axes, "dtype": f.dtype, "optional": f.optional} for f in spec.features},
        "taps": {tap.name: {"axes": tap.axes, "what": tap.what} for tap in spec.taps},
        "traps": list(spec.traps),
    }


def _aligned(rows: list[tuple[str, str, str]]) -> list[str]:
    first, second = (max((len(row[i]) for row in rows), default=0) for i in (0, 1))
    return [f"  {a.ljust(first)}  {b.ljust(second)}  {c}".rstrip() for a, b, c in rows]
