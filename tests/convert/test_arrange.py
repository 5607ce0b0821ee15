"""Arranged storages: boxes of them, and their bytes in pieces, against numpy on the whole."""

from __future__ import annotations

from functools import partial
from itertools import product
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from porting.checkpoint import pieces as pieces_module
from porting.checkpoint import strided
from porting.checkpoint.dtypes import from_numpy
from porting.checkpoint.pieces import storage_pieces
from porting.checkpoint.storage import InMemory, Mapped, MappedFile
from porting.checkpoint.tiles import copy, pack
from porting.convert import arrange
from porting.convert.arrange import Arranged, Part

Array = np.ndarray[Any, np.dtype[Any]]
DTYPES = [np.uint8, np.float16, np.float32, np.float64, np.complex128]


def numbered(shape: tuple[int, ...], dtype: type) -> Array:
    """Random bits, so that no element stands for another."""
    width = np.dtype(dtype).itemsize
    raw = np.random.default_rng(prod(shape)).integers(0, 256, (*shape, width), np.uint8)
    return np.ascontiguousarray(raw).view(dtype).reshape(shape)


def same(one: Array, two: Array) -> bool:
    return one.shape == two.shape and np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(two).tobytes()


def mapped(values: Array, order: tuple[int, ...]) -> Mapped:
    """The array as a view of a file, in which its axes lie in this order."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "a")
        path.write_bytes(b"abc" + values.transpose(order).tobytes())
        file = MappedFile(path)
    stored = Mapped(file, 3, tuple(values.shape[axis] for axis in order), from_numpy(values.dtype))
    return stored.permuted([order.index(axis) for axis in range(values.ndim)])


@st.composite
def arranged(draw: st.DrawFn) -> tuple[Arranged, Array]:
    """A random arrangement and the array that it is: permuted, folded, split or stacked."""
    dims = tuple(draw(st.lists(st.integers(0, 5), min_size=1, max_size=4)))
    order = tuple(draw(st.permutations(range(len(dims)))))
    dtype = draw(st.sampled_from(DTYPES))
    full = numbered(dims, dtype)
    want = full.transpose(order)
    cut = draw(st.integers(0, want.ndim))
    folded = (*want.shape[:cut], prod(want.shape[cut:])) if cut < want.ndim else want.shape
    whole_dims = tuple(want.shape)
    axis = draw(st.integers(-1, len(dims) - 1))
    lying = draw(st.sampled_from([InMemory, lambda values: mapped(values, tuple(range(values.ndim))), None]))
    if axis < 0:
        stored = full.reshape(-1) if draw(st.booleans()) else full
        lying = lying or partial(mapped, order=tuple(draw(st.permutations(range(stored.ndim)))))
        index: tuple[int | None, ...] = (None,) * len(dims)
        part = Part(lying(stored), stored.shape, dims, index, order)
        return Arranged((part,), whole_dims, folded, (), from_numpy(full.dtype)), want.reshape(folded)
    assume(dims[axis] > 0)
    lying = lying or partial(mapped, order=tuple(draw(st.permutations(range(full.ndim)))))
    source = lying(full)
    left = [i for i in range(len(dims)) if i != axis]
    inner = tuple(left.index(i) for i in order if i != axis)
    if draw(st.booleans()):  # one of the parts for itself
        at = draw(st.integers(0, dims[axis] - 1))
        index = tuple(at if i == axis else None for i in range(len(dims)))
        shape = tuple(dims[i] for i in order if i != axis)
        one = Arranged((Part(source, full.shape, dims, index, inner),), shape, shape, (), from_numpy(full.dtype))
        return one, full.take(at, axis).transpose(inner)
    position = order.index(axis)
    parts = tuple(
        Part(source, full.shape, dims, tuple(n if i == axis else None for i in range(len(dims))), inner)
        for n in range(dims[axis])
    )
    return Arranged(parts, whole_dims, folded, (position,), from_numpy(full.dtype)), want.reshape(folded)


@given(arranged(), st.data())
def test_a_box_is_the_box_of_the_whole(made: tuple[Arranged, Array], data: st.DataObject) -> None:
    storage, want = made
    assert same(storage.read(), want)
    box = []
    for size in want.shape[: data.draw(st.integers(0, want.ndim))]:
        start = data.draw(st.integers(0, size))
        box.append(slice(start, data.draw(st.integers(start, size))))
    assert same(storage.read(tuple(box)), want[tuple(box)])


@given(arranged(), st.integers(1, 200), st.sampled_from([0, 1, 64, 1 << 20]), st.booleans())
def test_pieces_are_the_bytes_in_order(made: tuple[Arranged, Array], piece: int, held: int, compiled: bool) -> None:
    """Small pieces and a small limit of held bytes take small tensors along the way of large ones."""
    storage, want = made
    with pytest.MonkeyPatch.context() as patch:
        for module in (arrange, strided):
            patch.setattr(module, "HELD", held)
            patch.setattr(module, "LARGER", 2)
        patch.setattr(pieces_module, "HELD", held)
        if not compiled:
            patch.setattr(strided, "kernel", None)
        got = b"".join(part.tobytes() for part in storage_pieces(storage, want.shape, want.itemsize, piece))
    assert got == np.ascontiguousarray(want).tobytes()


def test_a_stack_of_transposed_parts_over_two_fields() -> None:
    full = numbered((2, 3, 7, 5), np.float32)
    parts = tuple(
        Part(InMemory(np.ascontiguousarray(full[i, j].T)), (5, 7), (5, 7), (None, None), (1, 0))
        for i, j in product(range(2), range(3))
    )
    storage = Arranged(parts, (2, 7, 3, 5), (2, 7, 15), (0, 2), from_numpy(full.dtype))
    want = full.transpose(0, 2, 1, 3).reshape(2, 7, 15)
    assert same(storage.read(), want)
    assert same(storage.read((slice(1, 2), slice(2, 5))), want[1:2, 2:5])
    assert b"".join(part.tobytes() for part in storage.pieces(16)) == np.ascontiguousarray(want).tobytes()


STRIDED = st.lists(
    st.tuples(st.one_of(st.integers(0, 6), st.sampled_from([255, 256, 257, 300])), st.sampled_from([1, 2, -1, -3])),
    min_size=0,
    max_size=4,
)


@settings(deadline=None)
@given(STRIDED, st.data(), st.sampled_from(DTYPES))
def test_copies_of_any_strides(axes: list[tuple[int, int]], data: st.DataObject, dtype: type) -> None:
    """Permuted, stepped and reversed views come out as numpy's own copy has them."""
    assume(prod(max(1, n * abs(step)) for n, step in axes) < 1 << 19)
    base = numbered(tuple(n * abs(step) for n, step in axes), dtype)
    view = base[tuple(slice(None, None, step) for _, step in axes)]
    view = view.transpose(data.draw(st.permutations(range(view.ndim))))
    assert pack(view).tobytes() == np.ascontiguousarray(view).tobytes()
    out = np.empty(view.nbytes + 16 * 16, np.uint8)
    assert pack(view, out).tobytes() == np.ascontiguousarray(view).tobytes()
    target = np.empty(view.shape, view.dtype)
    copy(target, view)
    assert target.tobytes() == np.ascontiguousarray(view).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(513, 259), (3, 260, 300), (260, 3, 300), (260, 300, 3), (1, 700, 1, 31)])
def test_tiles_with_edges(shape: tuple[int, ...], dtype: type) -> None:
    full = numbered(shape, dtype)
    for order in {
        tuple(reversed(range(len(shape)))),
        (*range(1, len(shape)), 0),
        (len(shape) - 1, *range(len(shape) - 1)),
    }:
        view = full.transpose(order)
        assert pack(view).tobytes() == np.ascontiguousarray(view).tobytes(), order
        target = np.empty(shape, dtype).transpose(order)
        copy(target, view)
        assert np.ascontiguousarray(target).tobytes() == np.ascontiguousarray(view).tobytes(), order


def test_bits_are_moved_not_values() -> None:
    """Signalling NaNs keep their payload."""
    bits = np.full((300, 300), 0x7F800001, np.uint32)
    bits[0, 1] = 0xFF812345
    assert np.frombuffer(pack(bits.view(np.float32).T), np.uint32).tolist() == bits.T.reshape(-1).tolist()
