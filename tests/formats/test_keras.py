"""Keras' HDF5 files and .keras archives: what Keras writes, what HDF5 allows, and what must not be followed."""

from __future__ import annotations

import json
import os
import signal
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import h5py
import numpy as np
import pytest

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.keras import H5 as FORMAT
from porting.checkpoint.keras import h5_file, h5_index
from porting.checkpoint.registry import locate, read
from porting.checkpoint.storage import Mapped
from porting.checkpoint.write import write
from porting.errors import FormatError, UsageError
from porting.testing.formats import Arrays, FormatConformance, random_bits, same_bits

if TYPE_CHECKING:
    from collections.abc import Callable

OPAQUE = sorted(name for name in DTYPES if name.startswith(("bfloat", "float8")))
NATIVE = sorted(name for name, kind in DTYPES.items() if kind.bits >= 8 and name not in OPAQUE)


def make_h5(path: Path, tensors: Arrays, **options: Any) -> Path:
    """A file with one dataset per tensor, as Keras' H5IOStore writes them."""
    with h5py.File(path, "w") as file:
        for name, array in tensors.items():
            if array.dtype.name in OPAQUE:
                data = file.create_dataset(name, data=array.view(f"V{array.dtype.itemsize}"))
                data.attrs["dtype"] = array.dtype.name
            else:
                file.create_dataset(name, data=array, **(options if array.ndim else {}))
    return path


class KerasConformance(FormatConformance):
    mutations = 20  # a child process each

    def dtypes(self) -> list[str]:
        return [*NATIVE, *OPAQUE]


class TestKerasH5(KerasConformance):
    format = "keras-h5"

    def make(self, folder: Path, tensors: Arrays) -> Path:
        return make_h5(folder / "made.h5", tensors)


class TestCompressed(KerasConformance):
    """Chunked, shuffled and deflated datasets come out of the child's copy."""

    format = "keras-h5"

    def make(self, folder: Path, tensors: Arrays) -> Path:
        return make_h5(folder / "made.h5", tensors, chunks=True, compression="gzip", shuffle=True)


class TestKerasZip(KerasConformance):
    format = "keras-zip"
    method: ClassVar[int] = zipfile.ZIP_STORED

    def make(self, folder: Path, tensors: Arrays) -> Path:
        inner = make_h5(folder / "inner", tensors)
        with zipfile.ZipFile(folder / "made.keras", "w", self.method) as archive:
            archive.writestr("metadata.json", '{"keras_version": "3.0"}')
            archive.writestr("config.json", '{"class_name": "Sequential"}')
            archive.write(inner, "model.weights.h5")
        inner.unlink()
        return folder / "made.keras"


class TestDeflated(TestKerasZip):
    method = zipfile.ZIP_DEFLATED


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    pytest.importorskip("tensorflow")
    return pytest.importorskip("keras")


@pytest.fixture(scope="module")
def model(keras):
    """A functional model with a nested one, user's names, several dtypes, and a trained optimizer's slots."""
    layers = keras.layers
    nested = keras.Sequential(
        [layers.Input((8,)), layers.Dense(8, name="first"), layers.Dense(8, name="second")], name="nested"
    )
    start = layers.Input((8,))
    hidden = layers.Dense(8, name="my_layer")(start)
    hidden = layers.BatchNormalization(name="bn")(nested(hidden))
    hidden = layers.Dense(3, name="half", dtype="float16")(hidden)
    hidden = layers.Dense(3, name="brain", dtype="bfloat16")(hidden)
    outer = keras.Model(start, layers.Dense(3, name="double", dtype="float64")(hidden), name="outer")
    outer.compile("adam", "mse")
    outer.optimizer.build(outer.trainable_variables)
    return outer


def values(model) -> Arrays:
    return {weight.path: np.asarray(weight.numpy()) for weight in model.weights}


WEIGHTS_H5 = {
    "my_layer/kernel": "layers/dense/vars/0",
    "my_layer/bias": "layers/dense/vars/1",
    "nested/first/kernel": "layers/sequential/layers/dense/vars/0",
    "nested/second/bias": "layers/sequential/layers/dense_1/vars/1",
    "bn/moving_variance": "layers/batch_normalization/vars/3",
    "half/kernel": "layers/dense_1/vars/0",
    "brain/kernel": "layers/dense_2/vars/0",
    "double/kernel": "layers/dense_3/vars/0",
}


def check_weights_h5(checkpoint, model) -> None:
    want = values(model)
    for name, path in WEIGHTS_H5.items():
        assert same_bits(np.asarray(checkpoint[path].read()), want[name]), name
    assert len([name for name in checkpoint if not name.startswith("optimizer/")]) == len(want)
    assert checkpoint.metadata["layers"]["layers/dense"] == "my_layer"
    assert checkpoint.metadata["layers"]["layers/sequential/layers/dense_1"] == "second"


def test_weights_h5(model, tmp_path: Path) -> None:
    model.save_weights(tmp_path / "m.weights.h5")
    check_weights_h5(read(tmp_path / "m.weights.h5"), model)


