"""Two matrices against each other: ratios with intervals, and nothing compared in silence that is not the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bench_support import giving, made, matrix, result

from porting.bench.compare import compare
from porting.bench.compare_text import comparison_lines
from porting.bench.interval import mean_ratio, share_difference
from porting.bench.matrix import bench

pytest.importorskip("psutil")
pytest.importorskip("plotly")


def ratio(found, figure, pair=0):
    return next(one for one in found.pairs[pair].ratios if one.figure == figure)


def sides(tmp_path, ours=None, theirs=None):
    made(tmp_path / "a", **{"seed": 1, **(ours or {})})
    made(tmp_path / "b", **{"seed": 2, **(theirs or {})})
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_ratios_are_of_the_second_over_the_first_and_within_their_intervals(tmp_path):
    found = compare(*sides(tmp_path, theirs={"step": 0.013, "power": 150.0}))
    step, power = ratio(found, "step_time"), ratio(found, "average_power")
    assert step.value == pytest.approx(1.3, rel=0.02)
    assert step.low is not None
    assert step.high is not None
    assert step.low <= step.value <= step.high
    assert 1.25 < step.low < step.high < 1.35
    assert power.value == pytest.approx(0.75, rel=0.01)
    assert power.low is not None
    assert power.low <= power.value <= power.high
    accuracy = ratio(found, "eval_accuracy")
    assert accuracy.value == 0
    assert accuracy.low == pytest.approx(-accuracy.high)
    assert ratio(found, "peak_rss").reason == "one number a run"
    assert found.passed


@pytest.mark.parametrize(
    ("step", "limit", "code"), [(0.013, None, 0), (0.013, 1.5, 0), (0.013, 1.1, 1), (0.010, 1.0, 0), (0.007, 0.5, 1)]
)
def test_a_limit_is_broken_for_certain_or_not(step, limit, code, port, tmp_path):
    a, b = sides(tmp_path, theirs={"step": step})
    ran = port("bench", "compare", a, b, *(["--max-ratio", limit] if limit else []))
    assert ran.code == code
    assert ("slower than" in ran.out) == bool(code)
    assert "batch 2" in ran.out


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        ({"data": {"train": "sha256:other", "eval": "sha256:2"}}, "another data: not compared"),
        ({"recipe": {"hash": "sha256:other", "epsilon": 1e-8}}, "another recipe: not compared"),
    ],
)
def test_cells_that_learned_something_else_are_said_and_not_compared(theirs, told, port, tmp_path):
    a, b = sides(tmp_path, theirs=theirs)
    ran = port("bench", "compare", a, b)
    assert ran.code == 1
    assert told in ran.out
    assert "step x" not in ran.out


def test_another_plan_is_said_and_nothing_compared(tmp_path):
    from dataclasses import replace

    a, _ = sides(tmp_path)
    other = matrix()
    object.__setattr__(other, "setting", replace(other.setting, epochs=3))
    bench(other, tmp_path / "c", run=giving())
    found = compare(a, str(tmp_path / "c"))
    assert found.differing == ("epochs: 2 against 3",)
    assert found.pairs == ()
    assert not found.passed


def test_cells_that_one_side_has_are_listed(port, tmp_path):
    made(tmp_path / "a", 2, 4)
    made(tmp_path / "b", 4, 8)
    ran = port("bench", "compare", tmp_path / "a", tmp_path / "b")
    assert ran.code == 1
    assert f"only in {tmp_path / 'a'}: batch 2" in ran.out
    assert f"only in {tmp_path / 'b'}: batch 8" in ran.out


def test_a_cell_out_of_memory_has_no_ratio_but_a_reason(tmp_path):
    made(tmp_path / "a")
    full = {"state": "out_of_memory", "reason": "CUDA out of memory", "backend": "torch:cuda"}
    bench(matrix(), tmp_path / "b", run=giving({4: full}))
    found = compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert [bool(pair.problem) for pair in found.pairs] == [False, True]
    assert "CUDA out of memory" in found.pairs[1].problem
    assert not found.passed


def test_two_backends_of_one_folder(tmp_path):
    both = matrix(backends=("gpu", "torch:cpu"))
    bench(both, tmp_path / "m", run=giving())
    found = compare(f"{tmp_path}/m#gpu", f"{tmp_path}/m#torch:cpu")
    assert [pair.name for pair in found.pairs] == ["batch 2", "batch 4"]
    assert found.passed


def test_two_models_of_one_folder_whose_ids_are_others(tmp_path):
    def run(jobs):
        for number, job in enumerate(jobs):
            small = job["model"] == "bert-tiny"
            yield number, result(step=0.01 if small else 0.03, data={"train": job["model"], "eval": "sha256:2"})

    bench(matrix(models=("bert-tiny", "bert-mini")), tmp_path / "m", run=run)
    found = compare(f"{tmp_path}/m#bert-tiny", f"{tmp_path}/m#bert-mini#torch:cpu")
    assert [pair.name for pair in found.pairs] == ["batch 2", "batch 4"]
    assert ratio(found, "step_time").value == pytest.approx(3, rel=0.02)
    assert "model: bert-tiny against bert-mini" in found.facts
    assert found.passed


def test_an_emulated_side_is_compared_in_losses_and_is_no_pass(tmp_path):
    found = compare(*sides(tmp_path, theirs={"emulated": "float16 saturate"}))
    assert {one.figure for one in found.pairs[0].ratios} == {"eval_accuracy", "eval_loss", "train_loss"}
    assert "emulated (float16 saturate)" in "\n".join(comparison_lines(found))
    assert not found.passed


def test_few_steps_have_no_interval(tmp_path):
    found = compare(*sides(tmp_path, {"steps": 6, "per_epoch": 3}, {"steps": 6, "per_epoch": 3}))
    step = ratio(found, "step_time")
    assert (step.low, step.high) == (None, None)
    assert "steady steps" in step.reason


def test_as_json(port, tmp_path):
    a, b = sides(tmp_path, theirs={"step": 0.02, "device": "Another"})
    found = json.loads(port("bench", "compare", a, b, "--json").out)
    assert found["passed"] is True
    assert "device: A device against Another" in found["facts"]
    assert found["pairs"][0]["ratios"][0]["figure"] == "eval_accuracy"


@pytest.mark.parametrize(
    ("first", "words", "told"),
    [
        ("absent", [], "absent: holds no matrix"),
        ("a#npu", [], "holds no such cell; there is bert-tiny, torch:cpu"),
        ("a", ["--max-ratio", "0"], "--max-ratio: wanted more than 0"),
    ],
)
def test_what_cannot_be_compared_is_one_line(first, words, told, port, tmp_path):
    _, b = sides(tmp_path)
    ran = port("bench", "compare", f"{tmp_path}/{first}", b, *words)
    assert ran.code == 2
    assert told in ran.err
    assert ran.err.count("\n") == 1


def test_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(5)
    inside = 0
    for _ in range(200):
        one, two = (random.gamma(4.0, 25.0 * factor, 80) for factor in (1.0, 1.2))
        low, high = mean_ratio(one, two)
        inside += low <= 1.2 <= high
    assert 178 <= inside <= 200, "95 % of 200, less what a bootstrap of 80 blocks lacks, and chance"


def test_the_interval_of_two_shares():
    low, high = share_difference(0.5, 0.6, (100, 400))
    assert (low + high) / 2 == pytest.approx(0.1)
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.25 / 100 + 0.24 / 400), rel=1e-4)
