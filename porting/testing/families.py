"""The conformance suite of a model family. A new family's tests are one subclass:

class TestMyFamily(FamilyConformance):
    family = FAMILY
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations, permutations
from typing import ClassVar

import numpy as np
import pytest

from porting.checkpoint.entry import TensorEntry
from porting.convert.match import Match, match_as
from porting.convert.naming import Wishes, target_of
from porting.convert.notation import size_label
from porting.convert.overlap import templates_overlap
from porting.convert.plan import plan_model
from porting.convert.planned import Plan
from porting.convert.sizes import Bound, bind
from porting.convert.table import Dialect, Family, Group, Row
from porting.testing.formats import same_bits
from porting.testing.synthetic import (
    Made,
    World,
    build,
    different_sizes,
    entries,
    entry_of,
    equal_sizes,
    settings_of,
    tensors,
)


def _match(world: World, dialect: Dialect, found: Mapping[str, TensorEntry]) -> Match:
    return match_as(tuple(found), world.family, dialect)


def _bound(world: World, dialect: Dialect, found: Mapping[str, TensorEntry]) -> Bound:
    match = _match(world, dialect, found)
    assert len(match.models) == 1, f"{dialect.name}: the names of one model are read as {len(match.models)}"
    return bind(match.models[0], found, world.settings)


def convert(
    world: World, source: Dialect, target: Dialect, found: Mapping[str, TensorEntry]
) -> tuple[Plan, dict[str, TensorEntry]]:
    """The plan from one dialect to another, and the tensors it gives, none of them read yet."""
    bound = _bound(world, source, found)
    assert not bound.problems, f"{source.name}: {bound.problems}"
    plan = plan_model(bound, target_of(bound, target, Wishes(config=world.settings)), found)
    made = {one.name: one.entry(found.__getitem__) for one in plan.tensors}
    return plan, made | {one.name: one.entry(found[one.like].dtype) for one in plan.zeros}


def crowded_out(family: Family, *dialects: Dialect) -> frozenset[str]:
    """Groups whose names another group has in one of the dialects: they can only stand alone there."""
    found = set()
    for one, two in combinations(family.groups, 2):
        if one.may_share(two) and any(_share(one, two, dialect.name) for dialect in dialects):
            found.add(two.name)
    return frozenset(found)


def _share(one: Group, two: Group, dialect: str) -> bool:
    ones, twos = ([form.cell.template for row in g.rows for form in row.cells.get(dialect, ())] for g in (one, two))
    return any(templates_overlap(a, b) for a in ones for b in twos)


def lacking(world: World, source: Dialect, target: Dialect) -> list[Row]:
    """Rows that the target needs and the source has no tensor for, in groups that the source has."""
    return [
        row
        for group in world.family.groups
        if group.name not in world.without and any(source.name in row.cells for row in group.rows)
        for row in group.rows
        if target.name in row.cells
        and source.name not in row.cells
        and not (row.optional or row.zeros)
        and row.tie is None
    ]


class FamilyConformance:
    """Inherit and set `family`."""

    family: ClassVar[Family]
    seeds: ClassVar[tuple[int, ...]] = (0, 1)
    squares: ClassVar[tuple[int, ...]] = (2, 3)

    @pytest.fixture
    def port_family(self) -> Family:
        """The family under test; a fixture, so that a suite can run over several."""
        return self.family

    def worlds(self, family: Family) -> Iterator[World]:
        """Sizes and settings to try: all sizes different, then all equal."""
        for settings in settings_of(family):
            for seed in self.seeds:
                yield World(family, different_sizes(family, seed), settings, seed)
            for size in self.squares:
                yield World(family, equal_sizes(family, size), settings, size)

    def pairs(self, family: Family) -> Iterator[tuple[World, Dialect, Dialect]]:
        """Every ordered pair of dialects in every world."""
        for world in self.worlds(family):
            for source, target in permutations(family.dialects, 2):
                yield replace(world, without=crowded_out(family, source, target)), source, target

    def test_every_name_is_its_own(self, port_family: Family) -> None:
        for world in self.worlds(port_family):
            for dialect in port_family.dialects:
                here = replace(world, without=crowded_out(port_family, dialect))
                for scope in dialect.scopes:
                    names = Counter(name for name, _ in tensors(here, dialect, scope))
                    twice = [name for name, count in names.items() if count > 1]
                    assert not twice, f"{dialect.name} under {dict(scope.levels)}: {twice}"

    def test_every_tensor_is_read_as_its_own_row(self, port_family: Family) -> None:
        for world in self.worlds(port_family):
            for dialect in port_family.dialects:
                here = replace(world, without=crowded_out(port_family, dialect))
                made = build(here, dialect)
                match = _match(here, dialect, entries(made))
                assert match.unknown == (), f"{dialect.name}: no row reads {match.unknown}"
                read = {name: f.row.key for m in match.models for f in m.found.values() for name in f.names.values()}
                assert read == {name: one.row.key for name, one in made.items()}, dialect.name

    def test_every_scope_is_recognised(self, port_family: Family) -> None:
        world = World(port_family, different_sizes(port_family, 0), settings_of(port_family)[0])
        for dialect in port_family.dialects:
            here = replace(world, without=crowded_out(port_family, dialect))
            for scope in dialect.scopes:
                match = _match(here, dialect, entries(build(here, dialect, scope)))
                assert match.unknown == (), f"{dialect.name} under {scope.levels}: no row reads {match.unknown}"

    def test_sizes_come_back_from_shapes(self, port_family: Family) -> None:
        for world in self.worlds(port_family):
            for dialect in port_family.dialects:
                here = replace(world, without=crowded_out(port_family, dialect))
                bound = _bound(here, dialect, entries(build(here, dialect)))
                assert bound.problems == ()
                wrong = {k: (v, world.sizes[k]) for k, v in bound.sizes.items() if v != world.sizes[k]}
                assert not wrong, f"{dialect.name}: label: (bound, true) {wrong}"

    def test_every_dialect_into_every_other(self, port_family: Family) -> None:
        """What a conversion gives is what the notation says, computed apart from the engine, byte for byte."""
        for world, source, target in self.pairs(port_family):
            made, want = build(world, source), build(world, target)
            if lacking(world, source, target):
                continue
            plan, got = convert(world, source, target, entries(made))
            where = f"{source.name} to {target.name}, {dict(world.sizes)}"
            assert plan.problems == (), where
            assert set(got) <= set(want), f"{where}: {sorted(set(got) - set(want))} are no names of {target.name}"
            absent = [name for name, one in want.items() if name not in got and source.name in one.row.cells]
            assert [name for name in absent if want[name].row.tie is None] == [], where
            for name, entry in got.items():
                assert same_bits(np.asarray(entry.read()), want[name].array), f"{where}: {name}"

    def test_there_and_back(self, port_family: Family) -> None:
        for world, source, target in self.pairs(port_family):
            if lacking(world, source, target) or lacking(world, target, source):
                continue
            made = build(world, source)
            _, there = convert(world, source, target, entries(made))
            _, back = convert(world, target, source, there)
            where = f"{source.name} to {target.name} and back, {dict(world.sizes)}"
            both = {name for name, one in made.items() if target.name in one.row.cells and one.row.tie is None}
            assert both <= set(back), f"{where}: {sorted(both - set(back))} are lost"
            for name, entry in back.items():
                assert same_bits(np.asarray(entry.read()), made[name].array), f"{where}: {name}"

    def test_what_a_dialect_lacks_is_named(self, port_family: Family) -> None:
        """A row that the target needs and the source has not is a problem of the plan, never invented."""
        for world, source, target in self.pairs(port_family):
            missing = lacking(world, source, target)
            if missing:
                plan, _ = convert(world, source, target, entries(build(world, source)))
                told = "\n".join(plan.problems)
                for row in missing:
                    assert str(row.cells[target.name][0].cell.template) in told, f"{source.name} to {target.name}"

    def test_nothing_is_lost_in_silence(self, port_family: Family) -> None:
        """Every source tensor is used or dropped with a reason."""
        for world, source, target in self.pairs(port_family):
            made = build(world, source)
            plan, _ = convert(world, source, target, entries(made))
            if plan.problems:
                continue
            used = {name for one in plan.tensors for name in one.all_sources}
            dropped = {line.name for line in plan.dropped if line.reason}
            assert set(made) - used - dropped == set(), f"{source.name} to {target.name}"

    def test_a_missing_tensor_is_named(self, port_family: Family) -> None:
        world = World(port_family, different_sizes(port_family, 0), settings_of(port_family)[0])
        for dialect in port_family.dialects:
            here = replace(world, without=crowded_out(port_family, dialect))
            made = build(here, dialect)
            found = entries(made)
            for name in _indispensable(port_family, dialect, made):
                bound = _bound(here, dialect, {other: entry for other, entry in found.items() if other != name})
                assert name in bound.missing, f"{dialect.name}: {name} is not missed"

    def test_a_wrong_shape_is_named(self, port_family: Family) -> None:
        world = World(port_family, different_sizes(port_family, 0), settings_of(port_family)[0])
        for dialect in port_family.dialects:
            here = replace(world, without=crowded_out(port_family, dialect))
            made = build(here, dialect)
            found = entries(made)
            for name, axis in _checked_axes(made):
                shape = [n + (i == axis) for i, n in enumerate(made[name].array.shape)]
                bound = _bound(here, dialect, found | {name: entry_of(name, np.zeros(shape, np.float32))})
                assert name in "\n".join(bound.problems), f"{dialect.name}: {name} {shape} is not refused"

    def test_a_transposed_tensor_is_named(self, port_family: Family) -> None:
        world = World(port_family, different_sizes(port_family, 0), settings_of(port_family)[0])
        for dialect in port_family.dialects:
            here = replace(world, without=crowded_out(port_family, dialect))
            made = build(here, dialect)
            found, checked = entries(made), set(_checked_axes(made))
            for name, one in made.items():
                turned = one.array.T
                if {(name, 0), (name, 1)} <= checked and turned.shape != one.array.shape and turned.ndim == 2:
                    bound = _bound(here, dialect, found | {name: entry_of(name, np.ascontiguousarray(turned))})
                    assert name in "\n".join(bound.problems), f"{dialect.name}: {name} transposed is not refused"

    def test_an_unknown_tensor_is_named(self, port_family: Family) -> None:
        world = World(port_family, different_sizes(port_family, 0), settings_of(port_family)[0])
        for dialect in port_family.dialects:
            found = entries(build(replace(world, without=crowded_out(port_family, dialect)), dialect))
            stranger = f"surely{dialect.separator}no{dialect.separator}parameter"
            match = _match(world, dialect, found | {stranger: entry_of(stranger, np.zeros(2, np.float32))})
            assert match.unknown == (stranger,)


def _one_per_row(made: Mapping[str, Made]) -> dict[str, Made]:
    """The middle tensor of each row: of the layers, one that has others on both sides."""
    rows: dict[str, list[str]] = {}
    for name, one in made.items():
        rows.setdefault(one.row.key, []).append(name)
    return {names[len(names) // 2]: made[names[len(names) // 2]] for names in rows.values()}


def _indispensable(family: Family, dialect: Dialect, made: Mapping[str, Made]) -> Iterator[str]:
    """Tensors whose absence shows: of a row that must be there and has no tied copy, in a group that still is."""
    rows = Counter(one.group.name for one in made.values())
    ties = (
        (one.group.name, family.tied_row(one.row, dialect.name)) for one in made.values() if one.row.tie is not None
    )
    copied = {(group, row.key) for group, row in ties if row is not None}
    for name, one in _one_per_row(made).items():
        if one.row.optional or one.row.tie is not None or (rows[one.group.name] == 1 and not one.group.required):
            continue
        if (one.group.name, one.row.key) not in copied:
            yield name


def _checked_axes(made: Mapping[str, Made]) -> Iterator[tuple[str, int]]:
    """Axes whose size enough other tensors bear out."""
    votes = Counter(size_label(a[0]) for one in made.values() for a in one.cell.axes if len(a) == 1)
    for name, one in _one_per_row(made).items():
        for i, axis in enumerate(one.cell.axes):
            if len(axis) == 1 and votes[size_label(axis[0])] >= 4:
                yield name, i
