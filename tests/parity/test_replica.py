"""Replicas: permuted models compute the same to rounding, undoing gives the same bits, what is left out is caught."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from floor_support import CASES, SEEDS, TRAINED, apart, l2, net, visible

from porting.backends.protocol import Build
from porting.errors import MismatchError, UsageError
from porting.model.dropout import Dropout
from porting.model.names import names_in
from porting.model.registry import models
from porting.parity.axes import parameter_axes
from porting.parity.replica import Replica, permutation, replica_of
from porting.testing.tiny import tiny

pytest.importorskip("torch")

ROUNDING = 5e-6
"""Of taps in float32: ten times what replicas of these tiny models are apart, a tenth of what a wrong epsilon makes."""

# Rows with all keys masked hold scores near -10000, whose steps of 1e-3 a different order of sums may cross.
CROSSING = 5e-5

EXACT = ("embeddings", "query.embeddings", "positions", "loss")
"""Taps that may agree to the bit: gathers, tables, and scalars."""

cases = pytest.mark.parametrize(("name", "task"), CASES)
trained = pytest.mark.parametrize(("name", "task"), TRAINED)
everyone = pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))


def made(case, seed):
    return replica_of(case.spec, case.config, case.build, seed, case.shapes, case.dialect)


@cases
def test_a_permuted_model_computes_the_same_to_rounding(name, task):
    case = net(name, task)
    source, replica = case.run()[0], case.run(made(case, SEEDS[0]))[0]
    distances = {tap: apart(visible(source[tap]), visible(replica[tap])) for tap in source}
    assert all(distance < CROSSING for distance in distances.values()), distances
    assert np.median(list(distances.values())) < ROUNDING
    still = [tap for tap, distance in distances.items() if distance == 0 and source[tap].ndim > 1]
    assert [tap for tap in still if tap not in EXACT] == []


@trained
def test_gradients_of_a_permuted_model_come_back(name, task):
    case = net(name, task)
    source, replica = case.run()[1], case.run(made(case, SEEDS[0]))[1]
    largest = max(l2(grad) for grad in source.values())
    for parameter, grad in source.items():
        # Gradients that vanish but for rounding (of a key's bias) have no size of their own.
        assert l2(grad - replica[parameter]) < 1e-4 * max(l2(grad), 1e-3 * largest), parameter


@cases
def test_everything_that_can_be_permuted_is(name, task):
    case = net(name, task)
    replica = made(case, SEEDS[0])
    moved = {p: replica.parameter(p, tensor) for p, tensor in case.weights.items()}
    same = {p for p in moved if np.array_equal(moved[p], case.weights[p])}
    assert same == set(replica.unmoved)
    for parameter, reason in replica.unmoved.items():
        assert parameter.endswith("bias")
        assert case.weights[parameter].ndim == 1
        assert reason
    assert not any(set(axes.part.sizes) & set(replica.symmetry.fixed) for axes in replica.parameters.values())


@cases
def test_undone_is_the_same_bits(name, task):
    case = net(name, task)
    for seed in SEEDS:
        replica = made(case, seed)
        for parameter, tensor in case.weights.items():
            back = replica.undo_parameter(parameter, replica.parameter(parameter, tensor))
            assert back.tobytes() == tensor.tobytes()


@everyone
def test_a_symmetry_that_lacks_a_row_is_caught(name):
    """The test of the test: with any one cell left out, or read as another, the model computes something else."""
    case = net(name, "classification")
    source = case.run()[0]["logits"]
    whole = made(case, SEEDS[0])
    caught = 0
    for left_out in whole.symmetry.cells:
        symmetry = replace(whole.symmetry, cells=tuple(c for c in whole.symmetry.cells if c != left_out))
        try:
            axes = parameter_axes(case.spec, symmetry, case.dialect, case.shapes)
        except UsageError:  # a label with a prime has no meaning of its own
            caught += 1
            continue
        if axes == whole.parameters:  # a row of another task
            continue
        wrong = Replica(case.spec, symmetry, SEEDS[0], axes)
        assert apart(source, case.run(wrong)[0]["logits"]) > 1e-2, left_out
        caught += 1
    assert caught >= 3


@everyone
def test_a_weight_that_is_left_behind_is_caught(name):
    """Every single one, so that no order is known by one weight only, but the key's bias, which softmax cancels."""
    case = net(name, "classification")
    source, replica = case.run()[0]["logits"], made(case, SEEDS[0])
    for parameter in case.weights:
        if parameter in replica.unmoved or parameter.endswith("key.bias"):
            continue
        found = apart(source, case.run(replica, left_behind=parameter)[0]["logits"])
        assert found > 20 * ROUNDING, (parameter, found)


@everyone
def test_a_seed_is_the_same_reordering_in_every_dialect(name):
    """A weight that both name is permuted alike: kernels of other frameworks lie across."""
    case = net(name, "classification")
    for framework, dialect in case.spec.dialects.items():
        theirs = names_in(case.spec.family, case.dialect, dialect, tuple(case.shapes))
        tensors = {theirs[p].name: (p, _laid(t, theirs[p].name, framework)) for p, t in case.weights.items()}
        tensors = {n: pair for n, pair in tensors.items() if pair[1] is not None}
        shapes = {n: t.shape for n, (_, t) in tensors.items()}
        other = replica_of(case.spec, case.config, case.build, SEEDS[0], shapes, dialect)
        for own, (parameter, tensor) in tensors.items():
            want = _laid(made(case, SEEDS[0]).parameter(parameter, case.weights[parameter]), own, framework)
            np.testing.assert_array_equal(other.parameter(own, tensor), want, err_msg=own)


