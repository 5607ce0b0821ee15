"""Checksums are those of their definitions, whatever holds the bytes."""

from __future__ import annotations

import zlib
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


def test_more_zeros_than_any_memory_holds() -> None:
    """Twice 2^62 of them are 2^63: appending is associative."""
    half = extend_crc32_by_zeros(crc32(b"port"), 1 << 61)
    assert extend_crc32_by_zeros(half, 1 << 61) == extend_crc32_by_zeros(crc32(b"port"), 1 << 62)


@pytest.mark.parametrize("count", [0, 1, checksum._SHORT, checksum._SHORT + 1])
def test_crc32c_of_bytes_of_a_buffer_and_of_a_mapped_file(tmp_path: Path, count: int) -> None:
    data = bytes(range(256)) * (count // 256 + 1)
    (tmp_path / "a").write_bytes(data)
    mapped = MappedFile(tmp_path / "a").bytes(0, count, "all")
    want = google_crc32c.value(data[:count])
    assert [crc32c(data[:count]), crc32c(memoryview(bytearray(data[:count]))), crc32c(mapped)] == [want] * 3
    assert crc32c(mapped[count // 2 :], crc32c(mapped[: count // 2])) == want
