"""The first look at a zip file: it may not hide from a format what the format itself would have taken."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import porting
from porting.checkpoint import keras, npz, torch, zip_names
from porting.checkpoint.keras import zip_file as keras_zip
from porting.checkpoint.npz import files as npz_files
from porting.checkpoint.torch import zip_file as torch_zip
from porting.checkpoint.zip_names import zip_may_name
from porting.errors import FormatError

ALL = {
    "keras": (keras.ZIP.locate, keras_zip.locate),
    "torch": (torch.FORMAT.locate, torch_zip.locate),
    "npz": (npz.FORMAT.locate, npz_files.locate),
}
"""What each format says behind its look, and without it."""


def archive(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name in names:
            made.writestr(name, b"0123456789")
    return out.getvalue()


KINDS = {
    "keras": archive("config.json", *(f"a{i}" for i in range(40)), "model.weights.h5"),
    "torch": archive("m/version", *(f"m/data/{i}" for i in range(40)), "m/data.pkl"),
    "npz": archive("w.npy", "v.npy"),
    "long npz": archive("L" * 1200 + ".npy", "v.npy"),
    "long torch": archive("L" * 1200 + "/data.pkl", "v.npy"),
    "folder first": archive("m/", "m/data.pkl"),
    "other": archive("readme.txt"),
    "text": b"PK, and then .npy, data.pkl and model.weights.h5",
}
CUTS = (1, 3, 20, 29, 30, 34, 38, 60, 1300)


def commented(data: bytes, comment: bytes) -> bytes:
    return data[:-2] + struct.pack("<H", len(comment)) + comment


def wide(data: bytes, *, where: int | None = None) -> bytes:
    """The same with its numbers in the records of zip64 alone; where: what the locator says of them."""
    end = len(data) - 22
    *_, count, size, start, _ = struct.unpack("<4s4H2IH", data[end:])
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end if where is None else where, 1)
    return (
        data[:end] + record + locator + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, *[0xFFFFFFFF] * 2, 0)
    )


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "whole": lambda data: data,
    "zip64": wide,
    "zip64, a wrong locator": lambda data: wide(data, where=1 << 63),
    "zip64 behind something": lambda data: b"PK, no archive yet" + bytes(5000) + wide(data),
    "behind something": lambda data: b"PK, no archive yet" + data,
    "behind another archive": lambda data: KINDS["other"] + data,
    "the longest comment": lambda data: commented(data, bytes(0xFFFF)),
    "zip64, the longest comment": lambda data: commented(wide(data), bytes(0xFFFF)),
    "a comment like an end": lambda data: commented(data, b"PK\5\6"),
    "a comment like an end record": lambda data: commented(data, b"PK\5\6" + bytes(30)),
    "bytes behind it": lambda data: data + bytes(10),
    "too many bytes behind it": lambda data: data + bytes(70_000),
    "no end record": lambda data: data[:-22],
    "a wrong length": lambda data: data[:-10] + b"\xff\xff\xff\x7f" + data[-6:],
    "a wrong offset": lambda data: data[:-6] + b"\xff\xff\xff\x7f" + data[-2:],
} | {f"cut to {length}": lambda data, length=length: data[:length] for length in CUTS}


def told(locate: Callable[[Path], Path | None], path: Path) -> Path | str | None:
    try:
        return locate(path)
    except FormatError as error:
        return str(error)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_format_says_the_same_behind_its_look(tmp_path, kind: str, change: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(CHANGES[change](KINDS[kind]))
    for looking, itself in ALL.values():
        assert told(looking, path) == told(itself, path)


def test_the_cases_are_found_and_not_found(tmp_path) -> None:
    """What was compared above is not nothing with nothing."""
    path, counts = tmp_path / "a", {name: [0, 0] for name in ALL}
    for data in KINDS.values():
        for change in CHANGES.values():
            path.write_bytes(change(data))
            for name, (looking, _) in ALL.items():
                counts[name][looking(path) is not None] += 1
    assert all(min(pair) >= 10 for pair in counts.values()), counts


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> bytes:
    """More than 65535 members, which takes the zip64 form; the one that is looked for is in the middle."""
    return archive(*(f"x{i}" for i in range(33_000)), "m/model.weights.h5", *(f"y{i}" for i in range(33_000)))


def test_of_many_members_none_is_overlooked(tmp_path, many: bytes, monkeypatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(many)
    assert zip_may_name(path, b"model.weights.h5")
    assert not zip_may_name(path, b"data.pkl")
    monkeypatch.setattr(zip_names, "_LIMIT", 1 << 20)
    assert zip_may_name(path, b"data.pkl")  # too many to look at: the format is asked itself


@given(back=st.integers(1, 120), other=st.binary(min_size=1, max_size=24))
def test_what_stands_at_the_end_may_be_anything(tmp_path_factory, back: int, other: bytes) -> None:
    """Its last 98 bytes are the end record, the locator and the end record of zip64."""
    path, data = tmp_path_factory.mktemp("zip") / "a", wide(KINDS["keras"])
    path.write_bytes(data[:-back] + other + data[len(data) - back + len(other) :])
    assert zip_may_name(path, b"config.json")  # the first
    assert keras_zip.locate(path) is None or zip_may_name(path, b"model.weights.h5")


def test_what_is_no_file_that_may_be_read_is_none(tmp_path, monkeypatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name in ("pipe", "empty", "zeros", "absent", "."):
        assert not zip_may_name(tmp_path / name, b"")

    def refused(self: Path, *_: object) -> None:
        raise PermissionError

    (tmp_path / "a").write_bytes(KINDS["npz"])
    monkeypatch.setattr(Path, "open", refused)
    assert not zip_may_name(tmp_path / "a", b".npy")


@pytest.mark.parametrize(("form", "others"), [("npz", ("torch", "keras")), ("torch", ("npz", "keras"))])
def test_reading_one_does_not_load_the_others(tmp_path, form: str, others: tuple[str, ...]) -> None:
    path = porting.write(tmp_path / f"a.{form}", {"w": np.zeros(2)}, format=form)[0]
    code = f"import sys, porting; print(porting.read({str(path)!r}).format, *sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == form
    loaded = [name for name in said if name.startswith(tuple(f"porting.checkpoint.{other}." for other in others))]
    assert loaded == []
