"""PyTorch's zip format against PyTorch itself, both ways."""

from __future__ import annotations

import io
import json
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.format import TensorSpec, WriteOptions
from porting.checkpoint.registry import locate, read
from porting.checkpoint.torch import FORMAT
from porting.checkpoint.torch.tree import TensorRef, decode, encode
from porting.checkpoint.write import write
from porting.errors import FormatError, UsageError
from porting.testing.formats import FormatConformance, random_bits, same_bits


class TestTorch(FormatConformance):
    format = "torch"


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def as_torch(torch, array, dtype):
    """A tensor of the same bits, whatever the dtype."""
    raw = torch.frombuffer(bytearray(array.tobytes()), dtype=torch.uint8)
    return raw.view(getattr(torch, dtype)).reshape(array.shape)


def bits(torch, tensor):
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def save(torch, value, path, **options):
    torch.save(value, path, **options)
    return read(path, format="torch")


def every_dtype():
    return {name: random_bits(name, (3, 5), i) for i, name in enumerate(sorted(FORMAT.writes))}


def test_reads_what_torch_saves(torch, tmp_path):
    arrays = every_dtype()
    held = {name: as_torch(torch, array, name) for name, array in arrays.items()}
    checkpoint = save(torch, held, tmp_path / "a.pt")
    assert list(checkpoint) == list(held)
    assert checkpoint.metadata == {}
    for name, array in arrays.items():
        assert same_bits(np.asarray(checkpoint[name].read()), array), name


def test_torch_loads_what_is_written(torch, tmp_path):
    arrays = every_dtype()
    write(tmp_path / "out.bin", arrays, format="torch")
    for mmap in (False, True):
        loaded = torch.load(tmp_path / "out.bin", weights_only=True, mmap=mmap)
        assert type(loaded) is OrderedDict
        assert list(loaded) == list(arrays)
        for name, array in arrays.items():
            assert loaded[name].dtype == getattr(torch, name)
            assert tuple(loaded[name].shape) == array.shape
            assert bits(torch, loaded[name]) == array.tobytes()


def test_equals_torch_save_but_for_half_of_its_fingerprint(torch, tmp_path):
    held = OrderedDict((f"layer.{i}.w", torch.full((i % 5, 3), float(i))) for i in range(1100))
    for name, array in every_dtype().items():
        held[name] = as_torch(torch, array, name)
    held |= {"scalar": torch.tensor(2.5), "b": torch.zeros(300, 300), "four": torch.ones(1, 2, 3, 4)}
    held["tied"] = held["b"].detach()
    buffer = io.BytesIO()
    torch.save(held, buffer)
    wanted = buffer.getvalue()
    (tmp_path / "torch.pt").write_bytes(wanted)
    write(tmp_path / "ours.pt", read(tmp_path / "torch.pt").entries, format="torch")
    got = (tmp_path / "ours.pt").read_bytes()
    assert len(got) == len(wanted)
    with zipfile.ZipFile(buffer) as archive:
        member = archive.getinfo("archive/.data/serialization_id")
        digits = archive.read(member)
    begin = wanted.rfind(digits)
    hashed = set(range(begin, begin + 20))  # of the record names, in an order of the C++ library's own
    crcs = {i for at in (begin + 44, wanted.rfind(member.CRC.to_bytes(4, "little"))) for i in range(at, at + 4)}
    assert {i for i in range(len(wanted)) if got[i] != wanted[i]} <= hashed | crcs


def test_views_keep_offsets_and_strides(torch, tmp_path):
    base = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    views = {
        "t": base.permute(2, 0, 1),
        "slice": base[1:, ::2, 1:4],
        "row": base[2],
        "scalar": base[1, 2, 3],
        "expanded": base[0, 0, 0].expand(4, 2),
        "empty": base[3:],
    }
    checkpoint = save(torch, views, tmp_path / "views.pt")
    for name, view in views.items():
        assert np.array_equal(checkpoint[name].read(), view.numpy()), name
        if view.ndim:
            assert np.array_equal(checkpoint[name].read((slice(0, 1),)), view[:1].numpy()), name
    write(tmp_path / "out.bin", checkpoint.entries, format="torch")
    loaded = torch.load(tmp_path / "out.bin", weights_only=True)
    assert all(torch.equal(loaded[name], view) for name, view in views.items())


def test_tied_tensors_are_told_and_share_a_storage_again(torch, tmp_path):
    weight = torch.ones(4, 3)
    held = {"embed": weight, "head": torch.nn.Parameter(weight), "other": torch.ones(4, 3), "turned": weight.t()}
    checkpoint = save(torch, held, tmp_path / "tied.pt")
    assert {name: entry.tied for name, entry in checkpoint.items()} == {
        "embed": None, "head": "embed", "other": None, "turned": None
    }  # fmt: skip
    assert checkpoint.parameters == 36
    write(tmp_path / "out.bin", checkpoint.entries, format="torch")
    loaded = torch.load(tmp_path / "out.bin", weights_only=True)
    assert loaded["embed"].data_ptr() == loaded["head"].data_ptr() != loaded["other"].data_ptr()


