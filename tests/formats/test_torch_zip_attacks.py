"""Archives that lie: every number of a zip file is held against the bytes that are there."""

from __future__ import annotations

import struct
import zipfile
import zlib

import numpy as np
import pytest

from porting.checkpoint.registry import read
from porting.checkpoint.write import write
from porting.checkpoint.zips.archive import open_archive
from porting.errors import FormatError


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "a.bin", {"a": np.arange(40.0), "b": np.ones(7, np.float32)}, format="torch")
    return tmp_path / "a.bin"


def central(data: bytes, name: bytes) -> int:
    """Offset of a member's entry in the central directory."""
    return data.rindex(name) - 46


def patched(path, at: int, form: str, value: object) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, at, value)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("field", "form", "value", "problem"),
    [
        (8, "<H", 0x0809, "encrypted"),
        (10, "<H", 8, "something else than the directory"),
        (10, "<H", 99, "compression method 99"),
        (20, "<I", 5000, "cannot hold"),
        (24, "<I", 1, "cannot hold"),
        (24, "<I", 0xFFFFFFFF, "zip64 field is cut off"),
        (34, "<H", 3, "on another disk"),
        (42, "<I", 0, "something else than the directory"),
        (42, "<I", 0xFFFFFFF0, "wanted 30 bytes at offset 4294967280"),
        (28, "<H", 5000, "damaged"),
    ],
)
def test_directory_entries_that_lie(path, field, form, value, problem):
    patched(path, central(path.read_bytes(), b"archive/data/1") + field, form, value)
    with pytest.raises(FormatError, match=problem):
        read(path)


def test_records_of_another_length_than_the_pickle_says(path):
    at = central(path.read_bytes(), b"archive/data/1")
    patched(path, at + 20, "<I", 24)
    patched(path, at + 24, "<I", 24)
    with pytest.raises(FormatError, match="archive/data/1: wanted a record of 28 bytes, got 24"):
        read(path)


def test_overlapping_records(path):
    at = central(path.read_bytes(), b"archive/data/0")
    patched(path, at + 20, "<I", 900)
    patched(path, at + 24, "<I", 900)
    with pytest.raises(FormatError, match="archive/data/0: overlaps archive/data/1"):
        read(path)


def test_ends_that_lie(path):
    good = path.read_bytes()
    for cut in (1, 20, 60, len(good) // 2, len(good) - 60):
        path.write_bytes(good[:-cut])
        with pytest.raises(FormatError, match="end record"):
            read(path)
    for at, form, value in ((-12, "<H", 999), (-98 + 32, "<Q", 1 << 40), (-98 + 40, "<Q", 1 << 62), (-42 + 8, "<Q", 3)):
        path.write_bytes(good)
        patched(path, len(good) + at, form, value)
        with pytest.raises(FormatError, match=r"end record|zip64|central directory"):
            open_archive(path)


@pytest.mark.parametrize("name", ["../data.pkl", "/etc/data.pkl", "a/../../data.pkl", "a\\..\\data.pkl"])
def test_names_that_lead_elsewhere(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr(name, b"")
    with pytest.raises(FormatError, match="leads elsewhere"):
        read(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("a/data.pkl", b"x")
    with pytest.raises(FormatError, match="occurs twice"):
        read(tmp_path / "a.pt")


def test_bombs(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(80 << 20))
    with pytest.raises(FormatError, match="a zip bomb"):
        read(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/data.pkl", bytes(1000))
    data = (tmp_path / "b.pt").read_bytes()
    patched(tmp_path / "b.pt", central(data, b"b/data.pkl") + 24, "<I", 900)
    with pytest.raises(FormatError, match="wanted 900 unpacked bytes, got more"):
        read(tmp_path / "b.pt")


def test_a_member_that_goes_on_behind_its_stream(tmp_path):
    engine = zlib.compressobj(wbits=-15)
    body = engine.compress(b"x" * 50) + engine.flush()
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"x" * 50)
    data = (tmp_path / "a.pt").read_bytes()
    assert body in data
    (tmp_path / "a.pt").write_bytes(data.replace(body, bytes(len(body))))
    with pytest.raises(FormatError, match=r"a/data\.pkl"):
        read(tmp_path / "a.pt")


def test_a_later_shard_without_a_pickle(tmp_path):
    """Only the first shard decides the format; the others are opened because the index names them."""
    tensors = {name: np.full(40, 1.0) for name in "abc"}
    *_, last, index = write(tmp_path / "m.bin", tensors, format="torch", shard_size=400)
    with zipfile.ZipFile(last, "w") as archive:
        archive.writestr("archive/other", b"x")
    with pytest.raises(FormatError, match=r"m-00003-of-00003\.bin: is no PyTorch checkpoint: .* no data\.pkl"):
        read(index)
