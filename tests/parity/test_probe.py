"""The probe shows what it is made for: each mistake deviates by ten floors at least, as measured."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from floor_support import CASES, SEEDS, TRAINED, Net, apart, l2, net

from porting.backends.protocol import Build
from porting.errors import UsageError
from porting.model.batch import check_batch
from porting.model.recipe import Clip
from porting.model.registry import models
from porting.parity.probe import CLIP, STEPS, probe_batch, probe_recipe, probe_weights
from porting.parity.replica import replica_of
from porting.testing.tiny import square, tiny

torch = pytest.importorskip("torch")

SHOWS = 10
"""Floors that a mistake has to make."""

cases = pytest.mark.parametrize(("name", "task"), CASES)
trained = pytest.mark.parametrize(("name", "task"), TRAINED)
ENDS = [
    (name, "pretraining" if name in ("bert", "xlnet") else "classification") for name in sorted({n for n, _ in CASES})
]
"""A task of each model with everything in it that others lack."""
ends = pytest.mark.parametrize(("name", "task"), ENDS)
EPSILONS = (1e-12, 1e-7, 1e-5)
POINTS = torch.tensor([0.5, 1.2, 2.7])


@cache
def floors(name, task, *, squared=False):
    """A net, its taps, and the floor of each: replicas, float64, and the rounding of float32."""
    case = Net(name, task, square(models()[name])) if squared else net(name, task)
    source = case.forward()
    others = [case.run(_replica(case, seed))[0] for seed in SEEDS] + [case.truth()[0]]
    found = {tap: max(2.0**-24, *(apart(source[tap], other[tap]) for other in others)) for tap in source}
    return case, source, found


def _replica(case, seed):
    return replica_of(case.spec, case.config, case.build, seed, case.shapes, case.dialect)


def shown(case, source, floor, weights=None):
    """The most floors that the net, as it is now, deviates by on any tap."""
    mutant = case.forward(weights)
    return max(apart(source[tap], mutant[tap]) / floor[tap] for tap in source)


@cases
def test_every_task_has_a_batch_that_its_model_takes(name, task):
    case = net(name, task)
    check_batch(case.spec, case.config, case.build, case.batch)
    without = {"mems"} if task == "pretraining" else set()  # which are always visible: no row would be fully masked
    assert set(case.batch) == set(case.spec.task(task).features) - without
    for feature, values in case.batch.items():
        assert feature == "cls_index" or np.unique(values).size > 1, feature


@trained
def test_the_gradient_is_longer_than_the_clip(name, task):
    case = net(name, task)
    norm = sum(l2(grad) ** 2 for grad in case.run()[1].values()) ** 0.5
    assert norm > SHOWS * CLIP


@cases
def test_no_two_weights_are_alike_and_no_bias_is_zero(name, task):
    values = [tensor.ravel()[:2].tobytes() for tensor in net(name, task).weights.values() if tensor.size > 1]
    assert len(set(values)) == len(values)
    assert all(np.abs(tensor).min() > 0 for tensor in net(name, task).weights.values())


@ends
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_an_epsilon_shows_at_every_layer_norm(name, task, epsilon):
    case, source, floor = floors(name, task)
    norms = {n: m for n, m in case.session._model.named_modules() if isinstance(m, torch.nn.LayerNorm)}
    assert len(norms) >= 4
    for place, norm in norms.items():
        if norm.eps == epsilon or {norm.eps, epsilon} == {1e-12, 1e-13}:
            continue
        own, norm.eps = norm.eps, epsilon
        found = shown(case, source, floor)
        norm.eps = own
        assert found > SHOWS, (place, own, found)


@ends
def test_the_form_of_gelu_shows_at_every_place(name, task):
    case, source, floor = floors(name, task)
    forms = {form: partial(torch.nn.functional.gelu, approximate=form) for form in ("none", "tanh")}
    places = [(m, a) for m in case.session._model.modules() for a in ("activate", "activation") if hasattr(m, a)]
    assert len(places) >= 2
    for module, attribute in places:
        own = getattr(module, attribute)
        other = next(form for form in forms.values() if not torch.equal(form(POINTS), own(POINTS)))
        setattr(module, attribute, other)
        found = shown(case, source, floor)
        setattr(module, attribute, own)
        assert found > SHOWS, (type(module).__name__, found)


@pytest.mark.parametrize("constant", [-1e9, "multiplied"])
@pytest.mark.parametrize("name", ["bert", "roberta", "tinybert"])
def test_another_mask_shows_without_the_scores_too(name, constant, monkeypatch):
    """A fused kernel has no scores to look at: only a fully masked row tells -10000 from -1e9."""
    from porting_bert.torch_backbone import Layer

    case, source, floor = floors(name, "classification")
    forward = Layer.forward

    def mutant(self, hidden, adder, run):
        return forward(self, hidden, _Times(adder) if constant == "multiplied" else adder * (constant / -1e4), run)

    monkeypatch.setattr(Layer, "forward", mutant)
    found = case.forward()
    for tap in source:
        if tap.endswith("attention.scores") or tap == "layer.1.output":
            assert apart(source[tap], found[tap]) > SHOWS * floor[tap], tap


class _Times:
    """A mask that is multiplied where it should be added."""

    def __init__(self, adder):
        self.mask = (adder == 0).float()

    def __radd__(self, scores):
        return scores * self.mask


def test_another_mask_shows_in_xlnet(monkeypatch):
    """1e30 leaves nothing of a score that it masks, 10000 leaves it all in a fully masked row."""
    from porting_xlnet import torch_transformer

    case, source, floor = floors("xlnet", "pretraining")
    monkeypatch.setattr(torch_transformer, "MASKED", 1e4)
    found = case.forward()
    assert apart(source["logits"], found["logits"]) > SHOWS * floor["logits"]


@ends
def test_an_untransposed_square_weight_shows(name, task):
    """Every one: vocabulary, hidden and inner axis are of one size, so no shape gives it away."""
    case, source, floor = floors(name, task, squared=True)
    flat = {p: t.reshape(t.shape[0], -1) for p, t in case.weights.items() if t.ndim > 1 and p not in case.unread}
    squares = {p: t for p, t in flat.items() if t.shape[0] == t.shape[1]}
    assert len(squares) > 10
    for parameter, tensor in squares.items():
        weights = {**case.weights, parameter: np.ascontiguousarray(tensor.T).reshape(case.shapes[parameter])}
        assert shown(case, source, floor, weights) > 1000, parameter


SILENT = ("start_logits.dense.bias", "end_logits.dense_1.bias", "end_logits.LayerNorm.bias")
"""Added to the logits of all tokens alike in XLNet's span head, whose outputs are log probabilities."""