def test_state_dict_of_a_module_keeps_its_attributes(torch, tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    checkpoint = save(torch, model.state_dict(), tmp_path / "m.pt")
    assert list(checkpoint) == list(model.state_dict())
    assert "tree" not in checkpoint.metadata
    assert checkpoint.metadata["attributes"][""]["_metadata"]["1"] == {"version": 2}


@pytest.fixture
def trained(torch):
    """A model and its AdamW after a step, and the same saved with a few other things."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.named_parameters(), lr=0.125)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_nested_checkpoint_round_trips_through_its_tree(torch, tmp_path, trained):
    model, optimizer = trained
    rest = {
        "plain": [7, 0.5, float("inf"), None, True, "text", [], (), {}, b"\0\xff", 1 - 2j, {1}],
        "torch": (torch.bfloat16, torch.Size([2, 3]), torch.device("cuda:1")),
        "numbers": [-1, 255, 256, 65535, 65536, 2**31, -(2**31), 2**63 - 1, -(2**40), 2**90, -(2**63)],
        "list": [1, [2, torch.ones(2)]],
        "keys": {3: "three", "a": 1},
        "tensor": {"tensor": "not one"},
        "many": {str(i): i for i in range(2500)},
    }
    held = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), **rest}
    checkpoint = save(torch, held, tmp_path / "train.pt")
    assert list(checkpoint)[:3] == ["model.weight", "model.bias", "optimizer.state.0.step"]
    assert "list.1.1" in checkpoint
    tree = checkpoint.metadata["tree"]
    json.dumps(tree)
    assert tree["model"] == {"weight": {"tensor": "model.weight"}, "bias": {"tensor": "model.bias"}}
    value = decode(tree)
    assert value["optimizer"]["state"][0]["exp_avg"] == TensorRef("optimizer.state.0.exp_avg")
    assert value["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)
    assert value["optimizer"]["param_groups"][0]["param_names"] == ["weight", "bias"]
    assert encode(value) == tree
    write(tmp_path / "again.pt", checkpoint.entries, format="torch", extra={"tree": tree})
    loaded = torch.load(tmp_path / "again.pt", weights_only=True)
    assert torch.equal(loaded["list"][1].pop(), rest["list"][1].pop())
    assert {key: loaded[key] for key in rest} == rest
    fresh = torch.nn.Linear(3, 2)
    fresh.load_state_dict(loaded["model"])
    other = torch.optim.AdamW(fresh.named_parameters())
    other.load_state_dict(loaded["optimizer"])
    assert other.param_groups[0]["lr"] == 0.125
    assert torch.equal(other.state[fresh.weight]["exp_avg"], optimizer.state[model.weight]["exp_avg"])
    assert read(tmp_path / "again.pt").metadata["tree"] == tree


def test_a_tree_that_does_not_fit_is_refused(tmp_path):
    tensors = {"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)}
    both = {"x": {"tensor": "a"}, "y": {"tensor": "b"}}
    for extra, problem in (
        ({"tree": {"x": {"tensor": "a"}}}, "does not place: b"),
        ({"tree": {**both, "z": {"tensor": "c"}}}, "not there: c"),
        ({"tree": {**both, "z": {"bytes": "zz"}}}, "bytes"),
        ({"tree": {**both, "z": object()}}, "object has no place"),
        ({"crc": True}, "no option is called crc"),
    ):
        with pytest.raises(UsageError, match=problem):
            write(tmp_path / "o.bin", tensors, format="torch", extra=extra)
    assert list(tmp_path.iterdir()) == []


def test_shards_with_their_index(torch, tmp_path):
    tensors = {f"w{i}": random_bits("float32", (10, 10), i) for i in range(5)}
    write(tmp_path / "pytorch_model.bin", tensors, format="torch", shard_size=900)
    names = [f"pytorch_model-0000{i}-of-00003.bin" for i in (1, 2, 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "pytorch_model.bin.index.json"]
    for path in (tmp_path, tmp_path / "pytorch_model.bin.index.json"):
        kind, where = locate(path)
        checkpoint = kind.read(where)
        assert kind.name == "torch"
        assert {name: checkpoint[name].read().tobytes() for name in checkpoint} == {
            name: array.tobytes() for name, array in tensors.items()
        }
        assert list(kind.verify(checkpoint)) == []
    assert set(torch.load(tmp_path / names[0], weights_only=True)) == {"w0", "w1"}


def test_transformers_reads_a_folder_written_in_shards(torch, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    model = transformers.BertModel(config)
    config.save_pretrained(tmp_path)
    held = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    write(tmp_path / "pytorch_model.bin", held, format="torch", shard_size=20_000)
    loaded = transformers.BertModel.from_pretrained(tmp_path).state_dict()
    assert all(np.array_equal(loaded[name].numpy(), array) for name, array in held.items())
    assert set(read(tmp_path)) == set(held)


def test_an_index_that_names_itself(tmp_path):
    index = tmp_path / "m.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a": index.name}}))
    with pytest.raises(FormatError):
        read(index)
    for name in ("torch", "torch-legacy"):
        with pytest.raises(FormatError):
            read(index, format=name)


def test_a_shard_that_lacks_a_tensor(tmp_path):
    tensors = {f"w{i}": np.ones(100, np.float32) for i in range(3)}
    write(tmp_path / "m.bin", tensors, format="torch", shard_size=400)
    index = tmp_path / "m.bin.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] |= {"w9": "m-00001-of-00003.bin"}
    index.write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"promises are missing: w9 in m-00001-of-00003\.bin"):
        read(index)


def test_deflated_records_and_big_endian_ones_read(torch, tmp_path):
    held = {"w": torch.arange(12.0).reshape(3, 4).t(), "big": torch.arange(400_000.0), "c": torch.tensor([1 + 2j])}
    checkpoint = save(torch, held, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as old,
        zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    packed = read(tmp_path / "z.pt")
    for name, entry in checkpoint.items():
        assert np.array_equal(packed[name].read(), entry.read())
        assert np.array_equal(packed[name].read((slice(0, 1),)), entry.read((slice(0, 1),)))
    write(tmp_path / "out.pt", packed.entries, format="torch")
    assert torch.equal(torch.load(tmp_path / "out.pt")["big"], held["big"])
    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "big.pt", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(
                name,
                np.frombuffer(data, "u4").byteswap().tobytes() if "/data/" in name else data.replace(b"little", b"big"),
            )
    swapped = read(tmp_path / "big.pt")
    for name, entry in checkpoint.items():
        assert np.array_equal(swapped[name].read(), entry.read())
    assert swapped["w"].read().shape == (4, 3)


def test_zip64_lies_where_torch_puts_it(torch, tmp_path):
    """Sparse files above 4 GiB: a record that needs zip64, and records whose headers lie behind it."""
    specs = {"a": (3,), "huge": (1 << 30, 1), "behind": (5,), "empty": (0,), "last": (70,)}
    held = OrderedDict((name, torch.empty(shape)) for name, shape in specs.items())  # its pages are never touched
    with torch.serialization.skip_data():
        torch.save(held, tmp_path / "archive.pt")
    layout = FORMAT.plan(
        [TensorSpec(name, shape, DTYPES["float32"]) for name, shape in specs.items()], WriteOptions(tmp_path / "o.pt")
    )
    with (tmp_path / "o.pt").open("wb") as file:
        for patch in layout.finish(dict.fromkeys(specs, (0,))):
            file.seek(patch.offset)
            file.write(patch.data)
    ours, theirs = read(tmp_path / "o.pt"), read(tmp_path / "archive.pt")
    assert [entry.shape for entry in ours.values()] == list(specs.values())
    for name in ("a", "huge", "behind", "last"):
        assert ours[name].storage.offset == theirs[name].storage.offset == layout.extents[name][0].offset
    assert (tmp_path / "o.pt").stat().st_size == (tmp_path / "archive.pt").stat().st_size
    loaded = torch.load(tmp_path / "o.pt", weights_only=True, mmap=True)
    assert {name: tuple(tensor.shape) for name, tensor in loaded.items()} == specs


def test_verify_finds_a_flipped_byte(tmp_path):
    path = tmp_path / "a.bin"
    write(path, {"a": random_bits("float32", (50,)), "b": random_bits("float32", (9,), 1)}, format="torch")
    good = read(path)
    assert list(FORMAT.verify(good)) == []
    data = bytearray(path.read_bytes())
    data[good["b"].storage.offset] ^= 1
    path.write_bytes(data)
    assert [line.split(": ")[1] for line in FORMAT.verify(read(path))] == ["archive/data/1"]


def test_files_without_checksums_are_not_called_wrong(torch, tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert list(FORMAT.verify(read(tmp_path / "a.pt"))) == []


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning")
def test_torchscript_and_whole_modules_are_refused(torch, tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    torch.jit.save(torch.jit.trace(model, torch.ones(1, 3)), tmp_path / "script.pt")
    torch.save(model, tmp_path / "module.pt")
    with pytest.raises(FormatError, match="is a TorchScript archive"):
        read(tmp_path / "script.pt")
    with pytest.raises(FormatError, match=r"torch.nn.modules.container.Sequential: a pickle of a whole module"):
        read(tmp_path / "module.pt")


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")
def test_tensors_without_a_counterpart_are_refused_by_name(torch, tmp_path):
    cases = {
        "a sparse tensor": torch.eye(3).to_sparse(),
        "a quantized tensor": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "a tensor without data": torch.empty(3, device="meta"),
        "conjugate": torch.tensor([1j]).conj(),
        "complex32": torch.zeros(2, dtype=torch.complex32),
        "bare storage": torch.ones(2).untyped_storage(),
    }
    for problem, value in cases.items():
        torch.save({"x": value}, tmp_path / "x.pt")
        with pytest.raises(FormatError, match=problem):
            read(tmp_path / "x.pt")


def test_dtypes_that_torch_has_not_are_refused(tmp_path):
    with pytest.raises(UsageError, match="x is int4"):
        write(tmp_path / "x.pt", {"x": random_bits("int4", (3,))}, format="torch")
