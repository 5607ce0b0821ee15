"""The floor: from replicas and float64, refused where it measures nothing or something else."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from floor_support import CASES, SEEDS, net, recorded

from porting.errors import FormatError, UsageError
from porting.parity.criteria import APART_L2, APART_MAX
from porting.parity.floor import floor_of
from porting.parity.floor_file import read_floor, write_floor
from porting.parity.measure import deviation
from porting.parity.replica import replica_of

HALF_ULP = 2.0**-24


def tensors(seed=0, noise=0.0):
    """A tap, an exact tap, and gradients of which one is zero but for rounding; noise is relative."""
    random, shaken = np.random.default_rng(0), np.random.default_rng(seed)

    def shake(tensor, scale=1.0):
        return (tensor + noise * scale * shaken.normal(size=tensor.shape)).astype(np.float32)

    base = random.normal(size=(8, 4))
    return {
        "forward": {"a": shake(base), "exact": base.astype(np.float32), "ids": np.arange(3)},
        "gradients": {
            "weight": shake(base),
            "second": shake(10 * base),
            "key.bias": shake(np.full(4, 1e-9), 1.0),
            "unused": np.zeros(4, np.float32),
        },
    }


@pytest.fixture
def made(tmp_path):
    """Captures by name, and the floor over them."""

    def of(name, noise=0.0, seed=0, **changes):
        return recorded(tmp_path / name, tensors(seed, noise), **changes)

    return of


def test_the_floor_is_the_larger_of_replicas_and_float64(made):
    source = made("source")
    spread = [made(f"r{seed}", 1e-6, seed, replica=seed) for seed in (1, 2)]
    near, far = (
        made(name, noise, 9, build={"task": "mlm", "compute": "float64"})
        for name, noise in (("near", 1e-8), ("far", 1e-4))
    )
    for truth, origin in ((None, "replicas"), (near, "replicas"), (far, "float64")):
        floor = floor_of(source, spread, truth)
        entry = floor.entries["forward", "a"]
        others = [*spread, *([truth] if truth else [])]
        found = [deviation(source.tensor("forward", "a"), other.tensor("forward", "a")) for other in others]
        assert entry.origin == origin
        assert entry.rel_l2 == pytest.approx(max(one.rel_l2 for one in found), rel=1e-12)
        assert entry.max_rel == pytest.approx(max(one.max_rel for one in found), rel=1e-12)
        assert floor.replicas == (1, 2)
        assert floor.float64 is (truth is not None)
        assert floor.entries["gradients", "weight"].origin == origin


def test_no_floor_is_below_the_rounding_of_the_dtype(made):
    floor = floor_of(made("source"), [made("r", 1e-6, 1, replica=1)], None)
    exact = floor.entries["forward", "exact"]
    assert (exact.rel_l2, exact.max_rel, exact.origin) == (HALF_ULP, HALF_ULP, "rounding")
    assert ("forward", "ids") not in floor.entries  # whole numbers agree or do not


def test_what_is_zero_but_for_rounding_is_held_against_its_section(made):
    source, replica = made("source"), made("r", 1e-7, 1, replica=1)
    floor = floor_of(source, [replica], None)
    bias, weight = floor.entries["gradients", "key.bias"], floor.entries["gradients", "weight"]
    assert (bias.against, weight.against) == ("section", "tensor")
    assert floor.entries["gradients", "unused"].against == "section"
    # Relative to itself the replica's is a hundred times the source's; against the section it is at the floor.
    summary = source.summaries["gradients", "key.bias"]
    found = deviation(source.tensor("gradients", "key.bias"), replica.tensor("gradients", "key.bias"))
    assert found.rel_l2 > 10
    l2, largest = bias.measured(found, summary)
    assert l2 == pytest.approx(bias.rel_l2, rel=1e-9)
    assert largest == pytest.approx(bias.max_rel, rel=1e-9)
    assert 1e-8 < l2 < 1e-6
    # A real gradient there, a thousandth of the others', is far above it.
    wrong = deviation(source.tensor("gradients", "key.bias"), np.full(4, 1e-3, np.float32))
    assert bias.measured(wrong, summary)[0] > 1000 * bias.rel_l2
    # Of a source of zeros no ratio is known, only the largest difference.
    nothing = deviation(np.zeros(4, np.float32), np.full(4, 1e-3, np.float32))
    unused = floor.entries["gradients", "unused"]
    assert unused.measured(nothing, source.summaries["gradients", "unused"])[0] > 1000 * unused.rel_l2
    assert weight.measured(found, summary) == (found.rel_l2, found.max_rel)


def test_a_floor_of_zero_over_a_section_is_an_error(made):
    with pytest.raises(UsageError, match=r"section forward: 0 over all of its 2 tensors: the replicas are the source"):
        floor_of(made("source"), [made("r", replica=1)], None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"weights": "other"}, "replica 1: weights: the source has w, got other"),
        ({"batch": "other"}, "replica 1: batch: the source has b, got other"),
        ({"model": "xlnet"}, "replica 1: model: the source has bert, got xlnet"),
        ({"config": {"hidden_size": 8}}, "replica 1: config"),
        ({"build": {"task": "encoder"}}, "replica 1: build"),
        ({"replica": None}, r"replicas of different seeds, got \[None\]"),
    ],
)
def test_a_replica_of_something_else_is_refused(made, changes, reason):
    with pytest.raises(UsageError, match=reason):
        floor_of(made("source"), [made("r", 1e-6, 1, **{"replica": 1, **changes})], None)


def test_captures_that_a_floor_cannot_come_from_are_refused(made, tmp_path):
    source, one = made("source"), made("r", 1e-6, 1, replica=1)
    same = made("again", 1e-6, 2, replica=1)
    with pytest.raises(UsageError, match=r"different seeds, got \[1, 1\]"):
        floor_of(source, [one, same], None)
    with pytest.raises(UsageError, match="at least one replica, got none"):
        floor_of(source, [], None)
    with pytest.raises(UsageError, match="truth: wanted a capture computed in float64, got float32"):
        floor_of(source, [one], made("plain", 1e-6, 3))
    with pytest.raises(UsageError, match="the source is itself a replica, of seed 1"):
        floor_of(one, [made("other", 1e-6, 4, replica=2)], None)
    with pytest.raises(UsageError, match="whole tensors, got a capture of summaries"):
        floor_of(source, [made("sums", 1e-6, 5, replica=3, whole=False)], None)
    lacking = tensors(1, 1e-6)
    del lacking["gradients"]["weight"]
    with pytest.raises(UsageError, match="gradients/weight: is in the source, not in replicas"):
        floor_of(source, [recorded(tmp_path / "lacking", lacking, replica=4)], None)
    broken = tensors(1, 1e-6)
    broken["forward"]["a"][0, 0] = np.nan
    with pytest.raises(UsageError, match="forward/a: 1 elements are not finite in one"):
        floor_of(source, [recorded(tmp_path / "broken", broken, replica=5)], None)


def test_a_floor_of_another_model_batch_or_weights_does_not_fit(made):
    source = made("source")
    floor = floor_of(source, [made("r", 1e-6, 1, replica=1)], None)
    assert floor.misfits(source.manifest) == ()
    assert floor.misfits(replace(source.manifest, backend="mindspore:cpu", framework="mindspore")) == ()
    assert floor.misfits(replace(source.manifest, build={"task": "mlm", "mode": "graph", "compute": "float16"})) == ()
    for changes, line in (
        ({"weights": "x"}, "weights: the floor was measured for w, the capture has x"),
        ({"batch": "x"}, "batch: the floor was measured for b, the capture has x"),
        ({"model": "x"}, "model: the floor was measured for bert, the capture has x"),
        ({"build": {"task": "x"}}, "build: the floor was measured for"),
        ({"config": {}}, "config: the floor was measured for"),
    ):
        found = floor.misfits(replace(source.manifest, **changes))
        assert len(found) == 1
        assert found[0].startswith(line)
    stepped = replace(floor, recipe={"name": "a"})
    assert stepped.misfits(source.manifest) == ()
    assert len(stepped.misfits(replace(source.manifest, recipe={"name": "b"}))) == 1


def test_a_floor_is_read_back_as_it_was_written(made, tmp_path):
    floor = floor_of(made("source"), [made("r", 1e-6, 1, replica=1)], None)
    write_floor(tmp_path / "floor.json", floor)
    assert read_floor(tmp_path / "floor.json") == floor


def _entry(values):
    return values["entries"]["forward"]["a"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda values: values.update(version=0), "wanted a floor of version 1, got 0"),
        (lambda values: values.pop("weights"), "lacks weights"),
        (lambda values: values.update(entries={}), "holds no floor"),
        (lambda values: values.update(entries=[1]), "wanted an object of sections"),
        (lambda values: _entry(values).update(rel_l2=0), "forward/a: rel_l2: wanted a number above 0, got 0"),
        (lambda values: _entry(values).update(max_rel="1"), "forward/a: max_rel: wanted a number above 0, got '1'"),
        (lambda values: _entry(values).update(norm=float("inf")), "norm: wanted a number above 0, got inf"),
        (lambda values: _entry(values).update(origin="guess"), "origin 'guess'"),
        (lambda values: _entry(values).pop("scale"), "forward/a: wanted rel_l2"),
    ],
)
def test_a_floor_edited_by_hand_is_refused(made, tmp_path, change, reason):
    write_floor(tmp_path / "floor.json", floor_of(made("source"), [made("r", 1e-6, 1, replica=1)], None))
    values = json.loads((tmp_path / "floor.json").read_text())
    change(values)
    (tmp_path / "floor.json").write_text(json.dumps(values))
    with pytest.raises(FormatError, match=reason):
        read_floor(tmp_path / "floor.json")


def test_a_file_that_is_no_floor_is_refused(tmp_path):
    with pytest.raises(FormatError, match="No such file"):
        read_floor(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("floor")
    with pytest.raises(FormatError, match="no JSON"):
        read_floor(tmp_path / "text.json")


@pytest.mark.parametrize(("name", "task"), CASES)
def test_an_honest_replica_lies_within_the_floor_of_every_model(name, task, tmp_path):
    """Of the first three and float64, the fourth: no alarm on any tap or gradient, with the factors that judge."""
    pytest.importorskip("torch")
    case = net(name, task)

    def capture(label, found, **changes):
        sections = {"forward": found[0], **({"gradients": found[1]} if found[1] else {})}
        return recorded(tmp_path / label, sections, model=name, **changes)

    def replica(seed):
        one = replica_of(case.spec, case.config, case.build, seed, case.shapes, case.dialect)
        return capture(f"replica{seed}", case.run(one), replica=seed)

    source = capture("source", case.run())
    truth = capture("truth", case.truth(), build={"task": "mlm", "compute": "float64"})
    floor = floor_of(source, (replica(seed) for seed in SEEDS), truth)
    assert floor.replicas == SEEDS
    assert floor.float64
    fourth = replica(4)
    for (section, tensor), entry in floor.entries.items():
        found = deviation(source.tensor(section, tensor), fourth.tensor(section, tensor))
        l2, largest = entry.measured(found, source.summaries[section, tensor])
        assert l2 < APART_L2 * entry.rel_l2, (section, tensor, entry)
        assert largest < APART_MAX * entry.max_rel, (section, tensor, entry)
        # What a query learns from a fully masked row hangs on scores near -10000, which float32 has to 1e-3 only.
        assert entry.rel_l2 < (1e-4 if section == "forward" else 1e-3), (section, tensor)
