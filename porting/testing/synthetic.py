"""Checkpoints made from a family's table alone, each dialect computed without the conversion engine.

Every row is one array over its labels, in the order of their names. A dialect's tensors are cut from it by the
notation's meaning only: take an index per field, put the axes in the cell's order, fold. So a conversion from
one dialect has to give exactly what is built for the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from zlib import crc32

import numpy as np

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.storage import Array, InMemory
from porting.convert.notation import Cell, size_label
from porting.convert.sizes import word_counts
from porting.convert.table import Dialect, Family, Group, Row, Scope

PRIMES = (5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59)


@dataclass(frozen=True)
class World:
    """What a synthetic checkpoint depends on beside the dialect.

    sizes: elements per label. settings: the config's booleans. seed: of the values. without: groups left out.
    """

    family: Family
    sizes: Mapping[str, int]
    settings: Mapping[str, bool]
    seed: int = 0
    without: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Made:
    """One tensor of a synthetic checkpoint, and where in the table it comes from."""

    group: Group
    row: Row
    cell: Cell
    array: Array


def labels_of(family: Family) -> set[str]:
    """Every label that needs a size: of axes and of running numbers."""
    cells = [form.cell for _, row in family.rows() for forms in row.cells.values() for form in forms]
    named = {size_label(label) for cell in cells for label in cell.labels}
    return named | {part.name for cell in cells for part in cell.fields if part.kind == "digits"}


def different_sizes(family: Family, seed: int) -> dict[str, int]:
    """A size of its own for every label; layers are three, and the family's evidence is as it says."""
    open_labels = sorted(labels_of(family) - set(word_counts(family)) - {"layer"})
    order = np.random.default_rng(seed).permutation(len(open_labels))
    primes = PRIMES if len(open_labels) <= len(PRIMES) else tuple(range(5, 5 + len(open_labels)))
    sizes = {label: primes[int(i)] for label, i in zip(open_labels, order, strict=True)}
    return {**sizes, "layer": 3, **word_counts(family), **family.evidence}


def equal_sizes(family: Family, size: int) -> dict[str, int]:
    """One size for every label that is free: every matrix is square."""
    return {**dict.fromkeys(labels_of(family), size), **word_counts(family), **family.evidence}


def settings_of(family: Family) -> list[dict[str, bool]]:
    """Every combination of the booleans that choose variants."""
    forms = [form for _, row in family.rows() for forms in row.cells.values() for form in forms]
    keys = sorted({form.when[0] for form in forms if form.when})
    return [dict(zip(keys, values, strict=True)) for values in product((True, False), repeat=len(keys))]


def chosen_cell(row: Row, dialect: str, settings: Mapping[str, bool]) -> Cell:
    """The variant that the settings choose; the first one where they say nothing."""
    forms = row.cells[dialect]
    return next((f.cell for f in forms if f.when and settings.get(f.when[0]) is f.when[1]), forms[0].cell)


def tensors(world: World, dialect: Dialect, scope: Scope | None = None) -> Iterator[tuple[str, Made]]:
    """Every tensor of the dialect under the scope (its first one by default), in the table's order."""
    under = scope or dialect.scopes[0]
    for group, row in world.family.rows():
        if dialect.name in row.cells and group.name not in world.without:
            yield from _tensors(world, dialect, under, group, row)


def build(world: World, dialect: Dialect, scope: Scope | None = None) -> dict[str, Made]:
    """The same by name."""
    return dict(tensors(world, dialect, scope))


def entries(made: Mapping[str, Made]) -> dict[str, TensorEntry]:
    """As a checkpoint holds them."""
    return {name: entry_of(name, one.array) for name, one in made.items()}


def entry_of(name: str, array: Array) -> TensorEntry:
    """An array as an entry."""
    return TensorEntry(name, array.shape, DTYPES[array.dtype.name], InMemory(array), "memory")


def _tensors(world: World, dialect: Dialect, scope: Scope, group: Group, row: Row) -> Iterator[tuple[str, Made]]:
    source = world.family.tied_row(row, dialect.name) if row.tie is not None else row
    cell = chosen_cell(row, dialect.name, world.settings)
    canonical, labels = _canonical(world, source or row)
    sizes = _row_sizes(world, row)
    fields = [part for part in cell.fields if part.kind != "free"]
    spans = [range(sizes[part.name]) for part in fields]
    for values in product(*spans):
        at = dict(zip((part.name for part in fields), values, strict=True))
        raw = {p.name: p.words[at[p.name]] if p.kind == "words" else str(at[p.name]) for p in fields}
        raw |= {part.name: scope.variables.get(part.name, "some") for part in cell.fields if part.kind == "free"}
        name = scope.prefix(group.at) + cell.template.fill(raw)
        yield name, Made(group, row, cell, _cut(canonical, labels, cell, at))


def _row_sizes(world: World, row: Row) -> dict[str, int]:
    """With the number of words that this row lists: two rows may list different words under one label."""
    cells = [chosen_cell(row, name, world.settings) for name in row.cells]
    words = {part.name: len(part.words) for cell in cells for part in cell.fields if part.kind == "words"}
    return {**world.sizes, **words}


def _canonical(world: World, row: Row) -> tuple[Array, tuple[str, ...]]:
    """The row's values over the labels that all its cells have, as axes or as fields; zeros where the row says so."""
    cells = [chosen_cell(row, name, world.settings) for name in row.cells]
    sets = [{*cell.labels, *(part.name for part in cell.fields if part.kind != "free")} for cell in cells]
    labels = tuple(sorted(set.intersection(*sets)))
    sizes = _row_sizes(world, row)
    shape = tuple(sizes[size_label(label)] for label in labels)
    if row.zeros:
        return np.zeros(shape, np.float32), labels
    random = np.random.default_rng([world.seed, crc32(row.key.encode())])
    bits = random.integers(0, 1 << 32, shape, np.uint32)
    return bits.view(np.float32), labels


def _cut(canonical: Array, labels: tuple[str, ...], cell: Cell, at: Mapping[str, int]) -> Array:
    """One tensor of a cell: an index per field, the axes in the cell's order, folded."""
    taken = canonical[tuple(at.get(label, slice(None)) for label in labels)]
    left = [label for label in labels if label not in at]
    moved = np.transpose(taken, [left.index(label) for label in cell.labels])
    sizes = iter(moved.shape)
    shape = [int(np.prod([next(sizes) for _ in axis], dtype=np.int64)) for axis in cell.axes]
    return np.ascontiguousarray(moved).reshape(shape)
