"""MindSpore .ckpt: the format's conformance, mindspore both ways and to the byte, golden files."""

from __future__ import annotations

import os
import stat
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.format import TensorSpec, WriteOptions
from porting.checkpoint.mindspore import FORMAT
from porting.checkpoint.mindspore.ckpt import layout
from porting.checkpoint.mindspore.records import record_head
from porting.checkpoint.output import Output
from porting.checkpoint.pieces import storage_pieces
from porting.checkpoint.registry import read
from porting.checkpoint.storage import Segments
from porting.checkpoint.stream import fill
from porting.checkpoint.write import as_entry, spec_of, write
from porting.errors import FormatError, UsageError
from porting.testing.formats import FormatConformance, random_bits, same_bits

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "tinybert_c1").glob("*.ckpt"))
NUMERIC = sorted(FORMAT.writes - {"string"})
MS_NAMES = {"bool": "bool_", "int4": "qint4x2"}


class TestMindSporeCkpt(FormatConformance):
    format = "mindspore-ckpt"


@pytest.fixture(scope="module")
def mindspore():
    return pytest.importorskip("mindspore")


def ms_tensor(mindspore, array: np.ndarray[Any, Any]):
    """The same bits as a mindspore.Tensor."""
    name = array.dtype.name
    dtype = getattr(mindspore.common.dtype, MS_NAMES.get(name, name))
    if name == "bfloat16":
        from mindspore.common import np_dtype

        return mindspore.Tensor(array.view(np.uint16).view(np_dtype.bfloat16), dtype=dtype)
    carrier = array.view(np.int8) if name == "int4" else array
    return mindspore.Tensor(carrier, dtype=dtype)


def save(mindspore, path: Path, arrays: dict[str, np.ndarray[Any, Any]], **options: Any) -> Path:
    tensors = [{"name": name, "data": ms_tensor(mindspore, array)} for name, array in arrays.items()]
    mindspore.save_checkpoint(tensors, str(path), **options)
    return path


def some_of_every_dtype() -> dict[str, np.ndarray[Any, Any]]:
    arrays = {f"t.{name}": random_bits(name, (3, 5), i) for i, name in enumerate(NUMERIC)}
    return arrays | {f"scalar.{name}": random_bits(name, (), i) for i, name in enumerate(NUMERIC)}


@pytest.mark.mindspore
@pytest.mark.parametrize("crc", [False, True])
def test_byte_identical_to_mindspore(tmp_path: Path, mindspore, *, crc: bool) -> None:
    arrays = some_of_every_dtype() | {"Σ.weight": random_bits("float32", (300, 7))}
    save(mindspore, tmp_path / "theirs.ckpt", arrays, crc_check=crc)
    write(tmp_path / "ours.ckpt", arrays, format="mindspore-ckpt", extra={"crc": crc})
    assert (tmp_path / "ours.ckpt").read_bytes() == (tmp_path / "theirs.ckpt").read_bytes()


@pytest.mark.mindspore
def test_mindspore_loads_ours(tmp_path: Path, mindspore) -> None:
    arrays = some_of_every_dtype() | {"empty": np.zeros((0, 3), np.float32)}
    write(tmp_path / "ours.ckpt", arrays, format="mindspore-ckpt", extra={"crc": True})
    loaded = mindspore.load_checkpoint(str(tmp_path / "ours.ckpt"), crc_check=True)
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        assert tuple(loaded[name].shape) == array.shape
        assert loaded[name].asnumpy().tobytes() == array.tobytes(), name


@pytest.mark.mindspore
def test_append_dict_becomes_parameters_and_strings(tmp_path: Path, mindspore) -> None:
    extra = {"epoch_num": 3, "lr": 0.5, "flag": True, "note": "héllo \U0001f600", "none": ""}
    path = save(mindspore, tmp_path / "theirs.ckpt", {"w": np.ones(2, np.float32)}, append_dict=extra, crc_check=True)
    checkpoint = read(path)
    assert {name: checkpoint[name].read().item() for name in extra} == {
        **extra,
        "note": extra["note"].encode(),
        "none": b"",
    }
    assert checkpoint.metadata == {"append_dict": ["epoch_num", "note", "none"]}
    write(tmp_path / "ours.ckpt", checkpoint, format="mindspore-ckpt", extra={"crc": True})
    assert (tmp_path / "ours.ckpt").read_bytes() == path.read_bytes()


@pytest.mark.mindspore
@pytest.mark.parametrize("mode", ["AES-GCM", "AES-CBC", "SM4-CBC"])
def test_an_encrypted_file_is_refused_with_the_reason(tmp_path: Path, mindspore, mode: str) -> None:
    key = b"0123456789abcdef"
    path = save(mindspore, tmp_path / "m.ckpt", {"w": np.ones(2, np.float32)}, enc_key=key, enc_mode=mode)
    with pytest.raises(FormatError, match=rf"is encrypted \({mode}\)"):
        read(path)


