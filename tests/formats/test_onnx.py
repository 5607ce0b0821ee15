"""ONNX: the format's conformance, every way an initializer can be stored, external data, and files that lie."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from porting.checkpoint.dtypes import DTYPES, from_numpy
from porting.checkpoint.onnx import FORMAT
from porting.checkpoint.onnx import write as onnx_write
from porting.checkpoint.onnx.storage import CHUNK
from porting.checkpoint.onnx.tensor import TYPES
from porting.checkpoint.registry import locate, read
from porting.checkpoint.wire import encode_varint, integer, message
from porting.checkpoint.write import write
from porting.errors import FormatError, MismatchError, PortError, UsageError
from porting.testing.formats import Arrays, FormatConformance, random_bits, same_bits

if TYPE_CHECKING:
    from collections.abc import Mapping

NUMBERS = {kind.name: number for number, kind in TYPES.items()}


def tensor(name: str, dtype: str, dims: tuple[int, ...], *fields: bytes) -> bytes:
    """A TensorProto with the given fields as its elements."""
    return b"".join([*(integer(1, n) for n in dims), integer(2, NUMBERS[dtype]), *fields, message(8, name)])


def pair(key: str, value: object) -> bytes:
    return message(1, key) + message(2, str(value))


def external(**keys: object) -> bytes:
    return b"".join(message(13, pair(key, value)) for key, value in keys.items()) + integer(14, 1)


def node(op: str, name: str, inputs: list[str], outputs: list[str]) -> bytes:
    parts = [message(1, value) for value in inputs] + [message(2, value) for value in outputs]
    return message(1, b"".join(parts) + message(3, name) + message(4, op))


def model(path: Path, *tensors: bytes, nodes: bytes = b"") -> Path:
    graph = nodes + message(2, "g") + b"".join(message(5, data) for data in tensors)
    opset = message(8, message(1, "") + integer(2, 20))
    path.write_bytes(integer(1, 10) + message(2, "tests") + message(7, graph) + opset)
    return path


def zeros_like(tensors: Mapping[str, np.ndarray[Any, Any]]) -> list[bytes]:
    """Initializers of the tensors' names, shapes and types, all zero."""
    made = []
    for name, array in tensors.items():
        kind = from_numpy(array.dtype)
        size = -(-array.size * kind.bits // 8) if kind.bits < 8 else array.size * kind.itemsize
        made.append(tensor(name, kind.name, array.shape, message(9, bytes(size))))
    return made


class TestOnnx(FormatConformance):
    format = "onnx"

    def make(self, folder: Path, tensors: Arrays) -> Path:
        """ONNX is written into a graph: one with initializers of the same names, all zero."""
        with tempfile.TemporaryDirectory() as elsewhere:
            graph = model(Path(elsewhere) / "graph.onnx", *zeros_like(tensors))
            write(folder / "made.onnx", tensors, format="onnx", graph=graph)
        return folder / "made.onnx"

    def test_existing_output_is_kept(self, tmp_path: Path) -> None:
        path = self.make(tmp_path, {"w": random_bits("float32", (2, 2))})
        before = path.read_bytes()
        with pytest.raises(UsageError, match="exists already"):
            self.make(tmp_path, {"w": random_bits("float32", (2, 2), 1)})
        assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]


class TestExternal(TestOnnx):
    """The same with every tensor of 1 KiB and more outside the model."""

    def make(self, folder: Path, tensors: Arrays) -> Path:
        with tempfile.TemporaryDirectory() as elsewhere:
            graph = model(Path(elsewhere) / "graph.onnx", *zeros_like(tensors))
            write(folder / "made.onnx", tensors, format="onnx", graph=graph, extra={"external": True})
        return folder / "made.onnx"

    def test_existing_output_is_kept(self, tmp_path: Path) -> None:
        path = self.make(tmp_path, {"w": random_bits("float32", (20, 20))})
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        with pytest.raises(UsageError, match="exists already"):
            self.make(tmp_path, {"w": random_bits("float32", (20, 20), 1)})
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
        assert set(before) == {path.name, f"{path.name}.data"}