@cases
def test_every_missing_bias_and_every_swap_shows(name, task):
    case, source, floor = floors(name, task)
    mutants = {f"no {p}": {p: np.zeros_like(t)} for p, t in case.weights.items() if "bias" in p and p not in SILENT}
    for first, second in (("query", "key"), (".q", ".k"), ("Norm.weight", "Norm.bias"), ("norm.weight", "norm.bias")):
        pairs = [(p, p.replace(first, second)) for p in case.weights if first in p]
        mutants |= {
            f"{p} for {q}": {p: case.weights[q], q: case.weights[p]} for p, q in pairs if p != q and q in case.weights
        }
    assert len(mutants) > 6
    for mistake, changed in mutants.items():
        if not set(changed) & case.unread:
            assert shown(case, source, floor, {**case.weights, **changed}) > SHOWS, mistake


@cases
def test_inputs_that_go_wrong_show(name, task):
    case, source, floor = floors(name, task)
    ids = "input_k" if "input_k" in case.batch else "input_ids"
    table = next(p for p in case.weights if "word_embedding" in p)
    mutants = {
        "word embeddings reversed": ({table: case.weights[table][::-1].copy()}, {}),
        "ids shifted": ({}, {ids: np.roll(case.batch[ids], 1, axis=1)}),
    }
    for feature in ("segment_ids", "seg_id"):
        if feature in case.batch:
            mutants["token types off"] = {}, {feature: np.zeros_like(case.batch[feature])}
    places = next((p for p in case.weights if "position_embeddings" in p), None)
    if places:
        mutants["positions off by one"] = {places: np.roll(case.weights[places], 1, axis=0)}, {}
    own = [p for p in case.weights if ".layer.0." in p and p.replace(".0.", ".1.") in case.weights]
    for what, source_layer in (("layers out of order", 1), ("a layer twice", 0)):
        swapped = {p: case.weights[p.replace(".layer.0.", ".layer.1.")] for p in own if source_layer}
        swapped |= {p.replace(".layer.0.", ".layer.1."): case.weights[p] for p in own}
        mutants[what] = swapped, {}
    for mistake, (weights, batch) in mutants.items():
        mutant = case.forward({**case.weights, **weights}, batch)
        assert max(apart(source[tap], mutant[tap]) / floor[tap] for tap in source) > 1000, mistake


