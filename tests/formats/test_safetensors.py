"""safetensors: the format's conformance, the official library both ways, and files that lie."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.registry import locate, read
from porting.checkpoint.safetensors import FORMAT
from porting.checkpoint.write import write
from porting.errors import FormatError, PortError, UsageError
from porting.testing.formats import FormatConformance, random_bits, same_bits

if TYPE_CHECKING:
    from pathlib import Path

TORCH_WRITES = sorted(FORMAT.writes - {"float4_e2m1fn"})


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def official():
    pytest.importorskip("torch")
    return pytest.importorskip("safetensors.torch")


def torch_tensor(torch, array: np.ndarray[Any, Any]):
    """The same bits as a torch tensor; ml_dtypes' carriers go through bytes."""
    raw = torch.frombuffer(bytearray(array.tobytes()), dtype=torch.uint8)
    return raw.view(getattr(torch, array.dtype.name)).reshape(array.shape)


def raw_file(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


class TestSafetensors(FormatConformance):
    format = "safetensors"

    def dtypes(self) -> list[str]:
        # Four-bit tensors need an even number of elements, which the suite's shapes have not; see below.
        return TORCH_WRITES


def test_empty_tensors_and_an_empty_checkpoint(tmp_path: Path) -> None:
    empty = {"a": np.zeros((0, 3), np.float32), "b": np.zeros((2, 0), np.int8)}
    write(tmp_path / "m.safetensors", empty, format="safetensors")
    assert {name: entry.read().shape for name, entry in read(tmp_path / "m.safetensors").items()} == {
        "a": (0, 3),
        "b": (2, 0),
    }
    write(tmp_path / "n.safetensors", {}, format="safetensors")
    assert dict(read(tmp_path / "n.safetensors")) == {}


def test_four_bit_tensors_keep_every_nibble(tmp_path: Path) -> None:
    value = random_bits("float4_e2m1fn", (5, 3, 6))
    write(tmp_path / "m.safetensors", {"w": value}, format="safetensors")
    entry = read(tmp_path / "m.safetensors")["w"]
    assert (tmp_path / "m.safetensors").stat().st_size % 8 == 45 % 8
    assert same_bits(entry.read(), value)
    for box in (
        (slice(1, 4),),
        (slice(3, 4), slice(1, 2)),
        (slice(2, 3), slice(0, 3), slice(1, 5)),
        (slice(0, 2), slice(1, 2)),
    ):
        assert same_bits(np.ascontiguousarray(entry.read(box)), np.ascontiguousarray(value[box])), box


def test_an_odd_number_of_four_bit_elements_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"w: safetensors holds no odd number"):
        write(tmp_path / "m.safetensors", {"w": random_bits("float4_e2m1fn", (3,))}, format="safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.torch
@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, {"Σ\n": '"\t'}])
def test_byte_identical_to_the_official_writer(tmp_path: Path, torch, official, metadata: dict[str, str]) -> None:
    arrays = {
        f"{letter}.{name}": random_bits(name, (3, 5), i) for i, name in enumerate(TORCH_WRITES) for letter in "ba"
    }
    arrays |= {'Σ"\\\n\x01\x7f/': random_bits("float32", ()), "\U0001f600": random_bits("float32", (0, 3))}
    write(tmp_path / "ours.safetensors", arrays, format="safetensors", metadata=metadata)
    tensors = {
        name: torch_tensor(torch, array) if array.size else torch.zeros(array.shape) for name, array in arrays.items()
    }
    official.save_file(tensors, tmp_path / "theirs.safetensors", metadata=metadata or {"format": "pt"})
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


