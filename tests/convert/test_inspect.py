import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.registry import read
from porting.checkpoint.write import write
from porting.convert.convert import convert
from porting.convert.inspect import inspect
from porting.convert.inspect_text import inspection_lines
from porting.convert.stats import merged, tensor_stats
from porting.errors import FormatError, UsageError
from porting.testing.formats import random_bits
from porting.testing.synthetic import entry_of

GOLDEN = Path(__file__).parents[1] / "golden"
TEACHER = GOLDEN / "tinybert_c1/teacher_pretrained.ckpt"


def test_a_google_bert_with_its_optimizer():
    found = inspect(GOLDEN / "bert_a1/finetuned.ckpt")
    assert (found.format, found.family, found.dialect) == ("tf-bundle", "bert", "google")
    assert found.models[0].groups == ("backbone", "pooler", "classifier")
    assert found.models[0].absent == ("mlm", "nsp", "squad")
    assert found.models[0].config["hidden_size"] == 32
    assert found.slots is not None
    assert found.slots.optimizer == "AdamWeightDecayOptimizer"
    assert found.slots.roles == {"m": 41, "v": 41}
    assert found.slots.scalars == {"step": "global_step"}
    assert found.parameters == 22755
    assert found.problems == found.unknown == ()
    assert {name for name, _ in found.files} == {"finetuned.ckpt.index", "finetuned.ckpt.data-00000-of-00001"}


def test_what_shapes_cannot_tell_is_unknown():
    found = inspect(GOLDEN / "tinybert_c1/student_gd.ckpt", config="none")
    assert found.models[0].name == "student"
    assert found.models[0].config["num_labels"] == "unknown"


def test_both_models_of_a_distillation_net(tmp_path):
    teacher = {f"teacher.{name.removeprefix('bert.')}": e.read() for name, e in read(TEACHER).items()}
    student = {name: e.read() for name, e in read(GOLDEN / "tinybert_c1/student_gd.ckpt").items()}
    write(tmp_path / "net.ckpt", {**teacher, **student}, format="mindspore-ckpt")
    found = inspect(tmp_path / "net.ckpt", config="none")
    assert {model.name: model.config["hidden_size"] for model in found.models} == {"teacher": 32, "student": 20}
    assert sum(line.startswith("  scope") for line in inspection_lines(found)) == 2


def test_layers_collapse_unless_their_shapes_differ(tmp_path):
    arrays = {f"layer.{i}.w": np.zeros((2, 3), np.float32) for i in range(4)} | {
        "layer.4.w": np.zeros((3, 2), np.float32)
    }
    write(tmp_path / "odd.npz", arrays, format="npz")
    lines = inspect(tmp_path / "odd.npz").tensors
    assert [(line.name, len(line.names), line.shape) for line in lines] == [
        ("layer.{0-3}.w", 4, (2, 3)),
        ("layer.4.w", 1, (3, 2)),
    ]


def test_a_file_of_no_family_is_still_inspected(tmp_path):
    write(tmp_path / "x.npz", {"a": np.ones((2, 2), np.float16), "b": np.zeros(3, np.int64)}, format="npz")
    found = inspect(tmp_path / "x.npz")
    assert found.family is None
    assert found.problems == ("no family fits these names",)
    assert found.dtypes == {"float16": 1, "int64": 1}
    assert found.nbytes == 32
    assert "none fits" in "\n".join(inspection_lines(found))


def test_contradictions_are_reported_not_raised(tmp_path):
    convert(GOLDEN / "bert_a1/bert_model.ckpt", tmp_path / "m.safetensors", to="hf")
    (tmp_path / "config.json").write_text('{"vocab_size": 30522}')
    found = inspect(tmp_path / "m.safetensors")
    assert any("vocab: config.json says 30522, the checkpoint has 97" in problem for problem in found.problems)
    (tmp_path / "config.json").write_text("{")
    assert any("wanted JSON" in problem for problem in inspect(tmp_path / "m.safetensors").problems)


def test_names_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(UsageError, match="family nonsense: not known"):
        inspect(GOLDEN / "bert_a1/bert_model.ckpt", family="nonsense")
    with pytest.raises(UsageError, match="dialect nonsense: not known in bert"):
        inspect(GOLDEN / "bert_a1/bert_model.ckpt", family="bert", source_dialect="nonsense")
    with pytest.raises(FormatError, match="no such file"):
        inspect(tmp_path / "nothing")


def test_non_finite_values_are_named(tmp_path):
    layers = {f"layer.{i}.w": np.ones(8, np.float32) for i in range(3)}
    layers["layer.1.w"][:3] = np.nan
    layers["layer.2.w"][0] = -np.inf
    write(tmp_path / "x.npz", layers, format="npz")
    found = inspect(tmp_path / "x.npz", stats=True)
    assert found.non_finite == ("3 NaN in layer.1.w", "1 Inf in layer.2.w")
    (line,) = found.tensors
    assert (line.stats.count, line.stats.nan, line.stats.inf, line.stats.low, line.stats.high) == (24, 3, 1, 1.0, 1.0)
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int8", "int64", "bool", "bfloat16", "complex64"])
def test_statistics_agree_with_numpy(dtype):
    random = np.random.default_rng(3)
    values = random.normal(3, 2, (700, 901))
    if dtype == "bfloat16":
        ml_dtypes = pytest.importorskip("ml_dtypes")
        array = values.astype(ml_dtypes.bfloat16)
    else:
        array = values.astype(dtype)
    stats = tensor_stats(entry_of("x", array))
    flat = array.reshape(-1)
    flat = flat.view(np.float32).astype(np.float64) if dtype == "complex64" else flat.astype(np.float64)
    assert (stats.low, stats.high) == (flat.min(), flat.max())
    assert stats.mean == pytest.approx(flat.mean(), rel=1e-9)
    assert stats.std == pytest.approx(flat.std(), rel=1e-9)
    assert stats.zeros == np.count_nonzero(flat == 0)


@pytest.mark.parametrize("dtype", sorted(set(DTYPES) - {"string"}))
def test_statistics_of_any_bits_of_any_dtype(dtype):
    array = random_bits(dtype, (300, 7))
    stats = tensor_stats(entry_of("x", array))
    assert stats.count == array.size * (2 if DTYPES[dtype].kind == "complex" else 1)
    assert stats.finite + stats.nan + stats.inf == stats.count


def test_statistics_of_nothing_and_of_large_integers():
    empty = tensor_stats(entry_of("x", np.zeros((0, 3), np.float32)))
    assert (empty.count, empty.low, empty.std) == (0, None, None)
    assert tensor_stats(entry_of("x", np.full(4, np.nan, np.float32))).mean is None
    assert merged([]).count == 0
    big = np.array([2**62 + 1, -5], np.int64)
    assert tensor_stats(entry_of("x", big)).high == 2**62 + 1


def test_statistics_are_streamed(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2500, 4000), np.float32))
    write(tmp_path / "x.safetensors", {"w": np.load(tmp_path / "x.npy", mmap_mode="r")}, format="safetensors")
    tracemalloc.start()
    inspect(tmp_path / "x.safetensors", stats=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_the_text_is_aligned():
    lines = inspection_lines(inspect(GOLDEN / "xlnet_b1/xlnet_model.ckpt", stats=True))
    head = next(line for line in lines if line.startswith("tensor "))
    at = head.index("shape")
    assert all(line[at - 1] == " " != line[at] for line in lines[lines.index(head) + 1 :])
    assert any(line.startswith("model/transformer/layer_{0-2}/ff/layer_1/kernel  ") for line in lines)
