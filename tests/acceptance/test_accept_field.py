"""Migrations that people judged by hand: the kit comes to the figures that they published."""

from __future__ import annotations

import csv
import shutil

import pytest
from accept_support import FIELD, estimator

from porting.acceptance.accept import accept
from porting.acceptance.names import STEP_0
from porting.parity.state import Level, State
from porting.report.markdown import markdown
from porting.report.words import LANGUAGES, Words

XLNET = FIELD / "xlnet_loss_table.csv"
GPU = {0: 12.196129, 100: 2.5182028, 200: 2.2136536}
NPU = {0: 5.888282, 100: 2.404872, 200: 1.8116344}


def keys(found) -> list[str]:
    return [advice.key for advice in found.advice]


@pytest.fixture(params=["table", "logs"])
def xlnet(request, tmp_path):
    """Both ways to what was published: the table, and the logs that it was written from."""
    sides = (f"{XLNET}#gpu", f"{XLNET}#npu")
    if request.param == "logs":
        sides = (estimator(tmp_path / "gpu.log", GPU), estimator(tmp_path / "npu.log", NPU))
    return accept(*sides, source_step_ms=54.181, target_step_ms=17516.945)


def test_xlnet_fails_by_a_broken_precondition(xlnet):
    assert xlnet.state is State.FAIL
    assert xlnet.decisive.what == STEP_0
    assert xlnet.decisive.level is Level.TRAJECTORY
    assert not xlnet.passed


def test_xlnet_says_what_to_look_at(xlnet):
    first, second, *_ = xlnet.advice
    assert first.key == "step0"
    assert first.values == {"step": "0", "source": "12.196129", "target": "5.888282", "percent": "51.7"}
    assert second.key == "ratio_hundreds"
    assert second.values["ratio"] == "323.3"
    assert "trajectory" not in keys(xlnet), "what follows a broken precondition says nothing"


def test_xlnet_has_no_verdict_of_speed_and_its_ratio_all_the_same(xlnet):
    assert xlnet.speed.ratio == pytest.approx(17516.945 / 54.181)
    assert xlnet.level(Level.SPEED).state is State.NOT_RUN


@pytest.mark.parametrize("language", LANGUAGES)
def test_xlnet_as_it_is_read(xlnet, language):
    text = markdown(xlnet, Words(language))
    for told in ("12.196129", "5.888282", "2.5182028", "2.404872", "2.2136536", "1.8116344", "323.3", "17516.945 ms"):
        assert told in text


def test_xlnet_final_losses_are_shown_and_no_quality_of_a_task():
    found = accept(FIELD / "xlnet_gpu_estimator.log", FIELD / "xlnet_npu_estimator.log")
    (final,) = found.qualities
    assert (final.name, final.source.value, final.target.value) == ("final_loss", 6.5477915, 6.8431473)
    assert found.level(Level.TASK).state is State.NOT_RUN
    assert not found.passed


def costs() -> tuple[float, float]:
    """Mean nanoseconds of ten batches, of the two models."""
    with (FIELD / "cost_bert_large_vs_roberta_3_large_ext.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = ("bert_large_ns", "roberta_3_large_ext_ns")
    big, small = (sum(int(row[name]) for row in rows) / len(rows) for name in names)
    return big, small


def test_bert_large_against_roberta_3_large():
    ten = [ns / 1e6 for ns in costs()]
    assert [round(ms, 1) for ms in ten] == [13502.4, 2094.5]
    found = accept(
        FIELD / "xla_bert_large.log", FIELD / "xla_roberta_3_large_ext.log",
        source_step_ms=ten[0] / 10, target_step_ms=ten[1] / 10,
    )  # fmt: skip
    assert 100 * (found.speed.ratio - 1) == pytest.approx(-84.488, abs=5e-4)
    (accuracy,) = (one for one in found.qualities if one.name == "accuracy")
    assert (accuracy.source.value, accuracy.target.value) == pytest.approx((0.9895, 0.9635))
    assert 100 * accuracy.difference == pytest.approx(-2.60)
    text = markdown(found, Words())
    assert "-84.488 %" in text
    assert "-2.600 points" in text
    assert found.level(Level.TASK).state is State.FAIL
    assert found.state is State.FAIL


def summary(path, seconds: float, loss: float, accuracy: float):
    """ModelZoo's summary with the best accuracy that was seen."""
    path.write_text(
        f"Network = TinyBERT\nTrainingTime = {1000 * seconds}\nActualLoss = {loss}\nThe best acc is {accuracy}\n"
    )
    return path


def test_tinybert_on_ascend_against_a_gpu(tmp_path):
    found = accept(
        summary(tmp_path / "gpu.log", 0.098654, 6.6915, 0.9086),
        summary(tmp_path / "ascend.log", 0.0354, 6.541583, 0.902777),
        source_step_ms=98.654, target_step_ms=35.4,
    )  # fmt: skip
    assert found.speed.ratio == pytest.approx(35.4 / 98.654)
    (accuracy,) = (one for one in found.qualities if one.name == "accuracy")
    assert accuracy.difference == pytest.approx(0.902777 - 0.9086)
    assert found.level(Level.TASK).state is State.FAIL, "0.58 points, beyond half a point"
    assert accept(tmp_path / "gpu.log", tmp_path / "ascend.log", criteria="modelzoo").rule.state is not State.FAIL
    assert found.state is State.FAIL


def test_tinybert_best_accuracy_is_that_of_the_named_task():
    found = accept(f"{FIELD / 'tinybert_best_acc.log'}#1", f"{FIELD / 'tinybert_best_acc.log'}#2")
    (accuracy,) = (one for one in found.qualities if one.name == "accuracy")
    assert accuracy.source.value == pytest.approx(0.902777)


def test_tinybert_between_two_ascends(tmp_path):
    for name, value in (("a910", 0.9039), ("a310", 0.90367)):
        (tmp_path / f"{name}.log").write_text(f"The best acc is {value}\n")
    found = accept(tmp_path / "a910.log", tmp_path / "a310.log")
    (one,) = found.qualities
    assert 100 * one.difference / one.source.value == pytest.approx(-0.03, abs=0.005)
    assert found.level(Level.TASK).state in (State.PASS, State.CONDITIONAL)
    assert found.state is State.CONDITIONAL


@pytest.mark.parametrize("kind", ["first", "cached"])
def test_pytorch_bert_against_roberta(tmp_path, kind):
    for model in ("bert", "roberta"):
        (tmp_path / model).mkdir()
        for part in ("train", "eval"):
            shutil.copy(FIELD / f"pytorch_{model}_{part}_{kind}.log", tmp_path / model)
    found = accept(tmp_path / "bert", tmp_path / "roberta")
    values = {one.name: (one.source.value, one.target.value) for one in found.qualities}
    seconds = {
        "first": ((24.254299, 24.792296), (16.960302, 10.762685)),
        "cached": ((26.924685, 27.662308), (6.711065, 6.790019)),
    }
    assert (values["training_seconds"], values["evaluation_seconds"]) == seconds[kind]
    assert values["accuracy"] == pytest.approx((0.7988994497248624, 0.7903951975987994))
    assert values["f1"] == pytest.approx((0.8021653543307087, 0.8033786954481464))
    assert values["acc_and_f1"] == pytest.approx((0.8005324020277855, 0.7968869465234729))
    assert {one.what for one in found.level(Level.TASK).findings} == {"accuracy", "f1", "acc_and_f1"}
    assert found.state in (State.CONDITIONAL, State.FAIL)
