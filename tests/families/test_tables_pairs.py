"""Every family between every two of its dialects, against tensors laid out by labels without the engine."""

from itertools import permutations, product
from math import prod

import numpy as np
import pytest

from porting.checkpoint.registry import read
from porting.convert.convert import convert
from porting.convert.notation import size_label
from porting.convert.registry import families
from porting.errors import MismatchError

PAIRS = [
    (family.name, one.name, two.name) for family in families().values() for one, two in permutations(family.dialects, 2)
]
SIZES = {"layer": 3, "hidden": 8, "inner": 12, "vocab": 30, "positions": 10, "head": 2, "d": 5}
SQUARE = dict.fromkeys(SIZES, 3)  # as many layers as before
HEADS = {"token_types": 1, "labels": 4, "relation": 2, "span": 2, "segment": 2, "features": 16, "fit": 6, "proj": 3}


def sized(label, sizes):
    return {**HEADS, **sizes}[size_label(label)]


def members(cell):
    """Fields that stand for an axis, with their number of values where the words tell it."""
    return {part.name: len(part.words) for part in cell.fields if part.kind != "free"}


def rows_of(family):
    """Rows of groups that may stand side by side, without copies and buffers."""
    return [
        (member, line)
        for member, line in family.rows()
        if member.shares is None and line.tie is None and not line.optional
    ]


def axes_of(line, sizes):
    """Labels of the parameter as a whole, with their sizes: those of its cells' axes and of their fields."""
    axes = {}
    for forms in line.cells.values():
        cell = forms[0].cell
        axes |= {label: sized(label, sizes) for label in cell.labels}
        axes |= {name: count or sized(name, sizes) for name, count in members(cell).items()}
    return axes


def names_of(family, line, member, dialect):
    """The names of a row's tensors in a dialect, under its first scope."""
    if dialect not in line.cells:
        return []
    scope = family.dialect(dialect).scopes[0]
    axes = axes_of(line, SIZES)
    whole = np.zeros(tuple(axes.values()), np.float32)
    return [scope.prefix(member.at) + name for name, _ in tensors(line.cells[dialect][0].cell, axes, whole, scope)]


def laid_out(family, dialect, sizes, seed=0):
    """A checkpoint in one dialect: names to arrays, the same numbers whichever dialect."""
    scope = family.dialect(dialect).scopes[0]
    random = np.random.default_rng(seed)
    arrays = {}
    for member, line in rows_of(family):
        axes = axes_of(line, sizes)
        whole = random.normal(size=tuple(axes.values())).astype(np.float32)
        if line.zeros:
            whole[:] = 0
        if dialect in line.cells:
            cell = line.cells[dialect][0].cell
            arrays |= {scope.prefix(member.at) + name: array for name, array in tensors(cell, axes, whole, scope)}
    return arrays


def tensors(cell, axes, whole, scope):
    labels = list(axes)
    fields = [part for part in cell.fields if part.kind != "free"]
    for values in product(*(range(axes[part.name]) for part in fields)):
        at = dict(zip([part.name for part in fields], values, strict=True))
        left = [label for label in labels if label not in at]
        array = whole[tuple(at.get(label, slice(None)) for label in labels)]
        array = array.transpose([left.index(label) for label in cell.labels])
        shape = [prod(axes[label] for label in axis) for axis in cell.axes]
        words = {part.name: part.words[at[part.name]] if part.words else str(at[part.name]) for part in fields}
        yield cell.template.fill({**scope.variables, **words}), np.ascontiguousarray(array).reshape(shape)


@pytest.mark.parametrize("sizes", [SIZES, SQUARE], ids=["sizes", "square"])
@pytest.mark.parametrize(("name", "one", "two"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_between_two_dialects(tmp_path, name, one, two, sizes):
    family = families()[name]
    np.savez(tmp_path / "source.npz", **laid_out(family, one, sizes))
    convert(
        tmp_path / "source.npz",
        tmp_path / "target.npz",
        to=two,
        format="npz",
        family=name,
        source_dialect=one,
        variables=dict(family.dialect(two).scopes[0].variables),
    )
    both = {member.name for member, line in rows_of(family) if {one, two} <= set(line.cells)}
    there = {
        name for member, line in rows_of(family) if member.name in both for name in names_of(family, line, member, two)
    }
    wanted = {key: array for key, array in laid_out(family, two, sizes).items() if key in there}
    found = {key: entry.read() for key, entry in read(tmp_path / "target.npz").items()}
    copies = set(found) - set(wanted)
    assert not copies or family.dialect(two).stores_ties
    for key, array in wanted.items():
        assert found[key].shape == array.shape
        assert np.array_equal(found[key], array)


@pytest.mark.parametrize(("name", "dialect"), [(f.name, d.name) for f in families().values() for d in f.dialects])
def test_any_tensor_that_is_missing_is_missed_by_name(tmp_path, name, dialect):
    family = families()[name]
    arrays = laid_out(family, dialect, SIZES)
    other = next(d.name for d in family.dialects if d.name != dialect)
    for member, line in rows_of(family):
        others = [row for group, row in rows_of(family) if group is member and dialect in row.cells and row is not line]
        if dialect not in line.cells or not others:
            continue
        gone = names_of(family, line, member, dialect)[-1]
        np.savez(tmp_path / "source.npz", **{key: array for key, array in arrays.items() if key != gone})
        with pytest.raises(MismatchError) as caught:
            convert(
                tmp_path / "source.npz", tmp_path / "t.npz", to=other, format="npz", family=name, source_dialect=dialect
            )
        assert gone in str(caught.value)
        assert not (tmp_path / "t.npz").exists()