@pytest.fixture(scope="module")
def onnx():
    return pytest.importorskip("onnx")


@pytest.mark.parametrize("shape", [(), (5,), (3, 5), (2, 0)])
@pytest.mark.parametrize("dtype", sorted(FORMAT.writes - {"string"}))
def test_onnx_reads_what_we_write(tmp_path: Path, onnx, dtype: str, shape: tuple[int, ...]) -> None:
    want = random_bits(dtype, shape, 3)
    path = TestOnnx().make(tmp_path, {"w": want})
    loaded = onnx.load(path)
    onnx.checker.check_model(loaded)
    got = onnx.numpy_helper.to_array(loaded.graph.initializer[0])
    assert got.shape == shape
    if dtype == "int4":  # onnx leaves the unused high half zero, ml_dtypes extends the sign
        assert np.array_equal(got.view(np.uint8) & 0x0F, want.view(np.uint8) & 0x0F)
    else:
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dtype", sorted(kind.name for kind in TYPES.values() if kind.kind != "string"))
def test_we_read_what_onnx_makes(tmp_path: Path, onnx, dtype: str, raw: bool) -> None:
    """Both ways of storing: raw_data, and the typed field of the dtype."""
    want = np.nan_to_num(random_bits(dtype, (3, 5), 4).astype(np.complex128).real, nan=1, posinf=2, neginf=-2)
    want = (np.clip(want, -1e4, 1e4) if DTYPES[dtype].kind in ("float", "complex") else want).astype(
        DTYPES[dtype].numpy()
    )
    if raw:
        made = onnx.numpy_helper.from_array(want, "w")
    else:
        values = want.reshape(-1)
        made = onnx.helper.make_tensor("w", NUMBERS[dtype], (3, 5), values)
        assert not made.raw_data
    graph = onnx.helper.make_graph([], "g", [], [], [made])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "m.onnx")
    entry = read(tmp_path / "m.onnx")["w"]
    got = np.asarray(entry.read())
    assert same_bits(np.asarray(entry.read((slice(1, 3), slice(0, 2)))), got[1:3, 0:2])
    if DTYPES[dtype].kind == "int" and DTYPES[dtype].bits < 8:  # the kit extends the sign, ml_dtypes' casts do not
        got, want = got.astype(np.int8), want.astype(np.int8)
    assert same_bits(got, want)


def test_external_data_that_onnx_writes(tmp_path: Path, onnx) -> None:
    tensors = {f"t{i}": random_bits("float32", (50, 20 + i), i) for i in range(3)}
    protos = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    made = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], protos))
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, all_tensors_to_one_file=False)
    checkpoint = read(tmp_path / "m.onnx")
    assert len(checkpoint.files) == 4
    assert all(same_bits(checkpoint[name].read(), array) for name, array in tensors.items())


def test_onnx_reads_our_external_data(tmp_path: Path, onnx) -> None:
    tensors = {
        "small": random_bits("float32", (3,)),
        "a": random_bits("float16", (700,)),
        "b": random_bits("int4", (3001,)),
    }
    path = TestExternal().make(tmp_path, tensors)
    loaded = onnx.load(path)
    got = {proto.name: onnx.numpy_helper.to_array(proto) for proto in loaded.graph.initializer}
    assert all(
        np.array_equal(got[name].view(np.uint8) & 0x0F, array.view(np.uint8) & 0x0F) for name, array in tensors.items()
    )
    assert got["a"].tobytes() == tensors["a"].tobytes()
    raw = onnx.load(path, load_external_data=False)
    offsets = [int(e.value) for p in raw.graph.initializer for e in p.external_data if e.key == "offset"]
    assert offsets == [0, 4096]


