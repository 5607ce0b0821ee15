"""The first look at a zip file: no name may escape it, and nothing that a file claims may break it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import porting
from porting.checkpoint import zip_names as look
from porting.checkpoint.registry import locate
from porting.checkpoint.zip_names import zip_names


def zipped(path: Path, count: int, *, comment: bytes = b"") -> list[str]:
    names = [f"member {i} of {count}" for i in range(count)]
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)
        archive.comment = comment
    return names


@pytest.mark.parametrize("comment", [b"", b"PK", bytes(0xFFFF)])
@pytest.mark.parametrize("count", [1, 40, 3000])
def test_every_name_is_among_them(tmp_path, count: int, comment: bytes) -> None:
    """Few and many members, more than a tail of 64 KiB lists."""
    names = zipped(tmp_path / "a.zip", count, comment=comment)
    found = zip_names(tmp_path / "a.zip")
    assert [name for name in names if name.encode() not in found] == []


def test_those_of_torch_too(tmp_path) -> None:
    """Its end record is always that of zip64."""
    porting.write(tmp_path / "a.bin", {f"w{i}": np.zeros(i) for i in range(2000)}, format="torch")
    assert all(f"data/{i}".encode() in zip_names(tmp_path / "a.bin") for i in range(2000))


def test_of_a_file_that_is_cut_off_the_first_is(tmp_path) -> None:
    zipped(tmp_path / "a.zip", 200)
    data = (tmp_path / "a.zip").read_bytes()
    for length in (40, 200, len(data) // 2, len(data) - 30):
        (tmp_path / "cut.zip").write_bytes(data[:length])
        assert b"member 0" in zip_names(tmp_path / "cut.zip")


def test_of_others_there_is_none(tmp_path) -> None:
    (tmp_path / "text").write_bytes(b"no zip, whatever PK\x05\x06 stands in it")
    (tmp_path / "empty").touch()
    assert {zip_names(tmp_path / name) for name in ("text", "empty", "absent", ".")} == {b""}


def test_the_directory_is_looked_at_up_to_a_limit(tmp_path, monkeypatch) -> None:
    names = zipped(tmp_path / "a.zip", 3000)
    monkeypatch.setattr(look, "_LIMIT", 1000)
    found = zip_names(tmp_path / "a.zip")
    assert names[-1].encode() in found
    assert len(found) <= 1024 + 1000


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> bytes:
    """More than 65535 members, which takes the zip64 form."""
    path = tmp_path_factory.mktemp("many") / "a.zip"
    zipped(path, 66_000)
    return path.read_bytes()


def test_many_names_are_among_them(tmp_path, many: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(many)
    found = zip_names(tmp_path / "a.zip")
    assert all(f"member {i} of".encode() in found for i in range(0, 66_000, 97))


@given(back=st.integers(1, 120), other=st.binary(min_size=1, max_size=24))
def test_nothing_that_stands_at_the_end_breaks_it(tmp_path_factory, many: bytes, back: int, other: bytes) -> None:
    """Its last 120 bytes are the end record, the locator and the end record of zip64."""
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    path.write_bytes(many[:-back] + other + many[len(many) - back + len(other) :])
    assert b"member 0" in zip_names(path)


def test_formats_that_are_zip_files_do_not_load_each_other(tmp_path) -> None:
    """What is found is what it was before there was a look: an array called as another format's part is none of it."""
    porting.write(tmp_path / "a.npz", {"model.weights.h5": np.zeros(2), "x/data.pkl": np.zeros(2)}, format="npz")
    assert locate(tmp_path / "a.npz")[0].name == "npz"


@pytest.mark.parametrize(("form", "others"), [("npz", ("torch", "keras")), ("torch", ("npz", "keras"))])
def test_reading_one_does_not_load_the_others(tmp_path, form: str, others: tuple[str, ...]) -> None:
    path = porting.write(tmp_path / f"a.{form}", {"w": np.zeros(2)}, format=form)[0]
    code = f"import sys, porting; print(porting.read({str(path)!r}).format, *sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == form
    loaded = [name for name in said if name.startswith(tuple(f"porting.checkpoint.{other}." for other in others))]
    assert loaded == []
