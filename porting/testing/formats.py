"""The conformance suite of a format. A new format's tests are one subclass:

    class TestMyFormat(FormatConformance):
        format = "my-format"

A read-only format overrides `make` to write its files with someone else's library.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.entry import Checkpoint
from porting.checkpoint.registry import format_named, locate
from porting.checkpoint.sound import unsound
from porting.checkpoint.write import write
from porting.errors import PortError, UsageError

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]

HEAVY = ("torch", "tensorflow", "mindspore", "onnx", "onnxruntime", "keras", "jax", "transformers", "safetensors")


def random_bits(dtype_name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, np.dtype[Any]]:
    """Random bit patterns of a dtype: NaN payloads, infinities and denormals included; valid for bool and sub-byte."""
    kind = DTYPES[dtype_name]
    random = np.random.default_rng(seed)
    if kind.name == "bool":
        return random.integers(0, 2, shape).astype(bool)
    if kind.bits < 8:
        values = random.integers(0, 1 << kind.bits, shape).astype(np.uint8)
        return values.view(kind.numpy())
    raw = random.integers(0, 256, (*shape, kind.itemsize), np.uint8)
    return np.ascontiguousarray(raw).view(kind.numpy()).reshape(shape)


def same_bits(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Equal shape, dtype and bits (so NaN equals itself and -0.0 differs from 0.0)."""
    return (
        a.shape == b.shape
        and a.dtype == b.dtype
        and np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()
    )


class FormatConformance:
    """Inherit, set `format`, and override what the format cannot do with a reason in a comment."""

    format: ClassVar[str]
    shapes: ClassVar[tuple[tuple[int, ...], ...]] = ((), (1,), (7,), (3, 5), (2, 3, 4), (1, 1, 1, 9))
    names: ClassVar[tuple[str, ...]] = ("w", "encoder.layer.0.bias", "a/b/c", "Σ.weight")
    mutations: ClassVar[int] = 200

    def dtypes(self) -> list[str]:
        """Dtypes under test: all that the format says it writes, strings apart."""
        return sorted(format_named(self.format).writes - {"string"})

    def make(self, folder: Path, tensors: Arrays) -> Path:
        """A checkpoint of this format holding the tensors; the path a user would type."""
        path = folder / f"made{format_named(self.format).extension}"
        write(path, tensors, format=self.format)
        return path

    def open(self, path: Path) -> Checkpoint:
        """Find by content and read, as every command does."""
        kind, where = locate(path)
        assert kind.name == self.format
        return kind.read(where)

    def check(self, folder: Path, tensors: Arrays) -> Checkpoint:
        """Write, read, compare bit for bit, box reads included; checksums hold."""
        checkpoint = self.open(self.make(folder, tensors))
        assert set(checkpoint) == set(tensors)
        for name, array in tensors.items():
            entry = checkpoint[name]
            assert entry.shape == array.shape
            assert same_bits(np.asarray(entry.read()), array), name
            if array.ndim and array.shape[0] > 1:
                box = (slice(1, array.shape[0]), *[slice(0, (n + 1) // 2) for n in array.shape[1:]])
                assert same_bits(np.asarray(entry.read(box)), array[box]), name
        assert list(unsound(checkpoint)) == []
        return checkpoint

    def test_every_dtype_keeps_its_bits(self, tmp_path: Path) -> None:
        tensors = {f"t.{name}": random_bits(name, (3, 5), i) for i, name in enumerate(self.dtypes())}
        self.check(tmp_path, tensors)

    def test_every_shape(self, tmp_path: Path) -> None:
        self.check(tmp_path, {f"s{i}": random_bits("float32", shape, i) for i, shape in enumerate(self.shapes)})

    def test_names_survive(self, tmp_path: Path) -> None:
        self.check(tmp_path, {name: random_bits("float32", (2,), i) for i, name in enumerate(self.names)})

    def test_a_tensor_of_many_pieces(self, tmp_path: Path) -> None:
        self.check(tmp_path, {"big": random_bits("float32", (1031, 1500)), "small": random_bits("float32", (3,))})

    def test_many_tensors(self, tmp_path: Path) -> None:
        self.check(tmp_path, {f"layer.{i}.weight": random_bits("float32", (i % 7 + 1, 3), i) for i in range(400)})

    def test_found_by_content_not_by_suffix(self, tmp_path: Path) -> None:
        path = self.make(tmp_path, {"w": random_bits("float32", (2, 2))})
        if not path.is_file():
            pytest.skip("the format is a prefix or a folder: its names are part of it")
        other = tmp_path / "renamed.weights"
        path.rename(other)
        assert set(self.open(other)) == {"w"}

    def test_existing_output_is_kept(self, tmp_path: Path) -> None:
        if format_named(self.format).plan is None:
            pytest.skip("the format is only read")
        path = self.make(tmp_path, {"w": random_bits("float32", (2, 2))})
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        with pytest.raises(UsageError, match="exists already"):
            write(path, {"v": random_bits("float32", (1,))}, format=self.format)
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before

    def test_damage_is_an_error_or_readable(self, tmp_path: Path) -> None:
        """Truncations and flips: a PortError or a checkpoint that reads; never another exception."""
        source = self.make(tmp_path, {"a": random_bits("float32", (4, 3)), "b": random_bits("float32", (5,))})
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        random = np.random.default_rng(7)
        for _ in range(self.mutations):
            file = files[int(random.integers(len(files)))]
            good = file.read_bytes()
            file.write_bytes(mutate(good, random))
            try:
                read_all(source)
            finally:
                file.write_bytes(good)

    def test_no_framework_is_imported(self, tmp_path: Path) -> None:
        path = self.make(tmp_path, {"w": random_bits("float32", (2, 2))})
        code = (
            "import sys; from porting.checkpoint.registry import read\n"
            f"for entry in read({str(path)!r}).values(): entry.read()\n"
            f"print([name for name in {HEAVY!r} if name in sys.modules])"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout.strip() == "[]"


def mutate(good: bytes, random: np.random.Generator) -> bytes:
    """One random damage: a cut, a flipped bit, a run of 0xff, a repeated or a removed stretch."""
    data = bytearray(good)
    at = int(random.integers(len(data))) if data else 0
    kind = int(random.integers(5))
    if kind == 0:
        return bytes(data[:at])
    if kind == 1 and data:
        data[at] ^= 1 << int(random.integers(8))
    elif kind == 2:
        data[at : at + 8] = b"\xff" * len(data[at : at + 8])
    elif kind == 3:
        data[at:at] = data[at : at + 16]
    else:
        del data[at : at + int(random.integers(1, 16))]
    return bytes(data)


def read_all(path: Path) -> Mapping[str, object] | None:
    """Read every tensor of whatever is there; None if a PortError says why not."""
    try:
        kind, where = locate(path)
        return {name: entry.read().tobytes() for name, entry in kind.read(where).items()}
    except PortError:
        return None