def test_keras_archive(keras, model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.keras")
    checkpoint = read(tmp_path / "m.keras")
    check_weights_h5(checkpoint, model)
    assert json.loads(checkpoint.metadata["model_config"])["config"]["name"] == "outer"
    assert checkpoint.metadata["keras_version"] == keras.__version__
    assert all(isinstance(entry.storage, Mapped) for entry in checkpoint.values())
    assert "m.keras at " in checkpoint["layers/dense/vars/0"].place


@pytest.mark.filterwarnings("ignore")
def test_legacy_model(keras, model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.h5")
    checkpoint = read(tmp_path / "m.h5")
    want = values(model)
    assert [name for name in checkpoint if not name.startswith("optimizer_weights/")] == list(want)
    assert all(same_bits(np.asarray(checkpoint[name].read()), array) for name, array in want.items())
    assert "optimizer_weights/adam/my_layer_kernel_momentum" in checkpoint
    assert json.loads(checkpoint.metadata["model_config"])["config"]["name"] == "outer"
    assert checkpoint.metadata["keras_version"] == keras.__version__
    assert checkpoint.notes == ()


def legacy(path: Path, layers: dict[str, dict[str, np.ndarray[Any, Any]]], parts: int = 1) -> Path:
    """A legacy weights file, its list of layers split over `parts` attributes."""
    with h5py.File(path, "w") as file:
        names = [name.encode() for name in layers]
        for i in range(parts):
            file.attrs[f"layer_names{i}" if parts > 1 else "layer_names"] = names[i::parts]
        file.attrs["keras_version"] = "2.11.0"
        for layer, tensors in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in tensors]
            for name, array in tensors.items():
                group.create_dataset(name, data=array)
    return path


def test_legacy_names_are_kept_as_stored(tmp_path: Path) -> None:
    a, b = random_bits("float32", (2, 3)), random_bits("float32", (3,), 1)
    path = legacy(tmp_path / "m.h5", {"dense": {"dense/kernel:0": a, "dense/bias:0": b}, "empty": {}})
    checkpoint = read(path)
    assert list(checkpoint) == ["dense/kernel:0", "dense/bias:0"]
    assert same_bits(checkpoint["dense/bias:0"].read(), b)
    assert checkpoint.metadata["keras_version"] == "2.11.0"


def test_a_name_in_two_layers_gets_the_layers_name(tmp_path: Path) -> None:
    a, b = random_bits("float32", (2,)), random_bits("float32", (2,), 1)
    checkpoint = read(legacy(tmp_path / "m.h5", {"one": {"kernel:0": a}, "two": {"kernel:0": b}}, parts=2))
    assert set(checkpoint) == {"one/kernel:0", "two/kernel:0"}
    assert same_bits(checkpoint["two/kernel:0"].read(), b)


def test_weights_listed_but_absent_and_there_but_not_listed(tmp_path: Path) -> None:
    path = legacy(tmp_path / "m.h5", {"dense": {"kernel": np.zeros(2), "bias": np.zeros(2)}})
    with h5py.File(path, "a") as file:
        file["dense"].attrs["weight_names"] = [b"kernel"]
    assert read(path).notes == ("1 datasets that weight_names does not list are not read",)
    with h5py.File(path, "a") as file:
        file["dense"].attrs["weight_names"] = [b"kernel", b"gamma"]
    with pytest.raises(FormatError, match="dense/gamma: listed in weight_names but not there"):
        read(path)


def test_big_endian_and_compact_datasets(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["big"] = np.arange(6, dtype=">f4").reshape(2, 3)
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"compact", h5py.h5t.IEEE_F64LE, space, plist).write(
            h5py.h5s.ALL, h5py.h5s.ALL, np.array([1.0, 2.0, 3.0])
        )
        file["empty"] = np.zeros((0, 4), np.float32)
    checkpoint = read(tmp_path / "m.h5")
    assert checkpoint["big"].read().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert checkpoint["big"].read().dtype == np.dtype("<f4")
    assert checkpoint["compact"].read().tolist() == [1, 2, 3]
    assert checkpoint["empty"].read().shape == (0, 4)


def test_a_dataset_under_two_names_is_tied(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["a/kernel"] = np.ones((2, 2))
        file["b/kernel"] = file["a/kernel"]
    checkpoint = read(tmp_path / "m.h5")
    assert checkpoint["b/kernel"].tied == "a/kernel"
    assert checkpoint.parameters == 4


def soft(file: h5py.File, _: Path) -> None:
    file["x"] = h5py.SoftLink("/w")


def outside(file: h5py.File, folder: Path) -> None:
    file["x"] = h5py.ExternalLink(str(folder / "other.h5"), "/w")


def outside_raw(file: h5py.File, folder: Path) -> None:
    file.create_dataset("x", (4,), "u1", external=[(str(folder / "secret"), 0, 4)])


def virtual(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "w", (4,))
    file.create_virtual_dataset("x", layout)


def strings(file: h5py.File, _: Path) -> None:
    file["x"] = ["a", "bc"]


def compound(file: h5py.File, _: Path) -> None:
    file["x"] = np.zeros(2, [("a", "f4")])


def references(file: h5py.File, _: Path) -> None:
    file.create_dataset("x", (1,), h5py.ref_dtype)


def nothing(file: h5py.File, _: Path) -> None:
    file["x"] = h5py.Empty("f4")


def cycle(file: h5py.File, _: Path) -> None:
    file.create_group("x")["y"] = file["/"]


def bomb(file: h5py.File, _: Path) -> None:
    file.create_dataset("x", (1 << 40,), "f4", chunks=(1 << 20,))


def unknown(file: h5py.File, _: Path) -> None:
    file["x"] = np.zeros(2, np.longdouble)


@pytest.mark.parametrize(
    ("plant", "problem"),
    [
        (soft, "x: a soft or external link"),
        (outside, "x: a soft or external link"),
        (outside_raw, "x: its elements lie in another file"),
        (virtual, "x: its elements lie in another file"),
        (strings, "x: wanted numbers, got strings"),
        (compound, "x: wanted numbers"),
        (references, "x: wanted numbers"),
        (nothing, "x: a dataset without a shape"),
        (cycle, "x/y: a group linked twice"),
        (bomb, "x: claims 4398046511104 bytes of 0 stored"),
        (unknown, "x: element type"),
    ],
)
def test_refused_by_name(tmp_path: Path, plant: Callable[[h5py.File, Path], None], problem: str) -> None:
    (tmp_path / "secret").write_bytes(b"1234")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["w"] = np.zeros(4, np.float32)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["w"] = np.zeros(4, np.float32)
        plant(file, tmp_path)
    with pytest.raises(FormatError, match=problem) as caught:
        read(tmp_path / "m.h5")
    assert str(caught.value).startswith(str(tmp_path / "m.h5"))
    assert "\n" not in str(caught.value)


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        group = file
        for _ in range(h5_index.DEPTH + 3):
            group = group.create_group("g")
    with pytest.raises(FormatError, match="nested too deeply"):
        read(tmp_path / "m.h5")


def lying_index(**changes: object) -> str:
    line = {"path": "x", "shape": [9], "dtype": "int8", "offset": 4, "copied": False} | changes
    return f"print({json.dumps({'datasets': [line], 'attributes': {}})!r})"


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", f"libhdf5 dies on it \\({signal.SIGSEGV.name}\\)"),
        ("import sys; sys.stderr.write('first\\nlast line\\n'); sys.exit(1)", "last line"),
        ("print('no json')", "the index of its datasets is damaged"),
        ('print(\'{"datasets": 5, "attributes": {}}\')', "the index of its datasets is damaged"),
        (lying_index(shape=None), "the index of its datasets is damaged"),
        (lying_index(dtype="float7"), "the index of its datasets is damaged"),
        (
            lying_index(shape=[9]),
            "x: wanted 9 bytes at 4",
        ),
        (
            lying_index(shape=[-1]),
            "is no tensor's",
        ),
    ],
)
def test_whatever_the_child_does_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, problem: str
) -> None:
    """The child is replaced by a program that crashes, fails, or prints an index that lies."""
    launcher = tmp_path / "python"
    launcher.write_text(f"#!{h5_file.sys.executable}\n{program}\n")
    launcher.chmod(0o755)
    monkeypatch.setattr(h5_file.sys, "executable", str(launcher))
    (tmp_path / "m.h5").write_bytes(h5_file.SIGNATURE + b"...")
    with pytest.raises(FormatError, match=problem):
        FORMAT.read(tmp_path / "m.h5")