def test_strings_survive(tmp_path: Path) -> None:
    graph = model(tmp_path / "g.onnx", tensor("s", "string", (2,), message(6, "a"), message(6, b"\xff")))
    assert read(graph)["s"].read().tolist() == [b"a", b"\xff"]
    values = np.array([b"long text", b""], object)
    write(tmp_path / "out.onnx", {"s": values}, format="onnx", graph=graph)
    assert read(tmp_path / "out.onnx")["s"].read().tolist() == [b"long text", b""]


def test_int4_is_two_to_a_byte_the_first_low(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", tensor("w", "int4", (3,), message(9, b"\xf1\x08")))
    assert read(path)["w"].read().astype(int).tolist() == [1, -1, -8]


def test_integers_of_many_chunks(tmp_path: Path) -> None:
    values = np.arange(CHUNK // 2, dtype=np.int64) * -7919
    packed = b"".join(map(encode_varint, values.tolist()))
    assert len(packed) > 2 * CHUNK
    entry = read(model(tmp_path / "m.onnx", tensor("w", "int64", values.shape, message(7, packed))))["w"]
    assert np.array_equal(entry.read(), values)
    entry.storage.release()
    assert np.array_equal(entry.read((slice(5, 9),)), values[5:9])


def test_missing_length_means_the_rest_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(bytes(8) + np.arange(4, dtype="<f4").tobytes())
    path = model(tmp_path / "m.onnx", tensor("w", "float32", (4,), external(location="sub/w.bin", offset=8)))
    assert read(path)["w"].read().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "location", ["../w.bin", "/etc/passwd", "sub/../../w.bin", "", "..\\w.bin", "a\0b", "link.bin", "fifo", "absent"]
)
def test_external_data_stays_in_the_models_folder(tmp_path: Path, location: str) -> None:
    import os

    home = tmp_path / "model"
    home.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(16))
    (home / "link.bin").symlink_to(tmp_path / "w.bin")
    os.mkfifo(home / "fifo")
    path = model(home / "m.onnx", tensor("w", "float32", (4,), external(location=location)))
    with pytest.raises(FormatError, match="external data: "):
        read(path)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (tensor("w", "float32", (4,), message(9, bytes(15))), "wanted 16 bytes"),
        (tensor("w", "float32", (1 << 40,), message(9, bytes(16))), "wanted 4398046511104 bytes"),
        (tensor("w", "float32", (1 << 62, 1 << 62), message(9, b"")), "is no tensor's"),
        (tensor("w", "float32", (-1,), message(9, bytes(4))), "is no tensor's"),
        (tensor("w", "float32", (1,) * 33, message(9, bytes(4))), "more than 32 axes"),
        (message(1, bytes(4000)) + tensor("w", "float32", (), message(9, bytes(4))), "more than 32 axes"),
        (tensor("w", "float32", (3,)), "in one field, got fields"),
        (tensor("w", "float32", (1,), message(9, bytes(4)), message(4, bytes(4))), "in one field, got fields"),
        (tensor("w", "float32", (1,), message(5, b"\1")), "does not belong in field 5"),
        (tensor("w", "int64", (1,), message(5, b"\1")), "does not belong in field 5"),
        (tensor("w", "int32", (3,), message(5, b"\1\2")), "wanted 3 integers"),
        (tensor("w", "int32", (1,), message(5, b"\x81")), "cut off"),
        (tensor("w", "int32", (1,), message(5, b"\x81" * 12 + b"\1")), "longer than 10 bytes"),
        (tensor("w", "float32", (3,), message(4, bytes(8))), "wanted 12 bytes"),
        (tensor("w", "string", (1 << 50,), message(6, "a")), "strings, got 1"),
        (integer(2, 27) + message(8, "w"), "element type 27"),
        (integer(2, 1) + message(3, b"") + message(8, "w"), "segments"),
        (tensor("", "float32", (1,), message(9, bytes(4))), "without a name"),
        (tensor("w", "float32", (4,), external(location="m.onnx", offset="-1")), "wanted a number as offset"),
        (tensor("w", "float32", (4,), external(location="m.onnx", offset=0, length=8)), "wanted 16 bytes"),
        (tensor("w", "float32", (4,), external(location="m.onnx", offset=1 << 60, length=16)), "at offset"),
    ],
)
def test_tensors_that_lie(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(FormatError, match=problem) as caught:
        read(model(tmp_path / "m.onnx", data))
    assert "\n" not in str(caught.value)


def test_a_name_twice_and_a_graph_twice(tmp_path: Path) -> None:
    one = tensor("w", "float32", (1,), message(9, bytes(4)))
    with pytest.raises(FormatError, match="occurs twice"):
        read(model(tmp_path / "m.onnx", one, one))
    path = model(tmp_path / "n.onnx", one)
    path.write_bytes(path.read_bytes() + message(7, b""))
    with pytest.raises(FormatError, match="wanted one graph, got 2"):
        read(path)


def test_a_cut_off_model_is_still_recognised(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", *zeros_like({"w": np.zeros((100, 100), np.float32)}))
    path.write_bytes(path.read_bytes()[:2000])
    assert locate(path)[0].name == "onnx"
    with pytest.raises(FormatError, match="claims"):
        read(path)


def test_other_protobufs_are_not_claimed(tmp_path: Path) -> None:
    golden = Path(__file__).parent.parent / "golden"
    for path in [golden / "tinybert_c1/fit_dense.ckpt", golden / "bert_a1/bert_model.ckpt.index"]:
        assert FORMAT.locate(path) is None
    saved_model = integer(1, 1) + message(2, message(1, message(1, "x")))
    (tmp_path / "saved_model.pb").write_bytes(saved_model)
    assert FORMAT.locate(tmp_path / "saved_model.pb") is None
    assert FORMAT.locate(tmp_path) is None


def test_writing_needs_a_graph(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name it with --graph"):
        write(tmp_path / "m.onnx", {"w": np.zeros(1)}, format="onnx")
    (tmp_path / "text").write_text("no model")
    with pytest.raises(UsageError, match="is no ONNX model"):
        write(tmp_path / "m.onnx", {"w": np.zeros(1)}, format="onnx", graph=tmp_path / "text")
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_all_mismatches_at_once(tmp_path: Path) -> None:
    have = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.float32), "ids": np.zeros((1, 4), np.int64)}
    graph = model(tmp_path / "g.onnx", *zeros_like(have))
    with pytest.raises(MismatchError) as caught:
        write(tmp_path / "m.onnx", {"a": np.zeros((3, 2), np.float32), "c": np.zeros(1)}, format="onnx", graph=graph)
    assert caught.value.problems == (
        "a: the graph wants float32 (2, 3), got float32 (3, 2)",
        "b: missing",
        "c: the graph has no such initializer",
    )
    assert not (tmp_path / "m.onnx").exists()


def test_the_rest_of_the_model_is_kept_and_metadata_added(tmp_path: Path, onnx) -> None:
    kept = np.arange(4, dtype=np.int64)
    ids = tensor("ids", "int64", (4,), message(9, kept.tobytes()), message(12, "positions"))
    graph = model(
        tmp_path / "g.onnx", *zeros_like({"w": np.zeros(2, np.float32)}), ids, nodes=node("Relu", "n", ["x"], ["y"])
    )
    write(tmp_path / "m.onnx", {"w": np.ones(2, np.float32)}, format="onnx", graph=graph, metadata={"source": "tests"})
    before, after = onnx.load(graph), onnx.load(tmp_path / "m.onnx")
    assert after.graph.node == before.graph.node
    assert after.producer_name == "tests"
    assert after.graph.initializer[1] == before.graph.initializer[1]
    assert {prop.key: prop.value for prop in after.metadata_props} == {"source": "tests"}
    assert read(tmp_path / "m.onnx").metadata["metadata_props"] == {"source": "tests"}


def test_beyond_protobufs_limit_data_goes_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_write, "PROTOBUF_LIMIT", 10_000)
    tensors = {"a": random_bits("float32", (40, 50)), "b": random_bits("float32", (60, 50))}
    path = TestOnnx().make(tmp_path, tensors)
    assert path.stat().st_size < 1000
    assert all(same_bits(read(path)[name].read(), array) for name, array in tensors.items())


