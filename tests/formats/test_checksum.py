"""Checksums are those of their definitions, whatever holds the bytes."""

from __future__ import annotations

import zlib
from functools import reduce
from operator import xor
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from porting.checkpoint import checksum
from porting.checkpoint.checksum import combine_crc32, crc32, crc32c, extend_crc32_by_zeros
from porting.checkpoint.storage import MappedFile


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_crc32_is_zlibs(one: bytes, two: bytes) -> None:
    both = zlib.crc32(one + two)
    assert crc32(two, crc32(one)) == both
    assert crc32(memoryview(bytearray(one + two))) == both
    assert combine_crc32(crc32(one), crc32(two), len(two)) == both


@given(st.binary(max_size=300), st.integers(0, 1 << 16))
def test_zeros_behind(data: bytes, count: int) -> None:
    assert extend_crc32_by_zeros(crc32(data), count) == zlib.crc32(data + bytes(count))


@pytest.mark.parametrize("count", [1, 1000, 2**31, 2**32 - 1, 2**32, 2**62, 2**63, 2**64 - 1])
def test_more_zeros_than_any_memory_holds(count: int) -> None:
    assert extend_crc32_by_zeros(crc32(b"port"), count) == by_definition(crc32(b"port"), count)


def by_definition(crc: int, count: int) -> int:
    """A zero is eight steps of the shift register, which is linear: a matrix, whose square does it twice."""
    state, zero = crc ^ 0xFFFFFFFF, [shifted(1 << bit) for bit in range(32)]
    while count:
        if count & 1:
            state = applied(zero, state)
        zero = [applied(zero, column) for column in zero]
        count >>= 1
    return state ^ 0xFFFFFFFF


def shifted(state: int) -> int:
    for _ in range(8):
        state = state >> 1 ^ (0xEDB88320 if state & 1 else 0)
    return state


def applied(matrix: list[int], state: int) -> int:
    return reduce(xor, (column for bit, column in enumerate(matrix) if state >> bit & 1), 0)


@pytest.mark.parametrize("count", [0, 1, checksum._SHORT, checksum._SHORT + 1, 3 * checksum._SHORT])
def test_crc32c_of_bytes_of_a_buffer_and_of_a_mapped_file(tmp_path: Path, count: int) -> None:
    data = bytes(range(256)) * (count // 256 + 1)
    (tmp_path / "a").write_bytes(data)
    mapped = MappedFile(tmp_path / "a").bytes(0, count, "all")
    want = google_crc32c.value(data[:count])
    assert [crc32c(data[:count]), crc32c(memoryview(bytearray(data[:count]))), crc32c(mapped)] == [want] * 3
    assert crc32c(mapped[count // 2 :], crc32c(mapped[: count // 2])) == want