def _laid(tensor, name, framework):
    """As the framework lays it: dense kernels of TensorFlow are [in, out]; None for what is one over all layers."""
    if framework == "tensorflow" and any(part in name for part in ("r_w_bias", "r_r_bias", "r_s_bias", "seg_embed")):
        return None
    return tensor.T if framework == "tensorflow" and name.endswith("/kernel") and tensor.ndim == 2 else tensor


@pytest.mark.parametrize("untied", [True, False])
def test_one_tensor_over_all_layers_is_permuted_layer_by_layer(untied):
    """XLNet's r_w_bias in Google's names holds all layers, each in its own order; without untie_r it is one."""
    spec = models()["xlnet"]
    config = tiny(spec, untie_r=untied)
    random = np.random.default_rng(0)
    one = "transformer.layer.{}.rel_attn.r_w_bias"
    kernels = {f"transformer.layer.{i}.rel_attn.{k}": (32, 4, 8) for i in range(2) for k in "qkvor"}
    bias = random.normal(size=(2, 4, 8) if untied else (4, 8)).astype(np.float32)
    google = {f"model/transformer/layer_{i}/rel_attn/{k}/kernel": (32, 4, 8) for i in range(2) for k in "qkvor"}
    seed, build = 3, Build("encoder")
    joint = replica_of(spec, config, build, seed, {**google, "model/transformer/r_w_bias": bias.shape}, "google")
    moved = joint.parameter("model/transformer/r_w_bias", bias)
    shapes = {**kernels, one.format(0): (4, 8), one.format(1): (4, 8)}
    each = replica_of(spec, config, build, seed, shapes, "kit_pt")
    for layer in range(2):
        tensor, want = (bias[layer], moved[layer]) if untied else (bias, moved)
        np.testing.assert_array_equal(each.parameter(one.format(layer), tensor), want)
    assert joint.undo_parameter("model/transformer/r_w_bias", moved).tobytes() == bias.tobytes()
    if untied:
        apart = [each.parameter(one.format(layer), bias[0]) for layer in range(2)]
        assert not np.array_equal(*apart)


def test_heads_move_as_blocks_and_their_units_within_them():
    case = net("bert", "classification")
    replica = made(case, SEEDS[0])
    name = "bert.encoder.layer.0.attention.self.query.bias"
    head, unit = (permutation(SEEDS[0], f"layer.0.{label}", size) for label, size in (("head", 4), ("match", 8)))
    moved = replica.parameter(name, np.arange(32, dtype=np.float32)).reshape(4, 8)
    np.testing.assert_array_equal(moved, head[:, None] * 8 + unit)


def test_a_permutation_is_never_the_identity():
    drawn = [permutation(seed, "head", 2) for seed in range(20)]
    assert all(order.tolist() == [1, 0] for order in drawn)
    assert permutation(0, "head", 1).tolist() == [0]
    assert permutation(0, "a", 40).tolist() != permutation(0, "b", 40).tolist()


def test_memories_stand_in_the_order_of_the_hidden_axis_and_of_the_examples():
    case = net("xlnet", "encoder")
    mems, ids, replica = case.batch["mems"], case.batch["input_ids"], made(case, SEEDS[0])
    examples = permutation(SEEDS[0], "batch", len(ids))
    moved = replica.feature("mems", mems)
    np.testing.assert_array_equal(moved, mems[:, :, examples][..., permutation(SEEDS[0], "hidden", 32)])
    np.testing.assert_array_equal(replica.feature("input_ids", ids), ids[examples])


def test_a_model_without_a_symmetry_is_told_what_to_declare():
    case = net("bert", "encoder")
    bare = replace(case.spec, symmetry=None)
    with pytest.raises(UsageError, match=r"bert: no replicas.*declares no `symmetry`.*porting\.model\.symmetry"):
        replica_of(bare, case.config, case.build, 0, case.shapes, case.dialect)


def test_names_of_another_model_are_listed():
    case = net("bert", "encoder")
    with pytest.raises(MismatchError, match=r"(?s)bert: not hf names of family bert.*stranger"):
        replica_of(case.spec, case.config, case.build, 0, {**case.shapes, "stranger": (3,)}, case.dialect)


def test_dropout_is_refused():
    case = net("bert", "encoder")
    build = Build("encoder", dropout=Dropout("shared", 1))
    with pytest.raises(UsageError, match="a replica has no dropout of the source"):
        replica_of(case.spec, case.config, build, 0, case.shapes, case.dialect)


def test_a_tensor_of_another_size_is_named():
    case = net("bert", "encoder")
    replica = made(case, 0)
    name = "bert.embeddings.LayerNorm.weight"
    with pytest.raises(UsageError, match=r"bert.embeddings.LayerNorm.weight: an axis of 31, wanted hidden 32"):
        replica.parameter(name, np.zeros(31, np.float32))
    with pytest.raises(UsageError, match=r"LayerNorm.weight: wanted 1 axes, got shape \(32, 1\)"):
        replica.parameter(name, np.zeros((32, 1), np.float32))
    with pytest.raises(UsageError, match="no tap nothing"):
        replica.undo_tap("nothing", np.zeros(1))
    with pytest.raises(UsageError, match="tap pooled has 1 axes, wanted pooled : batch pooled"):
        replica.undo_tap("pooled", np.zeros(1))


def test_labels_that_the_symmetry_leaves_open_are_listed():
    case = net("bert", "classification")
    symmetry = replace(case.spec.symmetry(case.config, case.build), cells=(), fixed={})
    with pytest.raises(UsageError, match=r"(?s)bert: its symmetry leaves axes open.*kernel: hidden'") as error:
        parameter_axes(case.spec, symmetry, case.dialect, case.shapes)
    assert "embeddings/word_embeddings: vocab" in str(error.value)