def test_a_model_is_written_over_itself(tmp_path: Path) -> None:
    path = TestExternal().make(
        tmp_path, {"a": random_bits("float32", (40, 50)), "ids": random_bits("int64", (500,), 2)}
    )
    ids = read(path)["ids"].read().copy()
    new = random_bits("float32", (40, 50), 9)
    write(path, {"a": new}, format="onnx", graph=path, overwrite=True, extra={"external": True})
    assert same_bits(read(path)["a"].read(), new)
    assert same_bits(read(path)["ids"].read(), ids)


def test_options_of_other_formats_are_refused(tmp_path: Path) -> None:
    graph = model(tmp_path / "g.onnx", *zeros_like({"w": np.zeros(1)}))
    with pytest.raises(PortError, match="unknown option crc"):
        write(tmp_path / "m.onnx", {"w": np.zeros(1)}, format="onnx", graph=graph, extra={"crc": True})


def named_by_scope(tmp_path: Path, *nodes: bytes) -> Any:
    """A model whose generated initializers onnx::N_1 and onnx::N_2 are read by the nodes."""
    tensors = [
        tensor(f"onnx::N_{i}", "float32", (2, 2), message(9, random_bits("float32", (2, 2), i).tobytes()))
        for i in (1, 2)
    ]
    return read(model(tmp_path / "m.onnx", *tensors, nodes=b"".join(nodes)))


