import ast
import json
from pathlib import Path

import numpy as np
import pytest

from porting.checkpoint.write import write
from porting.convert.convert import convert
from porting.convert.match import match_as
from porting.convert.notation import Cell
from porting.convert.proposal.fingerprint import fingerprint, total
from porting.convert.proposal.patterns import patterns
from porting.convert.registry import families
from porting.convert.rule import derive
from porting.convert.suggest import suggest, suggestion_lines
from porting.convert.table import Dialect, Family, group, row, scope
from porting.testing.synthetic import entry_of

GOLDEN = Path(__file__).parents[1] / "golden"


def files(folder, a, b):
    write(folder / "a.npz", a, format="npz")
    write(folder / "b.npz", b, format="npz")
    return suggest(folder / "a.npz", folder / "b.npz")


def noise(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def cells(found):
    return {(line.a, line.b) for line in found.rows}


def true_steps(family, source, target, names):
    """From each source name to the steps that the real table derives."""
    table = families()[family]
    match = match_as(names, table, table.dialect(source))
    return {
        name: derive(found.forms[0].cell, found.row.cells[target][0].cell).steps
        for model in match.models
        for found in model.found.values()
        if target in found.row.cells
        for name in found.names.values()
    }


def plain(steps):
    """Steps without the labels that a proposal cannot know: `transpose`, `stack layer`, `permute`."""
    return tuple(step if step.startswith("stack") else step.split()[0] for step in steps)


@pytest.mark.parametrize(
    ("family", "source", "columns", "checkpoint"),
    [
        ("bert", "google", ("hf", "modelzoo"), "bert_a1/bert_model.ckpt"),
        ("xlnet", "google", ("hf", "kit_ms"), "xlnet_b1/xlnet_model.ckpt"),
        ("tinybert", "modelzoo", ("kit_tf",), "tinybert_c1/student_gd.ckpt"),
    ],
)
def test_the_real_tables_are_found_again(tmp_path, family, source, columns, checkpoint):
    for column in columns:
        ledger = convert(GOLDEN / checkpoint, tmp_path / column, to=column)
        found = suggest(GOLDEN / checkpoint, tmp_path / column)
        assert found.ambiguous == ()
        assert all(line.evidence == "values" for line in found.rows)
        assert sum(line.tensors[1] for line in found.rows) == len(ledger.tensors)
        wanted = true_steps(family, source, column, tuple(tensor.name for tensor in ledger.read))
        for line in found.rows:
            one, two = Cell.parse(line.a), Cell.parse(line.b)
            name = next(name for name in wanted if one.match(name) is not None)
            assert plain(derive(one, two).steps) == plain(wanted[name]), line


def test_the_proposal_is_a_table_that_converts(tmp_path):
    convert(GOLDEN / "xlnet_b1/xlnet_model.ckpt", tmp_path / "x.safetensors", to="hf")
    found = suggest(GOLDEN / "xlnet_b1/xlnet_model.ckpt", tmp_path / "x.safetensors")
    rows = [row(a=line.a, b=line.b) for line in found.rows]
    dialects = (Dialect("a", "tensorflow", (scope(),)), Dialect("b", "pytorch", (scope(),)))
    made = Family("proposed", dialects, (group("all", *rows, required=True),), labels={})
    assert len(list(made.rows())) == len(found.rows)
    text = "\n".join(suggestion_lines(found, ("google", "hf")))
    ast.parse(f"(\n{text}\n)")
    json.dumps(found.to_json(), allow_nan=False)


def test_what_is_initialised_alike_is_ambiguous(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.XLNetConfig(vocab_size=101, d_model=32, n_layer=3, n_head=4, d_inner=64)
    state = transformers.XLNetLMHeadModel(config).state_dict()
    write(tmp_path / "x.safetensors", {k: v.numpy().copy() for k, v in state.items()}, format="safetensors")
    convert(tmp_path / "x.safetensors", tmp_path / "x.ckpt", to="google")
    found = suggest(tmp_path / "x.ckpt", tmp_path / "x.safetensors")
    assert any("rel_attn/q/kernel" in line.a for line in found.rows)
    assert any(line.a == "model/transformer/r_w_bias : layer d4 d8" for line in found.rows)
    assert not any("LayerNorm" in line.a for line in found.rows), "all gammas are 1: no value tells them apart"
    norms = [one for one in found.ambiguous if "LayerNorm/gamma" in one.options[0].a]
    assert len(norms) == 2
    assert all(len(one.others) == 1 for one in norms)
    tied = next(one for one in found.ambiguous if "lookup_table" in one.options[0].a)
    assert tied.others == ("lm_loss.weight",)


def test_a_square_matrix_is_decided_by_values(tmp_path):
    w = noise(6, 6)
    found = files(tmp_path, {"k": w, "straight": noise(6, 6, seed=1)}, {"w": w.T, "same": noise(6, 6, seed=1)})
    assert cells(found) == {
        ("k : hidden hidden'", "w : hidden' hidden"),
        ("straight : hidden hidden'", "same : hidden hidden'"),
    }


def test_a_square_matrix_without_values_is_shown_both_ways(tmp_path):
    found = files(tmp_path, {"dense/kernel": noise(6, 6)}, {"dense.weight": noise(6, 6, seed=1)})
    assert found.rows == ()
    (one,) = found.ambiguous
    assert one.reason.startswith("square")
    assert {line.b for line in one.options} == {"dense.weight : hidden hidden'", "dense.weight : hidden' hidden"}
    text = suggestion_lines(found)
    assert not any(line.startswith("row(") for line in text)
    assert sum(line.startswith("# row(") for line in text) == 2


def test_a_symmetric_matrix_is_ambiguous_whatever_its_values(tmp_path):
    found = files(tmp_path, {"k": np.eye(5, dtype=np.float32)}, {"w": np.eye(5, dtype=np.float32)})
    assert found.rows == ()
    assert found.ambiguous[0].reason == "the values agree in more than one order of axes"


def test_zero_biases_are_listed_with_their_rivals(tmp_path):
    zeros = np.zeros(7, np.float32)
    found = files(tmp_path, {"a/bias": zeros, "b/bias": zeros}, {"a.bias": zeros, "b.bias": zeros})
    assert found.rows == ()
    pairs = {(one.options[0].a, one.options[0].b, one.others) for one in found.ambiguous}
    assert pairs == {
        ("a/bias : hidden", "a.bias : hidden", ("b.bias",)),
        ("b/bias : hidden", "b.bias : hidden", ("a.bias",)),
    }


@pytest.mark.parametrize("swap", [False, True])
def test_stacked_fused_shared_and_folded(tmp_path, swap):
    stack, shared = noise(4, 3, 5), noise(9)
    parts = [[noise(6, 8, seed=10 * layer + i) for i in range(3)] for layer in range(4)]
    kernel = noise(8, 2, 11)
    a = {"stack": stack, "shared": shared, "o": kernel} | {
        f"layer_{i}/qkv": np.concatenate([parts[i][2], parts[i][0], parts[i][1]]) for i in range(4)
    }
    b = {f"l.{i}.s": np.ascontiguousarray(stack[i].T) for i in range(4)}
    b |= {f"l.{i}.shared": shared for i in range(4)}
    b |= {f"l.{i}.{word}": parts[i][k] for i in range(4) for k, word in enumerate("qkv")}
    b |= {"o": np.ascontiguousarray(kernel.transpose(1, 2, 0)).reshape(22, 8)}
    found = files(tmp_path, b, a) if swap else files(tmp_path, a, b)
    assert found.ambiguous == ()
    rows = {(line.b, line.a) for line in found.rows} if swap else cells(found)
    by_a = {one.split(" :")[0]: (Cell.parse(one), Cell.parse(two)) for one, two in rows}
    assert derive(*by_a["stack"]).steps[0] == "split layer"
    assert derive(*by_a["shared"]).steps == ("replicate over layer",)
    assert str(by_a["layer_{layer}/qkv"][1].fields[1].words) == "('v', 'q', 'k')"
    assert derive(*by_a["layer_{layer}/qkv"]).steps[1] == "split part"
    assert derive(*by_a["o"]).steps[-1].startswith("fold")


def test_names_and_shapes_serve_where_values_differ(tmp_path):
    a = {f"layer_{i}/{n}": noise(*s, seed=i) for i in range(2) for n, s in (("fc1/kernel", (4, 6)), ("fc1/bias", (6,)))}
    b = {
        f"layer.{i}.{n}": noise(*s, seed=9 + i)
        for i in range(2)
        for n, s in (("fc1.weight", (6, 4)), ("fc1.bias", (6,)))
    }
    found = files(tmp_path, a, b)
    assert {line.evidence for line in found.rows} == {"names"}
    assert {(Cell.parse(x.a).rank, derive(Cell.parse(x.a), Cell.parse(x.b)).steps) for x in found.rows} == {
        (2, ("transpose",)),
        (1, ("copy",)),
    }
    assert any("by name and shape alone" in line for line in suggestion_lines(found))


def test_alike_names_of_one_shape_are_not_guessed(tmp_path):
    found = files(tmp_path, {"x1y": noise(5), "x2y": noise(5, seed=1)}, {"u": noise(5, seed=2), "v": noise(5, seed=3)})
    assert found.rows == ()
    assert len(found.ambiguous) == 2


def test_what_has_no_counterpart_is_listed(tmp_path):
    found = files(tmp_path, {"x": noise(3), "layer.0.y": noise(4), "layer.1.y": noise(4)}, {"z": noise(5)})
    assert found.only_a == ("x", "layer.{0-1}.y")
    assert found.only_b == ("z",)


def test_inner_numbers_are_no_layers():
    names = [f"layer_{i}/ff/layer_{j}/kernel" for i in range(3) for j in (1, 2)] + ["cls1.w", "cls2.w"]
    found = patterns({name: entry_of(name, noise(2, 3)) for name in names})
    assert [one.template for one in found] == [
        "layer_{layer}/ff/layer_1/kernel",
        "layer_{layer}/ff/layer_2/kernel",
        "cls1.w",
        "cls2.w",
    ]
    assert [one.counts for one in found] == [(3,), (3,), (), ()]


def test_a_layer_that_only_some_have_is_no_field():
    names = [f"block.{i}.{part}" for i in range(3) for part in ("q", "k", "v")] + ["block.0.extra"]
    found = {one.template: one.counts for one in patterns({n: entry_of(n, noise(2)) for n in names})}
    assert found["block.0.extra"] == ()
    assert found["block.{layer}.q"] == (3,)


def test_experts_within_layers():
    names = [f"layers.{i}.experts.{j}.w" for i in range(2) for j in range(4)]
    (one,) = patterns({n: entry_of(n, noise(2)) for n in names})
    assert (one.template, one.counts) == ("layers.{layer}.experts.{item}.w", (2, 4))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "float64", "complex128", "bool"])
def test_fingerprints_ignore_order_and_add_up(dtype):
    values = noise(40, 30).astype(dtype)
    one = fingerprint(entry_of("x", values))
    assert one == fingerprint(entry_of("y", np.ascontiguousarray(values.T)))
    halves = [fingerprint(entry_of("x", np.ascontiguousarray(half))) for half in np.split(values, 2)]
    assert total(halves) == one
    other = values.copy()
    other[3, 4] = not other[3, 4] if dtype == "bool" else other[3, 4] + 1
    assert fingerprint(entry_of("x", other)) != one


def test_labels_do_not_claim_what_names_do_not_say(tmp_path):
    a = {"token_type_embeddings": noise(2, 8), "word_embeddings": noise(30, 8), "seq_relationship": noise(2, 8, seed=1)}
    found = files(tmp_path, a, {f"x.{name}": value for name, value in a.items()})
    texts = {line.a for line in found.rows}
    assert texts == {
        "token_type_embeddings : token_types hidden",
        "word_embeddings : vocab hidden",
        "seq_relationship : d2 hidden",
    }
