"""After a conversion: the frameworks themselves read what was written, for every family, bit for bit."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import Arrays, as_hf, configure, google_bert, save

from porting.convert.convert import convert
from porting.convert.registry import families
from porting.convert.table import Dialect, Family
from porting.errors import MismatchError
from porting.testing.families import crowded_out, lacking
from porting.testing.formats import same_bits
from porting.testing.synthetic import World, build, different_sizes, settings_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def by_tensorflow(path: Path) -> Arrays:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    reader = pytest.importorskip("tensorflow").train.load_checkpoint(str(path))
    return {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}


def by_mindspore(path: Path, kind: str) -> Arrays:
    mindspore = pytest.importorskip("mindspore")
    return {name: value.asnumpy() for name, value in mindspore.load_checkpoint(str(path), format=kind).items()}


def by_torch(path: Path) -> Arrays:
    torch = pytest.importorskip("torch")
    return {name: value.numpy() for name, value in torch.load(path, weights_only=True).items()}


def by_safetensors(path: Path) -> Arrays:
    pytest.importorskip("torch")
    files = pytest.importorskip("safetensors.torch")
    return {name: value.numpy() for name, value in files.load_file(path).items()}


READERS: dict[str, Callable[[Path], Arrays]] = {
    "tf-bundle": by_tensorflow,
    "mindspore-ckpt": lambda path: by_mindspore(path, "ckpt"),
    "mindspore-safetensors": lambda path: by_mindspore(path, "safetensors"),
    "torch": by_torch,
    "safetensors": by_safetensors,
}
FORMATS = {
    "tensorflow": ("tf-bundle",),
    "mindspore": ("mindspore-ckpt", "mindspore-safetensors"),
    "pytorch": ("torch", "safetensors"),
}
EXTENSIONS = {"tf-bundle": "", "mindspore-ckpt": ".ckpt", "torch": ".bin"}


def world_of(family: Family, *dialects: Dialect) -> World:
    """A checkpoint with a size of its own for every label."""
    return World(family, different_sizes(family, 0), settings_of(family)[0], 0, crowded_out(family, *dialects))


def pairs() -> list[tuple[str, str, str, str]]:
    """Every family, from its first dialect into every other and from the second into the first, in every format."""
    found = []
    for name, family in families().items():
        first, second, *_ = family.dialects
        for target in family.dialects:
            source = second if target is first else first
            found += [(name, source.name, target.name, kind) for kind in FORMATS[target.framework]]
    return found


@pytest.mark.parametrize(("name", "source", "target", "kind"), pairs())
def test_the_framework_reads_the_conversion(name: str, source: str, target: str, kind: str, tmp_path: Path) -> None:
    family = families()[name]
    one, two = family.dialect(source), family.dialect(target)
    world = world_of(family, one, two)
    apart = {row.key for row in lacking(world, one, two)}
    without = {group.name for group, row in family.rows() if row.key in apart}
    world = replace(world, without=world.without | without)
    made, want = build(world, one), build(world, two)
    path = save(tmp_path / "source", {tensor: held.array for tensor, held in made.items()}, FORMATS[one.framework][0])
    (tmp_path / "config.json").write_text(json.dumps(dict(world.settings)))
    out = tmp_path / f"out{EXTENSIONS.get(kind, '.safetensors')}"
    ledger = convert(
        path, out, to=target, family=name, source_dialect=source, format=kind, config=tmp_path / "config.json"
    )
    got = READERS[kind](out)
    assert got.keys() == {record.target for record in ledger.tensors}
    assert len(got) > 20
    for tensor, value in got.items():
        assert same_bits(value, want[tensor].array), tensor


@pytest.fixture(scope="module")
def transformers() -> Any:
    pytest.importorskip("torch")
    return pytest.importorskip("transformers")


CONFIG = {
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 30,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "model_type": "bert",
}


@pytest.mark.parametrize(("kind", "name"), [("safetensors", "model.safetensors"), ("torch", "pytorch_model.bin")])
def test_transformers_loads_shards(kind: str, name: str, transformers: Any, tmp_path: Path) -> None:
    """A sharded output is a model's folder as it is."""
    source = save(tmp_path / "bert.ckpt", google_bert(), "tf-bundle")
    folder = tmp_path / "model"
    folder.mkdir()
    convert(source, folder / name, to="hf", format=kind, shard_size=2000)
    assert len(list(folder.glob(f"*-of-*{Path(name).suffix}"))) > 2
    configure(folder, "config.json", **CONFIG)
    model, info = transformers.BertForPreTraining.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    want = as_hf(google_bert())
    held = model.state_dict()
    for tensor, value in want.items():
        assert np.array_equal(held[tensor].numpy(), value), tensor


EXPORTS = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::torch.jit.TracerWarning")
EXPORTERS = pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])