@pytest.mark.mindspore
def test_what_mindspore_saves_and_cannot_load_is_read(tmp_path: Path, mindspore) -> None:
    path = save(mindspore, tmp_path / "m.ckpt", {"c": random_bits("complex64", (3,))})
    assert same_bits(read(path)["c"].read(), random_bits("complex64", (3,)))
    with pytest.raises(UsageError, match="cannot hold: c is complex64"):
        write(tmp_path / "n.ckpt", read(path), format="mindspore-ckpt")


def sliced(path: Path, arrays: dict[str, np.ndarray[Any, Any]], limit: int, *, crc: bool = False) -> Path:
    """A checkpoint with records of at most `limit` bytes."""
    entries = {name: as_entry(name, array) for name, array in arrays.items()}
    plan = layout([spec_of(entry) for entry in entries.values()], WriteOptions(path, extra={"crc": crc}), limit)

    def pieces(entry: TensorEntry):
        return lambda at: storage_pieces(entry.storage, entry.shape, entry.dtype.itemsize, 100, at=at)

    with Output(path.parent, plan.files) as output:
        fill(output, plan, {name: pieces(entries[name]) for name in plan.extents})
        output.commit()
    return path


@pytest.mark.parametrize("limit", [7, 64, 1000, 4096])
def test_slices_are_one_tensor(tmp_path: Path, limit: int) -> None:
    arrays = {"a": random_bits("float32", (25, 6)), "b": random_bits("int8", (3,)), "c": random_bits("float64", (11,))}
    checkpoint = read(sliced(tmp_path / "m.ckpt", arrays, limit, crc=True))
    assert isinstance(checkpoint["a"].storage, Segments) == (limit < 600)
    for name, array in arrays.items():
        assert same_bits(checkpoint[name].read(), array)
        assert same_bits(np.ascontiguousarray(checkpoint[name].read((slice(1, 3),))), array[1:3])
    assert list(FORMAT.verify(checkpoint)) == []


@pytest.mark.mindspore
def test_slices_are_written_as_mindspore_writes_them(tmp_path: Path, mindspore, monkeypatch) -> None:
    arrays = {
        "a": random_bits("float32", (500, 6)),
        "b": random_bits("int8", (3,)),
        "c": random_bits("float64", (300,)),
    }
    monkeypatch.setattr(mindspore.train.serialization, "SLICE_SIZE", 1)
    theirs = save(mindspore, tmp_path / "theirs.ckpt", arrays, crc_check=True)
    ours = sliced(tmp_path / "ours.ckpt", arrays, 1024, crc=True)
    assert ours.read_bytes() == theirs.read_bytes()
    loaded = mindspore.load_checkpoint(str(ours), crc_check=True)
    assert all(loaded[name].asnumpy().tobytes() == array.tobytes() for name, array in arrays.items())


def test_the_slices_of_large_tensors() -> None:
    spec = TensorSpec("w", (3 << 18, 500), as_entry("w", np.zeros(1, np.float32)).dtype)
    runs = layout([spec], WriteOptions(Path("m.ckpt")), 512 << 20).extents["w"]
    assert [run.nbytes for run in runs] == [512 << 20, 512 << 20, spec.nbytes - (1024 << 20)]
    assert FORMAT.plan([spec], WriteOptions(Path("m.ckpt"))).extents["w"] == runs
    heads = [len(record_head("w", "Float32", spec.shape, run.nbytes)) for run in runs]
    assert [b.offset - a.offset - a.nbytes for a, b in pairwise(runs)] == heads[1:]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_are_reproduced(tmp_path: Path, path: Path) -> None:
    checkpoint = read(path)
    assert checkpoint.format == "mindspore-ckpt"
    assert len(checkpoint) > 1
    write(tmp_path / "again.ckpt", checkpoint, format="mindspore-ckpt")
    assert (tmp_path / "again.ckpt").read_bytes() == path.read_bytes()


def test_there_are_golden_files() -> None:
    assert len(GOLDEN) == 8


def test_a_wrong_crc_is_said(tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    write(
        path,
        {"w": random_bits("float32", (40, 3)), "v": random_bits("int8", (5,))},
        format="mindspore-ckpt",
        extra={"crc": True},
    )
    data = bytearray(path.read_bytes())
    assert data[-10:] == zlib.crc32(data[:-17]).to_bytes(10, "big")
    data[100] ^= 1
    path.write_bytes(data)
    (said,) = FORMAT.verify(read(path))
    assert said.startswith(f"{path}: crc32 is 0x")
    assert said.endswith(f"its trailer says {int.from_bytes(data[-10:], 'big'):#010x}")


def test_without_a_crc_there_is_nothing_to_verify(tmp_path: Path) -> None:
    write(tmp_path / "m.ckpt", {"w": np.zeros(2, np.float32)}, format="mindspore-ckpt")
    assert list(FORMAT.verify(read(tmp_path / "m.ckpt"))) == []


def test_the_mode_is_the_umask_s(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write(tmp_path / "m.ckpt", {"w": np.zeros(2, np.float32)}, format="mindspore-ckpt")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "m.ckpt").stat().st_mode) == 0o640