def test_two_weights_of_one_scope_are_not_guessed_apart(tmp_path: Path) -> None:
    checkpoint = named_by_scope(
        tmp_path,
        node("MatMul", "/dense/MatMul", ["x", "onnx::N_1"], ["y"]),
        node("MatMul", "/dense/MatMul_1", ["y", "onnx::N_2"], ["z"]),
    )
    assert set(checkpoint) == set(checkpoint.metadata["anonymous"]) == {"onnx::N_1", "onnx::N_2"}


def test_only_the_second_operand_of_a_product_is_a_linear_weight(tmp_path: Path) -> None:
    """A Conv's generated weight is one that a batch norm was folded into: not the parameter of its scope."""
    checkpoint = named_by_scope(
        tmp_path,
        node("Conv", "/conv/Conv", ["x", "onnx::N_1"], ["y"]),
        node("MatMul", "/mix/MatMul", ["onnx::N_2", "y"], ["z"]),
    )
    assert checkpoint.metadata["anonymous"] == {
        "onnx::N_1": "read by Conv /conv/Conv, which tells no parameter",
        "onnx::N_2": "read by MatMul /mix/MatMul, which tells no parameter",
    }


def test_a_weight_read_both_ways_is_not_turned(tmp_path: Path) -> None:
    gemm = node("Gemm", "/b/Gemm", ["y", "onnx::N_1"], ["z"])
    trans_b = message(5, message(1, "transB") + integer(3, 1) + integer(20, 2))
    body = gemm[2:] + trans_b
    both = [node("MatMul", "/a/MatMul", ["x", "onnx::N_1"], ["y"]), message(1, body)]
    checkpoint = named_by_scope(tmp_path, *both, node("MatMul", "/c/MatMul", ["z", "onnx::N_2"], ["out"]))
    assert checkpoint.metadata["anonymous"] == {"onnx::N_1": "read both as it is and transposed"}
    assert checkpoint.metadata["renamed"] == {"c.weight": {"initializer": "onnx::N_2", "transposed": True}}