def tiny(transformers: Any, seed: int) -> Any:
    """A tiny BERT with random weights."""
    import torch

    torch.manual_seed(seed)
    model = transformers.BertForPreTraining(transformers.BertConfig(**CONFIG, attn_implementation="eager")).eval()
    for parameter in model.parameters():  # exporters leave biases out that are zero
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def batch() -> tuple[Any, Any, Any]:
    """ids, mask, token types: (2, 7) int64 each."""
    import torch

    ids = torch.randint(0, 30, (2, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return ids, mask, (torch.arange(7) > 3).long().expand(2, 7).contiguous()


NAMES = ["input_ids", "attention_mask", "token_type_ids"]


def exported(model: Any, path: Path, *, dynamo: bool) -> Path:
    """The model as ONNX by one of torch's two exporters."""
    import torch

    class Outputs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = model.bert
            self.cls = model.cls

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            hidden, pooled = self.bert(ids, attention_mask=mask, token_type_ids=types, return_dict=False)
            return self.cls(hidden, pooled)

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if dynamo:
            axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
            options: dict[str, Any] = {"dynamic_shapes": (axes, axes, axes)}
        else:
            options = {"dynamic_axes": {name: {0: "batch", 1: "sequence"} for name in NAMES}}
        torch.onnx.export(Outputs().eval(), batch(), path, dynamo=dynamo, input_names=NAMES, **options)
    return path


def outputs(path: Path) -> list[np.ndarray[Any, Any]]:
    """What onnxruntime makes of the batch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(zip(NAMES, (value.numpy() for value in batch()), strict=True))))


def state(model: Any) -> Arrays:
    """The weights as transformers saves them: a tied one once, no buffers."""
    tied = set(model.all_tied_weights_keys)
    return {
        name: value.detach().numpy().copy()
        for name, value in model.state_dict().items()
        if name not in tied and not name.endswith("position_ids")
    }


@EXPORTS
@EXPORTERS
def test_onnx_runs_converted_weights(dynamo: bool, transformers: Any, tmp_path: Path) -> None:
    """New weights from MindSpore's format, written into a graph exported with others, give the new model's outputs."""
    import torch

    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    graph = exported(tiny(transformers, 1), tmp_path / "graph.onnx", dynamo=dynamo)
    model = tiny(transformers, 2)
    source = save(tmp_path / "pt.safetensors", state(model))
    convert(source, tmp_path / "ms.ckpt", to="mindspore", config="none")
    convert(tmp_path / "ms.ckpt", tmp_path / "out.onnx", to="hf", graph=graph, format="onnx", config="none")
    pytest.importorskip("onnx").checker.check_model(str(tmp_path / "out.onnx"))
    ids, mask, types = batch()
    with torch.no_grad():
        want = model(input_ids=ids, attention_mask=mask, token_type_ids=types)
    logits, relation = outputs(tmp_path / "out.onnx")
    np.testing.assert_allclose(logits, want.prediction_logits.numpy(), atol=2e-5)
    np.testing.assert_allclose(relation, want.seq_relationship_logits.numpy(), atol=2e-5)
    assert not np.allclose(outputs(graph)[0], logits, atol=1e-2), "the graph's own weights gave something else"


@EXPORTS
@EXPORTERS
def test_onnx_as_a_source(dynamo: bool, transformers: Any, tmp_path: Path) -> None:
    """An exported model converts to what its state dict converts to."""
    pytest.importorskip("onnxscript")
    model = tiny(transformers, 3)
    onnx = exported(model, tmp_path / "model.onnx", dynamo=dynamo)
    direct = save(tmp_path / "pt.safetensors", state(model))
    convert(direct, tmp_path / "direct.ckpt", to="mindspore", config="none")
    convert(onnx, tmp_path / "through.ckpt", to="mindspore", config="none")
    want, got = by_mindspore(tmp_path / "direct.ckpt", "ckpt"), by_mindspore(tmp_path / "through.ckpt", "ckpt")
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert same_bits(got[name], value), name


@EXPORTS
def test_anonymous_initializers(transformers: Any, tmp_path: Path) -> None:
    """Without the nodes' scopes a transposed Linear has no name: refused with the reason, named by --like."""
    onnx = pytest.importorskip("onnx")
    model = tiny(transformers, 4)
    loaded = onnx.load(exported(model, tmp_path / "model.onnx", dynamo=False))
    for number, node in enumerate(loaded.graph.node):
        node.name = f"n{number}"
    onnx.save(loaded, tmp_path / "bare.onnx")
    with pytest.raises(MismatchError, match=r"onnx::MatMul_\d+  anonymous: .*--like REFERENCE names it by value"):
        convert(tmp_path / "bare.onnx", tmp_path / "out.ckpt", to="mindspore", config="none")
    assert not (tmp_path / "out.ckpt").exists()
    like = save(tmp_path / "pt.safetensors", state(model))
    convert(tmp_path / "bare.onnx", tmp_path / "again.safetensors", to="hf", like=like, config="none")
    got = by_safetensors(tmp_path / "again.safetensors")
    assert got.keys() == state(model).keys()
    for name, value in state(model).items():
        assert same_bits(got[name], value), name