@trained
def test_labels_that_go_wrong_show(name, task):
    case, source, floor = floors(name, task)
    labels = [
        f for f in case.batch if f.endswith("labels") or f in ("label_ids", "label_values", "target", "start_positions")
    ]
    if task.startswith(("general", "task_distill")):
        assert not labels  # a distillation learns from the teacher alone
        return
    assert labels
    for feature in labels:
        values = case.batch[feature]
        mutant = case.forward(None, {feature: np.roll(values, 1, axis=1 if values.shape[1:] > (1,) else 0)})
        assert apart(source["loss"], mutant["loss"]) > 10 * SHOWS * floor["loss"], feature


@ends
def test_what_the_optimizer_does_otherwise_shows_in_one_step(name, task):
    case = net(name, task)
    recipe = probe_recipe(case.spec)
    mistakes = {
        "decay on LayerNorm and biases": replace(recipe, excludes=()),
        "no decay": replace(recipe, weight_decay=0.0),
        "clip per tensor": replace(recipe, clip=Clip("per_tensor", CLIP)),
        "no clip": replace(recipe, clip=Clip()),
        "bias correction": replace(recipe, bias_correction=True),
        "learning rate 1 % off": replace(recipe, schedule=replace(recipe.schedule, peak=1.01e-3)),
    }
    source = _step(case, recipe)
    floor = dict.fromkeys(source, 2.0**-24)
    for seed in SEEDS:
        replica = _step(case, recipe, _replica(case, seed))
        floor = {key: max(floor[key], apart(source[key], replica[key])) for key in source}
    for mistake, other in mistakes.items():
        mutant = _step(case, other)
        assert max(apart(source[key], mutant[key]) / floor[key] for key in source) > SHOWS, mistake


def _step(case, recipe, replica=None):
    """Changes of the weights and both moments, by role and name, in the source's order."""
    from porting.backends.torch.run import open_session

    session = open_session(case.spec, case.config, case.build, recipe)
    weights, batch = case.weights, case.batch
    if replica is not None:
        weights = {p: replica.parameter(p, tensor) for p, tensor in weights.items()}
        batch = {f: replica.feature(f, values) for f, values in batch.items()}
    session.load(weights)
    for _ in range(STEPS):
        session.step(batch)
    after = session.weights()
    found = {("change", p): after[p].astype(np.float64) - weights[p] for p in session.trainable}
    found |= {(role, p): tensor for role, moments in session.slots().items() for p, tensor in moments.items()}
    if replica is not None:
        found = {key: replica.undo_parameter(key[1], tensor) for key, tensor in found.items()}
    return {key: tensor for key, tensor in found.items() if "key.bias" not in key[1]}


def test_a_seed_draws_the_same_values_always():
    case = net("bert", "mlm")
    arguments = case.spec, case.config, case.build
    again = probe_weights(*arguments, case.shapes, case.dialect)
    assert all(again[p].tobytes() == tensor.tobytes() for p, tensor in case.weights.items())
    other = probe_weights(*arguments, case.shapes, case.dialect, seed=1)
    assert not any(np.array_equal(other[p], tensor) for p, tensor in case.weights.items())
    head = [p for p in case.weights if p.startswith("cls.")]
    part = probe_weights(*arguments, case.shapes, case.dialect, only=head)
    assert list(part) == head
    assert all(part[p].tobytes() == case.weights[p].tobytes() for p in head)
    one, two = (probe_batch(*arguments, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one["input_ids"], two["input_ids"])


def test_a_short_model_gets_a_short_batch():
    spec = models()["bert"]
    config = tiny(spec, max_position_embeddings=8)
    batch = probe_batch(spec, config, Build("classification"), batch=3)
    assert batch["input_ids"].shape == (3, 8)


def test_a_model_without_a_probe_is_told_what_to_declare():
    case = net("bert", "encoder")
    with pytest.raises(UsageError, match=r"bert: no probe: its ModelSpec declares no `probe`"):
        probe_batch(replace(case.spec, probe=None), case.config, case.build)


def test_a_parameter_without_a_draw_is_named():
    case = net("bert", "encoder")
    bare = replace(case.spec, probe=lambda config, build: replace(case.spec.probe(config, build), draws=()))
    with pytest.raises(UsageError, match=r"(?s)bert: its probe has no draw for.*bert\.pooler\.dense\.bias"):
        probe_weights(bare, case.config, case.build, case.shapes, case.dialect)
