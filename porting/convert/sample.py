"""A random checkpoint made from a table alone: for the demo, for benchmarks, for conformance suites."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np

from porting.convert.sizes import axis_size, field_ranges, fill
from porting.convert.table import Family

Shapes = dict[str, tuple[int, ...]]


def sample_shapes(
    family: Family,
    dialect: str,
    sizes: Mapping[str, int],
    *,
    groups: Collection[str] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Shapes:
    """Names and shapes of a whole model in a dialect, under its default scope, in the order of the names.

    sizes: elements per label; labels that are not listed have 2. groups: all if absent.
    Tied copies and tensors that are only ever dropped are left out.
    """
    scope = family.dialect(dialect).scopes[0]
    values = {"": "", **scope.variables, **(variables or {})}
    shapes: Shapes = {}
    for group, row in family.rows():
        forms = row.cells.get(dialect)
        if forms is None or row.tie or row.drop or (groups is not None and group.name not in groups):
            continue
        cell = forms[0].cell
        known = {label.rstrip("'"): 2 for label in (*cell.labels, *(field.name for field in cell.fields))} | dict(sizes)
        for at in product(*(field_ranges(cell, known) or [])):
            name = scope.prefix(group.at) + fill(cell, at, _Named(values))
            shapes[name] = tuple(axis_size(axis, known) or 1 for axis in cell.axes)
    return dict(sorted(shapes.items()))


class _Named(dict[str, str]):
    """Values of free name fields; a field without one is called after itself."""

    def __missing__(self, key: str) -> str:
        return key


def sample(
    family: Family,
    dialect: str,
    sizes: Mapping[str, int],
    *,
    groups: Collection[str] | None = None,
    seed: int = 0,
    scale: float = 0.02,
) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """The same with values: normal, float32, of standard deviation `scale`, each tensor from its own stream."""
    return dict(_values(sample_shapes(family, dialect, sizes, groups=groups), seed, scale))


def _values(shapes: Shapes, seed: int, scale: float) -> Iterator[tuple[str, np.ndarray[Any, np.dtype[np.float32]]]]:
    for i, (name, shape) in enumerate(shapes.items()):
        random = np.random.Generator(np.random.Philox(key=[seed, i]))
        yield name, random.standard_normal(shape, np.float32) * np.float32(scale)
