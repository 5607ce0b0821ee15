"""A tensor's bytes in order, read or mapped."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import porting
from porting.checkpoint import scratch as scratch_module
from porting.checkpoint.output import WRITE, put
from porting.checkpoint.pieces import READ, storage_pieces
from porting.checkpoint.scratch import LARGEST, NEAR, PAGE, SPARES, USUAL, Scratch
from porting.checkpoint.storage import Permuted
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
    pieces = [bytes(part) for part in storage_pieces(storage, (count,), 1, piece, keep=keep)]
    assert all(len(part) <= piece for part in pieces)
    assert b"".join(pieces) == values.tobytes()


def test_a_file_that_is_cut_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    storage, values = saved(file, 3 * READ)
    pieces = storage_pieces(storage, (3 * READ,), 1)
    first = next(iter(pieces))
    assert first == values[:READ].tobytes()
    whole = file.stat().st_size
    os.truncate(file, whole - READ // 2)
    with pytest.raises(
        FormatError, match=rf"a\.safetensors: offset {whole - READ // 2}: wanted {READ // 2} more bytes"
    ):
        list(pieces)


def test_a_file_that_is_cut_while_it_is_transposed_is_an_error(tmp_path: Path) -> None:
    """Between two pieces: within one, nobody can tell."""
    values = np.arange(1 << 20, dtype=np.float32).reshape(2048, 512)
    porting.write(tmp_path / "a.npz", {"w": values}, format="npz")
    storage = Permuted(porting.read(tmp_path / "a.npz")["w"].storage, values.shape, (1, 0))
    pieces = storage_pieces(storage, (512, 2048), 4, 1 << 20)
    first = bytes(next(iter(pieces)))
    assert first == np.ascontiguousarray(values.T).tobytes()[: len(first)]
    os.truncate(tmp_path / "a.npz", 1 << 20)
    with pytest.raises(FormatError, match=rf"a\.npz: .*: wanted 4194304 bytes .*, the file was cut and has {1 << 20}$"):
        list(pieces)


@given(st.integers(0, 1 << 40), st.none() | st.integers(0, 1 << 40), st.lists(st.integers(1, 5 * PAGE), min_size=1))
def test_a_buffer_lies_in_its_page_as_its_bytes_will_in_the_file(at: int, source: int | None, sizes: list[int]) -> None:
    """And never a little above where they are read from, modulo a page; what is taken is writable and as long."""
    scratch = Scratch()
    for size in sizes:
        buffer = scratch.take(size, at, source)
        buffer[:] = bytes([7]) * size
        address = np.frombuffer(buffer, np.uint8).ctypes.data
        assert len(buffer) == size
        assert (address - at) % 64 == 0
        assert source is not None or (address - at) % PAGE == 0
        assert source is None or not 0 < (address - source) % PAGE < NEAR
        at, source = at + size, None if source is None else source + size


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 3 * WRITE), st.integers(1, 3 * WRITE))
def test_writes_end_at_multiples_of_their_size(tmp_path_factory, offset: int, count: int) -> None:
    values = np.random.default_rng(count).integers(0, 256, count, np.uint8)
    path = tmp_path_factory.mktemp("put") / "f"
    calls: list[tuple[int, int]] = []

    def pwrite(fd: int, data: memoryview, at: int) -> int:
        calls.append((at, len(data)))
        return real(fd, data, at)

    real = os.pwrite
    with path.open("wb") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        put(file.fileno(), offset, values)
    assert path.read_bytes() == bytes(offset) + values.tobytes()
    assert all((at + size) % WRITE == 0 for at, size in calls[:-1])
    assert all(0 < size <= WRITE for _, size in calls)


def test_a_buffer_serves_the_next_tensor_and_never_two_at_a_time() -> None:
    with Scratch() as first, Scratch() as second:
        one, two = first.take(PAGE, 0), second.take(PAGE, 0)
        one[:], two[:] = b"1" * PAGE, b"2" * PAGE
        assert bytes(one) == b"1" * PAGE
    with Scratch() as again:
        assert bytes(again.take(PAGE, 0)) in (b"1" * PAGE, b"2" * PAGE)
        assert len(again.take(USUAL, 0)) == USUAL


def test_more_spares_than_are_kept() -> None:
    scratches = [Scratch() for _ in range(2 * SPARES)]
    for scratch in scratches:
        with scratch:
            scratch.take(1, 0)
    assert 0 < len(Scratch.spares) <= SPARES


def test_a_buffer_that_is_too_long_is_not_kept() -> None:
    Scratch.spares.clear()
    with Scratch() as scratch:
        scratch.take(LARGEST + 1, 0)
    assert Scratch.spares == []


def test_no_memory_is_no_fault_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_words: object, **_names: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    Scratch.spares.clear()
    monkeypatch.setattr(scratch_module.mmap, "mmap", full)
    with pytest.raises(MemoryError, match=r"no room for \d+ bytes"):
        Scratch().take(100, 0)
