"""npz against numpy itself, both ways, and the golden files."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.npz import FORMAT
from porting.checkpoint.registry import read
from porting.checkpoint.storage import Mapped
from porting.checkpoint.write import write
from porting.errors import FormatError, UsageError
from porting.testing.formats import FormatConformance, random_bits, same_bits

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*/*.npz"))

OWN = sorted(name for name in FORMAT.writes if DTYPES[name].numpy().isbuiltin == 1)


class TestNpz(FormatConformance):
    format = "npz"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_golden_files_equal_numpy(path):
    checkpoint = read(path)
    with np.load(path) as wanted:
        assert list(checkpoint) == wanted.files
        for name, array in wanted.items():
            if array.dtype.kind == "U":
                assert [text.decode() for text in checkpoint[name].read().reshape(-1)] == array.reshape(-1).tolist()
            else:
                assert same_bits(checkpoint[name].read(), array), name
    assert list(FORMAT.verify(checkpoint)) == []


def test_numpy_loads_what_is_written(tmp_path):
    arrays = {f"a/{name}": random_bits(name, (3, 5), i) for i, name in enumerate(OWN)}
    arrays |= {"scalar": np.float32(2.5), "empty": np.zeros((0, 4), np.int8), "Σ": np.arange(3)}
    write(tmp_path / "a.npz", arrays, format="npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as loaded:
        assert loaded.files == list(arrays)
        for name, array in arrays.items():
            assert same_bits(loaded[name], np.asarray(array)), name
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.testzip() is None


def test_headers_equal_those_of_numpy(tmp_path):
    for shape in ((), (3,), (3, 4), (1, 2, 3, 4, 5, 6)):
        for name in ("float32", "bool", "bfloat16", "complex128"):
            array = random_bits(name, shape)
            write(tmp_path / "a.npz", {"w": array}, format="npz", overwrite=True)
            wanted = io.BytesIO()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # numpy says that it loses the name of bfloat16
                np.save(wanted, array)
            with zipfile.ZipFile(tmp_path / "a.npz") as archive:
                assert archive.read("w.npy") == wanted.getvalue()


def test_types_that_numpy_has_not_keep_their_names_and_bits(tmp_path):
    array = np.array([1.5, -2, float("nan")], ml_dtypes.bfloat16)
    write(tmp_path / "a.npz", {"w": array}, format="npz")
    assert read(tmp_path / "a.npz")["w"].dtype.name == "bfloat16"
    with np.load(tmp_path / "a.npz") as loaded:
        assert same_bits(loaded["w"].view(ml_dtypes.bfloat16), array)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.getinfo("w.npy").comment == b"dtype=bfloat16"
    np.savez(tmp_path / "b.npz", w=array.view("V2"))
    with pytest.raises(FormatError, match=r"w\.npy: type '\|V2' is unknown"):
        read(tmp_path / "b.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_orders_and_byte_orders(tmp_path, save):
    base = np.arange(24.0).reshape(2, 3, 4)
    arrays = {
        "c": base,
        "f": np.asfortranarray(base),
        "big": base.astype(">f4"),
        "bigf": np.asfortranarray(base).astype(">c8"),
        "one": np.array(3, ">i2"),
        "large": np.asfortranarray(np.arange(400_000.0).reshape(400, 1000)),
    }
    save(tmp_path / "a.npz", **arrays)
    checkpoint = read(tmp_path / "a.npz")
    for name, array in arrays.items():
        native = array.astype(array.dtype.newbyteorder("="))
        assert np.array_equal(checkpoint[name].read(), native), name
        assert checkpoint[name].read().dtype == native.dtype
        if array.ndim:
            box = (slice(1, 2), slice(0, 2))
            assert np.array_equal(checkpoint[name].read(box), native[box]), name
    write(tmp_path / "b.npz", checkpoint.entries, format="npz")
    with np.load(tmp_path / "b.npz") as loaded:
        assert all(np.array_equal(loaded[name], array) for name, array in arrays.items())
    assert isinstance(checkpoint["c"].storage, Mapped) == (save is np.savez)


def test_header_versions_and_text(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for version in ((1, 0), (2, 0), (3, 0)):
            data = io.BytesIO()
            np.lib.format.write_array(data, np.arange(6).reshape(2, 3), version)
            archive.writestr(f"v{version[0]}.npy", data.getvalue())
        for name, array in {
            "s": np.array([b"a", b"bc"]),
            "u": np.array([["é", ""]]),
            "b": np.array(["x"], ">U3"),
        }.items():
            data = io.BytesIO()
            np.save(data, array)
            archive.writestr(f"{name}.npy", data.getvalue())
    checkpoint = read(tmp_path / "a.npz")
    assert all(checkpoint[f"v{i}"].read().tolist() == [[0, 1, 2], [3, 4, 5]] for i in (1, 2, 3))
    assert checkpoint["s"].read().tolist() == [b"a", b"bc"]
    assert checkpoint["u"].read().tolist() == [["é".encode(), b""]]
    assert checkpoint["b"].read().tolist() == [b"x"]


def npz(path: Path, header: str | bytes, data: bytes = b"", version: int = 1, method: int = zipfile.ZIP_STORED) -> Path:
    raw = header.encode() if isinstance(header, str) else header
    length = struct.pack("<H" if version == 1 else "<I", len(raw))
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("w.npy", b"\x93NUMPY" + bytes([version, 0]) + length + raw + data)
    return path


@pytest.mark.parametrize(
    ("descr", "shape", "problem"),
    [
        ("'|O'", "(1,)", "Python objects"),
        ("[('a', '<f4')]", "(1,)", "structured"),
        ("'<M8[s]'", "(1,)", "dates"),
        ("'<f3'", "(1,)", "unknown"),
        ("'<f16'", "(1,)", "unknown"),
        ("'|V2'", "(1,)", "unknown"),
        ("'<f4'", "(-1,)", "damaged"),
        ("'<f4'", "(1" + "0" * 30 + ",)", "beyond 64 bits"),
        ("'<f4'", "(" + "9999999999, " * 5 + ")", "larger than any memory"),
        ("'<f4'", "(" + "1, " * 40 + ")", "at most 32 axes"),
        ("'<f4'", "(0, " + "9999999999, " * 5 + ")", "larger than any memory"),
        ("'<f4'", "(2,)", "wanted 124 bytes"),
        ("'|S0'", "(9999999999,)", "texts"),
        ("'<f4'", "(__import__('os').system('true'),)", "damaged"),
        ("'<f4'", "(" * 200, "damaged"),
    ],
)
def test_headers_that_lie(tmp_path, descr, shape, problem):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(106) if problem == "wanted 124 bytes" else text
    with pytest.raises(FormatError, match=problem):
        read(npz(tmp_path / "a.npz", text, b"" if "S0" in descr else b"\0" * 4))


def test_files_that_lie(tmp_path):
    for header, version, problem in ((b"", 1, "damaged"), (b"{", 9, "version"), (b"x" * 70_000, 2, "at most 65536")):
        with pytest.raises(FormatError, match=problem):
            read(npz(tmp_path / "a.npz", header, version=version))
    np.savez(tmp_path / "o.npz", w=np.array([{}], object))
    with pytest.raises(FormatError, match="never run"):
        read(tmp_path / "o.npz")
    with zipfile.ZipFile(tmp_path / "p.npz", "w") as archive:
        archive.writestr("w.npy", pickle.dumps([1]))
    with pytest.raises(FormatError, match=r"not a \.npy file"):
        read(tmp_path / "p.npz")


def test_damaged_deflated_arrays(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", w=np.random.default_rng(0).normal(size=300_000))
    good = (tmp_path / "a.npz").read_bytes()
    for at in range(5000, len(good) - 500, 300_000):
        (tmp_path / "a.npz").write_bytes(good[:at] + bytes(b ^ 0x5A for b in good[at : at + 40]) + good[at + 40 :])
        checkpoint = read(tmp_path / "a.npz")
        try:
            checkpoint["w"].read()
        except FormatError as error:
            assert "w.npy" in str(error)  # noqa: PT017 - it may also inflate to other numbers; verify then says so
        assert len(list(FORMAT.verify(checkpoint))) == 1


def test_names_that_lead_elsewhere_and_options_are_refused(tmp_path):
    for name in ("../x", "a/../b", "/x", "a\0b"):
        with pytest.raises(UsageError, match="cannot hold the name"):
            write(tmp_path / "a.npz", {name: np.ones(1)}, format="npz")
    with pytest.raises(UsageError, match="one file"):
        write(tmp_path / "a.npz", {"w": np.ones(1)}, format="npz", shard_size=10)
    with pytest.raises(UsageError, match="w is string"):
        write(tmp_path / "a.npz", {"w": np.array(["a"])}, format="npz")
