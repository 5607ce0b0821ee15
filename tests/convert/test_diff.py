import json
import tracemalloc
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.registry import read
from porting.checkpoint.write import as_entry, write
from porting.convert.convert import convert
from porting.convert.diff import diff
from porting.convert.diff_text import difference_lines, summary_line
from porting.convert.values import Tolerance, compare_values
from porting.errors import UsageError
from porting.testing.formats import random_bits
from porting.testing.synthetic import entry_of

GOLDEN = Path(__file__).parents[1] / "golden"
BERT = GOLDEN / "bert_a1/bert_model.ckpt"
CASES = {
    "bert": (BERT, ("google", "hf", "modelzoo", "mindnlp")),
    "xlnet": (GOLDEN / "xlnet_b1/xlnet_model.ckpt", ("google", "kit_ms")),
    "tinybert": (GOLDEN / "tinybert_c1/student_gd.ckpt", ("modelzoo", "hf", "kit_tf")),
}


@pytest.fixture(scope="module")
def dialects(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dialects")
    made = {}
    for name, (source, columns) in CASES.items():
        for column in columns:
            made[name, column] = folder / f"{name}.{column}"
            convert(source, made[name, column], to=column)
    return made


@pytest.fixture
def hf(dialects):
    return {name: np.array(entry.read()) for name, entry in read(dialects["bert", "hf"]).items()}


@pytest.fixture
def changed(tmp_path, hf):
    def make(change):
        change(hf)
        write(tmp_path / "changed.safetensors", hf, format="safetensors", overwrite=True)
        return tmp_path / "changed.safetensors"

    return make


@pytest.mark.parametrize("name", CASES)
def test_conversions_are_equal_in_every_direction(dialects, name):
    for one, two in permutations(CASES[name][1], 2):
        found = diff(dialects[name, one], dialects[name, two])
        assert found.equal, difference_lines(found)
        assert found.dialect is not None
        assert summary_line(found).startswith("equal: ")


def test_a_file_equals_itself():
    found = diff(BERT, BERT)
    assert found.equal
    assert found.dialect is None


@pytest.mark.parametrize("backwards", [False, True])
def test_one_value_is_found_across_dialects(changed, backwards):
    name = "bert.encoder.layer.1.intermediate.dense.weight"

    def change(tensors):
        tensors[name][5, 3] += 1

    path = changed(change)
    found = diff(path, BERT) if backwards else diff(BERT, path)
    (one,) = found.different
    assert not found.equal
    assert one.operation == ("transpose",)
    assert one.values.bits == 1
    assert one.values.max_abs == pytest.approx(1)
    assert one.values.worst.index == ((3, 5) if backwards else (5, 3))
    assert "layer" in "\n".join(difference_lines(found))


def test_swapped_gamma_and_beta_are_found_by_name(changed):
    def change(tensors):
        gamma, beta = (f"bert.encoder.layer.0.output.LayerNorm.{x}" for x in ("weight", "bias"))
        tensors[gamma], tensors[beta] = tensors[beta], tensors[gamma]

    found = diff(BERT, changed(change))
    assert {one.name.rsplit(".", 1)[1] for one in found.different} == {"weight", "bias"}


def test_a_square_kernel_left_untransposed_is_found(changed):
    name = "bert.encoder.layer.0.attention.self.key.weight"

    def change(tensors):
        tensors[name] = np.ascontiguousarray(tensors[name].T)

    assert [one.name for one in diff(BERT, changed(change)).different] == [name]


def test_missing_unexpected_shape_and_dtype(changed):
    def change(tensors):
        for layer in (0, 1):
            del tensors[f"bert.encoder.layer.{layer}.output.dense.bias"]
            tensors[f"extra.{layer}.x"] = np.zeros(3, np.float32)
        tensors["bert.embeddings.word_embeddings.weight"] = tensors["bert.embeddings.word_embeddings.weight"][:50]
        tensors["bert.pooler.dense.bias"] = tensors["bert.pooler.dense.bias"].astype(np.float16)

    found = diff(BERT, changed(change))
    assert found.missing == tuple(f"bert.encoder.layer.{i}.output.dense.bias" for i in (0, 1))
    assert found.unexpected == ("extra.0.x", "extra.1.x")
    shaped = {one.name: one.shapes for one in found.different if one.values is None}
    assert shaped == {"bert.embeddings.word_embeddings.weight": ((97, 32), (50, 32))}
    text = "\n".join(difference_lines(found))
    assert "bert.encoder.layer.{0-1}.output.dense.bias" in text
    assert "extra.{0-1}.x" in text
    assert "a float32  b float16" in text
    json.dumps(found.to_json(), allow_nan=False)
    assert not found.equal


def test_a_transposed_source_is_a_shape_difference_not_a_crash(changed):
    name = "bert.encoder.layer.0.intermediate.dense.weight"

    def change(tensors):
        tensors[name] = np.ascontiguousarray(tensors[name].T)

    path = changed(change)
    (one,) = diff(path, BERT).different
    assert one.shapes == ((64, 32), (32, 64))
    assert one.sources == (name,)


def test_a_tolerance_judges_values_and_lets_dtypes_differ(changed):
    def change(tensors):
        for name in tensors:
            tensors[name] = tensors[name].astype(np.float16)

    path = changed(change)
    strict, lenient = diff(BERT, path), diff(BERT, path, atol=1e-3, rtol=1e-3)
    assert not strict.equal
    assert lenient.equal
    assert "dtype:" in "\n".join(difference_lines(lenient))
    assert not diff(BERT, path, atol=1e-12).equal


def test_optimizer_state_is_compared_by_role(tmp_path):
    source = GOLDEN / "bert_a1/finetuned.ckpt"
    convert(source, tmp_path / "with.ckpt", to="modelzoo", with_optimizer=True)
    found = diff(source, tmp_path / "with.ckpt")
    assert found.equal, difference_lines(found)
    assert any(one.name.startswith("adam_m.") for one in found.tensors)
    convert(source, tmp_path / "without.ckpt", to="modelzoo")
    found = diff(source, tmp_path / "without.ckpt")
    assert found.equal
    assert {line.reason for line in found.left_out} == {"optimizer state: b holds none"}


def test_what_a_dialect_cannot_hold_is_named_not_counted(tmp_path):
    source = CASES["xlnet"][0]
    convert(source, tmp_path / "x.safetensors", to="hf")
    found = diff(source, tmp_path / "x.safetensors")
    assert found.equal
    assert any("no attention summary" in line.reason for line in found.left_out)


def test_different_families_are_refused(dialects):
    with pytest.raises(UsageError, match="different families") as error:
        diff(BERT, dialects["xlnet", "kit_ms"])
    assert "\n" not in str(error.value)


def test_tensors_of_no_family_are_compared_by_name(tmp_path):
    write(tmp_path / "a.npz", {"x": np.arange(6), "y": np.ones(2)}, format="npz")
    write(tmp_path / "b.npz", {"x": np.arange(6), "z": np.ones(2)}, format="npz")
    found = diff(tmp_path / "a.npz", tmp_path / "b.npz")
    assert (found.missing, found.unexpected, len(found.tensors)) == (("y",), ("z",), 1)
    assert not found.equal


def test_nothing_compared_is_not_equal(tmp_path):
    write(tmp_path / "a.npz", {"x": np.ones(1)}, format="npz")
    write(tmp_path / "b.npz", {"z": np.ones(1)}, format="npz")
    assert not diff(tmp_path / "a.npz", tmp_path / "b.npz").equal


def values(a, b, tolerance=None):
    return compare_values(entry_of("x", np.asarray(a)), entry_of("x", np.asarray(b)), tolerance)


def test_nan_equals_nan_of_the_same_bits():
    quiet = np.array([0x7FC00000, 0x3F800000], np.uint32).view(np.float32)
    other = np.array([0x7FC00001, 0x3F800000], np.uint32).view(np.float32)
    assert values(quiet, quiet).bits == 0
    assert values(quiet, quiet).nan == (1, 1)
    found = values(quiet, other)
    assert (found.bits, found.one_sided, found.max_abs) == (1, 0, 0.0)
    assert values(quiet, other, Tolerance(0.0)).beyond == 0


def test_nan_on_one_side_is_the_worst_place():
    a = np.zeros((3, 4), np.float32)
    b = a.copy()
    b[0, 0], b[2, 1] = 100, np.nan
    found = values(a, b, Tolerance(1000.0))
    assert (found.nan, found.one_sided, found.max_abs, found.worst.index) == ((0, 1), 1, 100.0, (2, 1))
    assert found.beyond == 1


def test_signed_zero_and_infinities():
    found = values(np.array([0.0, np.inf, np.inf]), np.array([-0.0, np.inf, -np.inf]))
    assert (found.bits, found.one_sided) == (2, 1)
    assert values(np.array([0.0]), np.array([-0.0])).worst.index == (0,)


def test_facts_against_numpy():
    random = np.random.default_rng(5)
    a = random.normal(size=(1100, 900)).astype(np.float32)
    b = (a + random.normal(size=a.shape) * 1e-3).astype(np.float32)
    found, delta = values(a, b), np.abs(a.astype(np.float64) - b)
    assert found.max_abs == delta.max()
    assert found.max_relative == delta.max() / np.abs(a).max()
    assert found.l2_relative == pytest.approx(np.linalg.norm(delta) / np.linalg.norm(a.astype(np.float64)))
    assert found.worst.index == np.unravel_index(delta.argmax(), a.shape)
    assert (found.worst.a, found.worst.b) == (a.flat[delta.argmax()], b.flat[delta.argmax()])


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        (np.array([2**62], np.int64), np.array([2**62 + 1], np.int64), 1.0),
        (np.array([True, False]), np.array([True, True]), 1.0),
        (np.array([1.5], np.float32), np.array([1], np.int8), 0.5),
        (np.array([1 + 2j]), np.array([1 + 5j]), 3.0),
        (np.array([1 + 2j]), np.array([1.0]), 2.0),
    ],
)
def test_other_dtypes(a, b, distance):
    assert values(a, b).max_abs == distance
    assert values(a, b).worst.index == (a.size - 1,)


@pytest.mark.parametrize("dtype", sorted(set(DTYPES) - {"string"}))
def test_any_bits_of_any_dtype(dtype):
    a, b = random_bits(dtype, (90, 7)), random_bits(dtype, (90, 7), 1)
    assert values(a, a.copy()).bits == 0
    found = values(a, b)
    assert 0 < found.bits <= found.count
    assert found.worst is not None
    assert values(a, b, Tolerance(np.inf)).beyond == found.one_sided


def test_strings():
    one, two = (as_entry("s", np.array([b"a", last], object)) for last in (b"b", b"c"))
    assert compare_values(one, one).bits == 0
    found = compare_values(one, two)
    assert (found.bits, found.worst.index, found.worst.a) == (1, (1,), "b'b'")


def test_both_sides_are_streamed(tmp_path):
    big = np.random.default_rng(0).normal(size=(3000, 2500)).astype(np.float32)
    write(tmp_path / "a.safetensors", {"w": big}, format="safetensors")
    big[2999, 2499] += 1
    write(tmp_path / "b.safetensors", {"w": big}, format="safetensors")
    del big
    tracemalloc.start()
    found = diff(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.different[0].values.worst.index == (2999, 2499)
    assert peak < 40 << 20