@pytest.mark.torch
def test_four_bit_tensors_in_the_official_library(tmp_path: Path, torch, official) -> None:
    packed = torch.tensor([[0x21, 0x43], [0x65, 0x87]], dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    official.save_file({"w": packed}, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    entry = read(tmp_path / "theirs.safetensors")["w"]
    assert entry.read().view(np.uint8).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    write(tmp_path / "ours.safetensors", {"w": entry}, format="safetensors")
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


@pytest.mark.torch
def test_the_official_library_reads_ours(tmp_path: Path, torch, official) -> None:
    arrays = {name: random_bits(name, (4, 3), i) for i, name in enumerate(TORCH_WRITES)}
    write(tmp_path / "m.safetensors", arrays, format="safetensors")
    loaded = official.load_file(tmp_path / "m.safetensors")
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].contiguous().view(torch.uint8).numpy().tobytes() == array.tobytes(), name


def test_metadata_is_kept_and_format_pt_is_the_default(tmp_path: Path) -> None:
    value = {"w": np.zeros(2, np.float32)}
    write(tmp_path / "a.safetensors", value, format="safetensors")
    write(tmp_path / "b.safetensors", value, format="safetensors", metadata={"origin": "x"})
    write(tmp_path / "c.safetensors", value, format="safetensors", metadata={"format": "ms", "k": "v"})
    assert read(tmp_path / "a.safetensors").metadata == {"format": "pt"}
    assert read(tmp_path / "b.safetensors").metadata == {"origin": "x"}
    assert read(tmp_path / "c.safetensors").metadata == {"format": "pt", "k": "v"}
    assert locate(tmp_path / "c.safetensors")[0].name == "safetensors"


@pytest.mark.parametrize(
    ("header", "data", "said"),
    [
        ({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"\0\0", "the file has"),
        ({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, b"\0\0", "a gap or an overlap"),
        ({n: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]} for n in "ab"}, b"\0", "a gap or an overlap"),
        ({"a": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}}, b"\0", "the file has"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 9]}}, b"\0" * 9, r"wanted 8 bytes for F32 \[2\]"),
        ({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}, b"\0\0", "wanted 1.5 bytes"),
        ({"a": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}, b"\0" * 3, "dtype 'F6_E2M3' is not known"),
        ({"a": {"dtype": ["U8"], "shape": [1], "data_offsets": [0, 1]}}, b"\0", "is not known"),
        ({"a": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, b"\0", "shape of integers"),
        ({"a": {"dtype": "U8", "shape": [1.0], "data_offsets": [0, 1]}}, b"\0", "shape of integers"),
        ({"a": {"dtype": "U8", "shape": [-1, -1], "data_offsets": [0, 1]}}, b"\0", "0 or more elements"),
        ({"a": {"dtype": "U8", "shape": [1] * 40, "data_offsets": [0, 1]}}, b"\0", "at most 32 axes"),
        ({"a": {"dtype": "U8", "shape": [0, 1 << 63], "data_offsets": [0, 0]}}, b"", "larger than any memory"),
        ({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 2]}}, b"\0", "two data_offsets"),
        ({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 0]}}, b"\0", "wanted 1 bytes"),
        ({"a": 3}, b"", "wanted an object with dtype"),
        ({"__metadata__": {"a": 1}}, b"", "an object of strings"),
        (b'{"a":{},"a":{}}', b"", "'a' occurs twice"),
        (b'{"a":' + b"[" * 100_000, b"", "nested too deeply"),
        (b'{"a":NaN}', b"", "not JSON"),
        (b'{"\\ud800":1}', b"", "not JSON"),
        (b'{"\xff":1}', b"", "not JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", b"", "not JSON"),
        (b'{"a"}x', b"", "not JSON"),
    ],
)
def test_headers_that_lie(tmp_path: Path, header: object, data: bytes, said: str) -> None:
    path = raw_file(tmp_path / "m.safetensors", header, data)
    with pytest.raises(FormatError, match=said) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_header_longer_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", 90_000_000) + b'{"a"')
    with pytest.raises(FormatError, match=r"header: wanted a length of 2 to 4 bytes, got 90000000"):
        read(path)


def test_a_length_no_header_has_is_another_format(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 40) + b'{"a"' + bytes(100))
    with pytest.raises(FormatError, match="not a checkpoint of any format known"):
        read(path)


@pytest.mark.parametrize("name", ["__metadata__", "\ud800"])
def test_names_that_the_format_cannot_hold(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        write(tmp_path / "m.safetensors", {name: np.zeros(2, np.float32)}, format="safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.torch
def test_mutations_are_judged_as_the_official_library_judges_them(tmp_path: Path) -> None:
    """What it refuses we refuse; we refuse more only for what is in our header's rules."""
    library = pytest.importorskip("safetensors")
    good = {
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "U8", "shape": [4], "data_offsets": [24, 28]},
    }
    base = raw_file(tmp_path / "m.safetensors", good, bytes(28)).read_bytes()
    random = np.random.default_rng(3)
    refused = 0
    for _ in range(400):
        data = bytearray(base)
        data[int(random.integers(8, len(base) - 28))] = int(random.integers(32, 127))
        try:
            library.deserialize(bytes(data))
            theirs = True
        except library.SafetensorError:
            theirs = False
        (tmp_path / "m.safetensors").write_bytes(data)
        try:
            read(tmp_path / "m.safetensors")
            ours = True
        except PortError:
            ours = False
        assert theirs or not ours, bytes(data)
        refused += not theirs
    assert refused > 100


def test_dtype_names_are_known() -> None:
    assert FORMAT.writes <= DTYPES.keys()
