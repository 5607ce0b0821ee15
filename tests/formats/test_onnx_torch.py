"""ONNX against torch's exporters: every parameter under its name with its bits, and new weights into the graph."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from porting.checkpoint.onnx.names import name_by_value
from porting.checkpoint.onnx.scopes import module_path
from porting.checkpoint.registry import read
from porting.checkpoint.write import as_entry, write
from porting.errors import MismatchError
from porting.testing.formats import same_bits

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:.*legacy TorchScript-based ONNX export.*"),
    pytest.mark.filterwarnings("ignore:.*onnxscript.*"),
]

Weights = dict[str, np.ndarray[Any, Any]]
EXPORTERS = pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])


@pytest.fixture(scope="module")
def torch():
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    return pytest.importorskip("torch")


def export(
    torch, module, inputs: tuple[Any, ...], path: Path, *, dynamo: bool, axes: tuple[str, ...] = ("b", "s")
) -> Path:
    """Export with all leading axes dynamic and the inputs called i0, i1 …"""
    names = [f"i{k}" for k in range(len(inputs))]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if dynamo:
            dims = {k: torch.export.Dim(name) for k, name in enumerate(axes)}
            shapes = tuple(dims for _ in inputs)
            torch.onnx.export(module.eval(), inputs, path, dynamo=True, input_names=names, dynamic_shapes=shapes)
        else:
            dims = {name: dict(enumerate(axes)) for name in names}
            torch.onnx.export(module.eval(), inputs, path, dynamo=False, input_names=names, dynamic_axes=dims)
    return path


def weights(module) -> Weights:
    return {name: value.detach().numpy().copy() for name, value in module.state_dict().items()}


def redraw(torch, module, seed: int) -> None:
    torch.manual_seed(seed)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)


def run(path: Path, inputs: tuple[Any, ...]) -> list[np.ndarray[Any, Any]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {f"i{k}": value.numpy() for k, value in enumerate(inputs)})


@pytest.fixture(scope="module")
def traps(torch):
    """Square everything, a Sequential in a list, a ModuleDict, fused projections, a layer that two modules share."""

    class Traps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            linear = torch.nn.Linear
            self.emb = torch.nn.Embedding(8, 8)
            self.blocks = torch.nn.ModuleList(
                [torch.nn.Sequential(linear(8, 8), torch.nn.Sequential(linear(8, 8)))] * 1
            )
            self.named = torch.nn.ModuleDict({"a": linear(8, 8)})
            self.mha = torch.nn.MultiheadAttention(8, 2, batch_first=True)
            self.norm = torch.nn.LayerNorm(8)
            self.plain = linear(8, 8, bias=False)
            self.free = torch.nn.Parameter(torch.zeros(8, 8))
            self.tied = linear(8, 8, bias=False)
            self.tied.weight = self.emb.weight

        def forward(self, ids):
            hidden = self.named["a"](self.blocks[0](self.emb(ids)))
            hidden, _ = self.mha(hidden, hidden, hidden)
            hidden = self.plain(self.norm(hidden)) @ self.free
            return self.tied(hidden), self.plain(hidden[:, 0])

    module = Traps()
    redraw(torch, module, 1)
    return module


@pytest.fixture(scope="module")
def ids(torch):
    return (torch.randint(0, 8, (2, 5), generator=torch.Generator().manual_seed(0)),)


@pytest.fixture(scope="module")
def bert(torch):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=32,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        attn_implementation="eager",
    )

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = transformers.BertModel(config)

        def forward(self, ids, mask):
            out = self.bert(input_ids=ids, attention_mask=mask)
            return out[0], out[1]

    return Wrapped()


@pytest.fixture(scope="module")
def tokens(torch):
    ids = torch.randint(0, 32, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    return ids, mask


def check_names(path: Path, want: Weights) -> None:
    checkpoint = read(path)
    assert checkpoint.metadata["anonymous"] == {}
    for name, array in want.items():
        assert same_bits(np.asarray(checkpoint[name].read()), array), name
        if array.ndim == 2:
            assert same_bits(np.asarray(checkpoint[name].read((slice(1, 3), slice(0, 2)))), array[1:3, 0:2]), name
    assert set(checkpoint) - set(want) <= set(checkpoint.metadata["constants"])


@EXPORTERS
def test_traps_come_back_by_name(torch, traps, ids, tmp_path: Path, dynamo: bool) -> None:
    path = export(torch, traps, ids, tmp_path / "m.onnx", dynamo=dynamo)
    check_names(path, weights(traps))
    renamed = read(path).metadata["renamed"]
    assert renamed["named.a.weight"]["transposed"]
    assert renamed["mha.in_proj_weight"]["transposed"]
    assert "free" not in renamed


@EXPORTERS
def test_bert_comes_back_by_name(torch, bert, tokens, tmp_path: Path, dynamo: bool) -> None:
    redraw(torch, bert, 2)
    path = export(torch, bert, tokens, tmp_path / "m.onnx", dynamo=dynamo)
    check_names(path, weights(bert))


@EXPORTERS
def test_new_weights_run_like_torch(torch, bert, tokens, tmp_path: Path, dynamo: bool) -> None:
    redraw(torch, bert, 3)
    graph = export(torch, bert, tokens, tmp_path / "graph.onnx", dynamo=dynamo)
    redraw(torch, bert, 4)
    new = weights(bert)
    with torch.no_grad():
        want = bert(*tokens)
    for external in (False, True):
        out = tmp_path / f"{external}.onnx"
        write(out, new, format="onnx", graph=graph, extra={"external": external})
        check_names(out, new)
        assert (tmp_path / f"{external}.onnx.data").exists() == external
        for got, expected in zip(run(out, tokens), want, strict=True):
            np.testing.assert_allclose(got, expected.numpy(), atol=2e-5)


@EXPORTERS
def test_new_weights_into_the_traps(torch, traps, ids, tmp_path: Path, dynamo: bool) -> None:
    graph = export(torch, traps, ids, tmp_path / "graph.onnx", dynamo=dynamo)
    before = weights(traps)
    redraw(torch, traps, 5)
    write(tmp_path / "out.onnx", weights(traps), format="onnx", graph=graph)
    with torch.no_grad():
        want = traps(*ids)
    redraw(torch, traps, 1)
    assert all(same_bits(a, b) for a, b in zip(weights(traps).values(), before.values(), strict=True))
    for got, expected in zip(run(tmp_path / "out.onnx", ids), want, strict=True):
        np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)


@EXPORTERS
def test_a_graph_whose_equal_tensors_were_merged(torch, tmp_path: Path, dynamo: bool) -> None:
    """A freshly initialised model has equal biases and norms; exporters merge them, trained weights part them."""

    class Fresh(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList([torch.nn.Linear(8, 8) for _ in range(3)])
            self.norms = torch.nn.ModuleList([torch.nn.LayerNorm(8) for _ in range(3)])

        def forward(self, x):
            for layer, norm in zip(self.layers, self.norms, strict=True):
                x = norm(layer(x))
            return x

    module = Fresh()
    for layer in module.layers:
        torch.nn.init.zeros_(layer.bias)
    inputs = (torch.randn(2, 5, 8),)
    graph = export(torch, module, inputs, tmp_path / "graph.onnx", dynamo=dynamo)
    check_names(graph, weights(module))
    merged = [entry for entry in read(graph).values() if entry.tied]
    assert len(merged) >= 4
    redraw(torch, module, 6)
    write(tmp_path / "out.onnx", weights(module), format="onnx", graph=graph)
    check_names(tmp_path / "out.onnx", weights(module))
    with torch.no_grad():
        want = module(*inputs).numpy()
    np.testing.assert_allclose(run(tmp_path / "out.onnx", inputs)[0], want, atol=1e-5)


def test_a_shared_weight_takes_one_value_only(torch, tmp_path: Path) -> None:
    """A layer called twice has two initializers of one name; both get the new tensor, or neither."""
    layer = torch.nn.Linear(4, 4)

    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = layer

        def forward(self, x):
            return self.fc(self.fc(x)[:, 0])

    inputs = (torch.randn(2, 5, 4),)
    graph = export(torch, Twice(), inputs, tmp_path / "graph.onnx", dynamo=False)
    checkpoint = read(graph)
    assert set(checkpoint) == {"fc.weight", "fc.bias"}
    assert list(checkpoint.metadata["copies"].values()) == ["fc.weight"]
    redraw(torch, layer, 7)
    write(
        tmp_path / "out.onnx",
        {f"fc.{name}": array for name, array in weights(layer).items()},
        format="onnx",
        graph=graph,
    )
    with torch.no_grad():
        want = layer(layer(*inputs)[:, 0]).numpy()
    np.testing.assert_allclose(run(tmp_path / "out.onnx", inputs)[0], want, atol=1e-5)


@pytest.fixture(scope="module")
def folded(torch, tmp_path_factory: pytest.TempPathFactory):
    """A graph with weights that no consumer names: products of a transposed parameter at the root."""

    class Folded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = torch.nn.Parameter(torch.randn(6, 6))
            self.right = torch.nn.Parameter(torch.randn(6, 6))
            self.even = torch.nn.Parameter(torch.eye(6) + 1)

        def forward(self, x):
            return x @ self.left.T @ self.right.T @ self.even.T

    module = Folded()
    path = export(torch, module, (torch.randn(2, 5, 6),), tmp_path_factory.mktemp("folded") / "m.onnx", dynamo=False)
    return path, weights(module)


def test_what_nothing_names_stays_anonymous(folded) -> None:
    path, want = folded
    checkpoint = read(path)
    assert len(checkpoint.metadata["anonymous"]) == 3
    assert set(checkpoint.metadata["anonymous"]) == set(checkpoint)
    assert not set(want) & set(checkpoint)


def test_names_by_value(folded) -> None:
    path, want = folded
    like = {name: as_entry(name, array) for name, array in want.items()}
    named = name_by_value(read(path), like)
    assert all(same_bits(np.asarray(named[name].read()), want[name]) for name in ("left", "right"))
    assert named.metadata["renamed"]["left"]["transposed"]
    reasons = named.metadata["anonymous"]
    assert list(reasons.values()) == ["equals even, even transposed"]
    assert set(named) == {"left", "right", *reasons}


def test_names_by_value_take_no_near_miss(folded) -> None:
    path, want = folded
    near = want["left"].copy()
    near[0, 0] = np.nextafter(near[0, 0], np.float32(9))
    like = {
        "left": as_entry("left", near),
        "twin": as_entry("twin", want["right"]),
        "right": as_entry("right", want["right"]),
    }
    reasons = name_by_value(read(path), like).metadata["anonymous"]
    assert sorted(reasons.values()) == [
        "equals no tensor of the reference",
        "equals no tensor of the reference",
        "equals twin transposed, right transposed",
    ]


def test_an_anonymous_weight_must_be_given_to_write(folded, tmp_path: Path) -> None:
    path, want = folded
    with pytest.raises(MismatchError) as caught:
        write(tmp_path / "out.onnx", {"left": want["left"]}, format="onnx", graph=path)
    assert sum("missing, an anonymous weight of the graph" in line for line in caught.value.problems) == 3
    assert caught.value.problems[-1] == "left: the graph has no such initializer"


def test_a_parameter_folded_away_is_not_invented(torch, tmp_path: Path) -> None:
    """With fixed shapes dynamo folds whole expressions of parameters; what they were is not in the file."""

    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.randn(4))
            self.shift = torch.nn.Parameter(torch.randn(4))

        def forward(self, x):
            return x + self.scale * self.shift

    path = export(torch, Scaled(), (torch.randn(2, 4),), tmp_path / "m.onnx", dynamo=True, axes=("b",))
    checkpoint = read(path)
    assert not {"scale", "shift"} & set(checkpoint)
    ((name, reason),) = checkpoint.metadata["anonymous"].items()
    assert name in checkpoint
    assert "computed from scale, shift" in reason


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ("bert/encoder/layer.0/attention/self/query", "bert.encoder.layer.0.attention.self.query"),
        ("seq/seq.1/seq.1.0", "seq.1.0"),
        ("seq/seq.0/seq/seq.1", "seq.0.seq.1"),
        ("nets.0/lin", "nets.0.lin"),
        ("0", "0"),
    ],
)
def test_scopes_are_module_paths(scope: str, path: str) -> None:
    assert module_path(scope.split("/")) == path
