"""Random tables: every conversion is the one that the labels mean, and its inverse undoes it to the byte.

The oracle knows nothing of rules. A row stands for one array over all of its labels, fields and axes alike; a cell
says which slices of it are stored where, in which order and folded how.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.pieces import storage_pieces
from porting.checkpoint.write import as_entry
from porting.convert.match import match_as
from porting.convert.naming import Wishes, target_of
from porting.convert.notation import Cell
from porting.convert.plan import plan_model
from porting.convert.sizes import bind
from porting.convert.table import Dialect, Family, Group, group, row, scope
from porting.errors import TableError
from porting.testing.formats import random_bits

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]
WORDS = {"proj": ("q", "k", "v"), "gate": ("i", "f")}
SIZED = ("hidden", "inner", "head", "d", "vocab")
DTYPES = ("float32", "float16", "bfloat16", "int8", "float64", "complex128", "bool", "int4")


@dataclass(frozen=True)
class Side:
    """One cell in the making: fields in the name, and labels per axis; () is an axis of 1."""

    name: str
    fields: tuple[str, ...]
    axes: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """In the notation."""
        shown = [f"{{{f}[{' '.join(WORDS[f])}]}}" if f in WORDS else f"{{{f}}}" for f in self.fields]
        axes = ["1" if not axis else axis[0] if len(axis) == 1 else f"({' '.join(axis)})" for axis in self.axes]
        return f"{'.'.join([self.name, *shown])} : {' '.join(axes)}".rstrip(" :")

    def tensors(self, labels: tuple[str, ...], whole: np.ndarray[Any, Any], sizes: dict[str, int]) -> Arrays:
        """What it stores of an array over `labels`. A field that is no label repeats the same tensor."""
        made: Arrays = {}
        for values in product(*(range(sizes[field]) for field in self.fields)):
            at = dict(zip(self.fields, values, strict=True))
            part = whole[tuple(at.get(label, slice(None)) for label in labels)]
            left = [label for label in labels if label not in at]
            part = part.transpose([left.index(label) for axis in self.axes for label in axis])
            shape = [prod(sizes[label.rstrip("'")] for label in axis) for axis in self.axes]
            words = [WORDS[f][v] if f in WORDS else str(v) for f, v in at.items()]
            made[".".join([self.name, *words])] = np.ascontiguousarray(part).reshape(shape)
        return made


@dataclass(frozen=True)
class Line:
    """A row: the labels that its elements have, and its two sides."""

    labels: tuple[str, ...]
    sides: tuple[Side, Side]


@st.composite
def axes_of(draw: st.DrawFn, labels: list[str]) -> tuple[tuple[str, ...], ...]:
    """The labels in any order, some folded, with axes of 1 between."""
    order = list(draw(st.permutations(labels)))
    axes: list[tuple[str, ...]] = []
    while order:
        take = draw(st.integers(1, min(3, len(order))))
        axes.append(tuple(order[:take]))
        order = order[take:]
    for _ in range(draw(st.integers(0, 1))):
        axes.insert(draw(st.integers(0, len(axes))), ())
    return tuple(axes)


@st.composite
def lines(draw: st.DrawFn, number: int) -> Line:
    """A row of which some labels are fields on one side, on both or on neither, and a field may be on one side only."""
    plain = draw(st.lists(st.sampled_from([*SIZED, "hidden'"]), max_size=3, unique=True))
    enumerable = draw(st.lists(st.sampled_from(["layer", *WORDS]), max_size=2, unique=True))
    labels = (*plain, *enumerable)
    lonely = draw(st.sampled_from([None, None, "layer", "gate"]))
    sides = []
    repeated = draw(st.integers(0, 1))
    for which, letter in enumerate("ab"):
        fields = [label for label in enumerable if draw(st.booleans())]
        axes = draw(axes_of([label for label in labels if label not in fields]))
        if lonely is not None and lonely not in enumerable and which == repeated:
            fields.append(lonely)
        sides.append(Side(f"{letter}{number}", tuple(draw(st.permutations(fields))), axes))
    return Line(labels, (sides[0], sides[1]))


@st.composite
def tables(draw: st.DrawFn) -> tuple[Family, tuple[Line, ...], dict[str, int]]:
    """A family of two dialects. The first row has a layer in its name on both sides, so that layers can be counted."""
    first = Line(("layer", "hidden"), (Side("a0", ("layer",), (("hidden",),)), Side("b0", ("layer",), (("hidden",),))))
    found = (first, *(draw(lines(i + 1)) for i in range(draw(st.integers(1, 5)))))
    sizes = {label: draw(st.integers(1, 4)) for label in ("layer", *SIZED)}
    sizes |= {label: len(words) for label, words in WORDS.items()}
    family = Family(
        "random",
        (Dialect("a", "numpy", (scope("x."), scope())), Dialect("b", "numpy", (scope("y."),))),
        (group("all", *(row(a=f.sides[0].text(), b=f.sides[1].text()) for f in found), required=True),),
        {label: (label,) for label in ("layer", *SIZED, *WORDS)},
    )
    return family, found, sizes


def converted(family: Family, arrays: Arrays, one: str, two: str, config: dict[str, int]) -> Arrays:
    """From one dialect to the other, in memory; bytes both read whole and streamed in small pieces."""
    entries: dict[str, TensorEntry] = {name: as_entry(name, value) for name, value in arrays.items()}
    match = match_as(tuple(entries), family, family.dialect(one))
    assert match.unknown == ()
    (model,) = match.models
    bound = bind(model, entries, config)
    assert bound.problems == ()
    target = target_of(bound, family.dialect(two), Wishes(config=config))
    plan = plan_model(bound, target, entries)
    assert plan.problems == ()
    made: Arrays = {}
    for planned in plan.tensors:
        for first, other in planned.equal:
            assert arrays[first].tobytes() == arrays[other].tobytes()
        entry = planned.entry(entries.__getitem__)
        made[planned.name] = np.asarray(entry.read())
        streamed = b"".join(p.tobytes() for p in storage_pieces(entry.storage, entry.shape, entry.dtype.itemsize, 24))
        assert streamed == np.ascontiguousarray(made[planned.name]).tobytes()
    return made


def assert_same(got: Arrays, want: Arrays) -> None:
    """The same names, shapes, dtypes and bits."""
    assert sorted(got) == sorted(want)
    for name, value in want.items():
        assert got[name].shape == value.shape, name
        assert got[name].dtype == value.dtype, name
        assert np.ascontiguousarray(got[name]).tobytes() == value.tobytes(), name


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.sampled_from(DTYPES), st.integers(0, 1000))
def test_there_is_what_the_labels_mean_and_back_is_the_identity(
    made: tuple[Family, tuple[Line, ...], dict[str, int]], dtype: str, seed: int
) -> None:
    family, found, sizes = made
    stored: tuple[Arrays, Arrays] = ({}, {})
    for number, line in enumerate(found):
        shape = tuple(sizes[label.rstrip("'")] for label in line.labels)
        whole = random_bits(dtype, shape, seed + number)
        for arrays, side, prefix in zip(stored, line.sides, ("x.", "y."), strict=True):
            arrays |= {prefix + name: value for name, value in side.tensors(line.labels, whole, sizes).items()}
    there = converted(family, stored[0], "a", "b", sizes)
    assert_same(there, stored[1])
    assert_same(converted(family, there, "b", "a", sizes), stored[0])


@given(tables())
def test_a_table_has_a_version_that_its_cells_decide(made: tuple[Family, tuple[Line, ...], dict[str, int]]) -> None:
    family, found, _ = made
    again = Family("random", family.dialects, family.groups, family.labels)
    assert again.version == family.version
    more = row(a="zz : hidden", b="zz : hidden")
    other = Family("random", family.dialects, (*family.groups, group("more", more)), family.labels)
    assert other.version != family.version
    assert len(found) == len(list(family.rows()))


NAMES = st.lists(
    st.sampled_from(["w", "x", "1", "0", ".", "{layer}", "{p[w x]}", "{t*}", "{p[1 11]}"]), min_size=1, max_size=5
).map("".join)


def parsed(text: str) -> Cell | None:
    """The cell, or None if it is none."""
    try:
        return Cell.parse(text)
    except TableError:
        return None


def names_of(cell: Cell) -> set[str]:
    """A good many of the names that a cell matches."""
    values = {"digits": ("0", "1", "10", "11", "110"), "free": ("w", "x", "1", "wx", "11")}
    fields = cell.fields
    spans = [field.words if field.kind == "words" else values[field.kind] for field in fields]
    return {cell.template.fill(dict(zip((f.name for f in fields), at, strict=True))) for at in product(*spans)}


def build(one: Cell, two: Cell) -> Group:
    """A family of the two as different rows, which fails if a name can be both."""
    text = [f"{cell.template.parts and _spell(cell)}" for cell in (one, two)]
    made = group("g", row(a=text[0], b="b0"), row(a=text[1], b="b1"), required=True)
    Family("f", (Dialect("a", "numpy", (scope(),)), Dialect("b", "numpy", (scope(),))), (made,), {})
    return made


def _spell(cell: Cell) -> str:
    shown = {"digits": "{{{0.name}}}", "free": "{{{0.name}*}}", "words": "{{{0.name}[{1}]}}"}
    return "".join(
        part if isinstance(part, str) else shown[part.kind].format(part, " ".join(part.words))
        for part in cell.template.parts
    )


@settings(max_examples=400)
@given(NAMES, NAMES)
def test_rows_that_share_a_name_are_refused(first: str, second: str) -> None:
    one, two = parsed(first), parsed(second)
    assume(one is not None and two is not None)
    assert one is not None
    assert two is not None
    shared = {n for n in names_of(one) if two.match(n)} | {n for n in names_of(two) if one.match(n)}
    try:
        build(one, two)
    except TableError as error:
        why = str(error)
    else:
        assert not shared
        return
    assert "matches both" in why or "2 rows go by this name" in why


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("layer.{layer}.w", "layer.{layer}.b"),
        ("layer.{layer}.w", "layer.x.w"),
        ("l{p[q k]}", "l{r[v o]}"),
        ("a/{t*}", "b/{t*}"),
        ("{t*}.w", "w"),
        ("{layer}.w", "{t*}.b"),
    ],
)
def test_rows_that_share_none_are_not(one: str, two: str) -> None:
    cells = parsed(one), parsed(two)
    assert cells[0] is not None
    assert cells[1] is not None
    build(*cells)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("layer.{layer}.w", "layer.0.w"),
        ("l{p[q k]}", "l{p[k o]}"),
        ("a/{t*}", "a/b"),
        ("{layer}.w", "{t*}.w"),
        ("w", "w"),
        ("{layer}", "{number}"),
        ("{layer}", "1{layer}"),
    ],
)
def test_rows_that_share_one_are(one: str, two: str) -> None:
    cells = parsed(one), parsed(two)
    assert cells[0] is not None
    assert cells[1] is not None
    with pytest.raises(TableError, match="matches both"):
        build(*cells)  # type: ignore[arg-type]
