"""A tensor's bytes in order, read or mapped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import porting
from porting.checkpoint.pieces import READ, storage_pieces
from porting.errors import FormatError

SMALLEST = READ // 64


def saved(path: Path, count: int) -> tuple[Any, np.ndarray[Any, Any]]:
    """The storage of a tensor of bytes in a file, and the bytes."""
    values = np.random.default_rng(count).integers(0, 256, count, np.uint8)
    porting.write(path, {"before": np.zeros(3, np.uint8), "w": values}, format="safetensors", overwrite=True)
    return porting.read(path)["w"].storage, values


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3 * READ + 5), st.integers(SMALLEST, 2 * READ), st.booleans())
def test_the_bytes_are_the_same_read_or_mapped(tmp_path_factory, count, piece, keep) -> None:
    storage, values = saved(tmp_path_factory.mktemp("pieces") / "a.safetensors", count)
    pieces = [part.copy() for part in storage_pieces(storage, (count,), 1, piece, keep=keep)]
    assert all(part.size <= piece for part in pieces)
    np.testing.assert_array_equal(np.concatenate(pieces), values)


def test_a_file_that_is_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    storage, values = saved(file, 3 * READ)
    pieces = storage_pieces(storage, (3 * READ,), 1)
    first = next(iter(pieces))
    np.testing.assert_array_equal(first, values[:READ])
    whole = file.stat().st_size
    os.truncate(file, whole - READ // 2)
    with pytest.raises(
        FormatError, match=rf"a\.safetensors: offset {whole - READ // 2}: wanted {READ // 2} more bytes"
    ):
        list(pieces)