def test_zips_that_lie(tmp_path: Path) -> None:
    path = TestDeflated().make(tmp_path, {"w": np.zeros((100, 100), np.float32)})
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    assert data[entry + 46 : entry + 62] == b"model.weights.h5"
    short = data.copy()
    short[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    path.write_bytes(short)
    with pytest.raises(FormatError, match=r"(model\.weights\.h5|damaged zip)"):
        read(path)
    locked = data.copy()
    locked[entry + 8] |= 1
    path.write_bytes(locked)
    with pytest.raises(FormatError, match="encrypted"):
        read(path)
    broken = data.copy()
    broken[data.index(b"\x89HDF") if b"\x89HDF" in data else entry - 40] ^= 0xFF
    path.write_bytes(broken)
    with pytest.raises(FormatError, match="damaged zip"):
        read(path)


def test_other_files_are_not_claimed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.zeros(2))
    (tmp_path / "empty").touch()
    for path in (tmp_path / "a.npz", tmp_path / "empty", tmp_path, tmp_path / "absent"):
        assert FORMAT.locate(path) is None
        if path.name != "a.npz":
            with pytest.raises(FormatError):
                locate(path)


def test_writing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="read only"):
        write(tmp_path / "m.h5", {"w": np.zeros(1)}, format="keras-h5")
