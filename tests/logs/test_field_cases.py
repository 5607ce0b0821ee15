"""Logs and tables of real migrations give the numbers that were published about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from porting.logs.read import read_log, read_logs

FIELD = Path(__file__).parents[1] / "field_logs"
LOGS = sorted([*FIELD.glob("*.log"), *FIELD.glob("*.csv")])


@pytest.mark.parametrize("file", LOGS, ids=lambda file: file.name)
def test_every_field_log_is_read(file: Path) -> None:
    for run in read_logs(file):
        assert run.series or run.metrics
        assert run.kind == "log"
        assert run.inputs[0].size == file.stat().st_size
        assert run.inputs[0].hash.startswith("xxh3_128:")


@pytest.mark.parametrize(("name", "accuracy"), [("bert_large", 98.95), ("roberta_3_large_ext", 96.35)])
def test_xla_accuracies(name: str, accuracy: float) -> None:
    found = read_log(FIELD / f"xla_{name}.log")
    assert 100 * found.metrics["accuracy"].value == pytest.approx(accuracy, abs=1e-9)
    assert found.series["loss"].steps.tolist() == list(range(100, 2101, 100))
    assert found.series["loss"].resolution == 1e-5


def test_xla_accuracy_falls_by_2_60_points() -> None:
    source, target = (read_log(FIELD / f"xla_{name}.log") for name in ("bert_large", "roberta_3_large_ext"))
    drop = 100 * (target.metrics["accuracy"].value - source.metrics["accuracy"].value)
    assert drop == pytest.approx(-2.60, abs=1e-9)


def test_costs_of_ten_batches() -> None:
    table = FIELD / "cost_bert_large_vs_roberta_3_large_ext.csv"
    source, target = read_logs(table)
    assert (source.name, target.name) == (f"{table.name}#bert_large", f"{table.name}#roberta_3_large_ext")
    before, after = (1e3 * float(run.series["seconds"].values.mean()) for run in (source, target))
    assert round(before, 1) == 13502.4
    assert round(after, 1) == 2094.5
    assert round(100 * (after - before) / before, 3) == -84.488
    assert source.series["seconds"].resolution == 1e-9
    assert any("how many steps" in limit for limit in source.limits)


def test_xlnet_losses_of_both_runs_in_one_table() -> None:
    table = FIELD / "xlnet_loss_table.csv"
    gpu, npu = read_logs(table)
    assert gpu.series["loss"].steps.tolist() == npu.series["loss"].steps.tolist() == [0, 100, 200]
    assert gpu.series["loss"].values.tolist() == [12.196129, 2.5182028, 2.2136536]
    assert npu.series["loss"].values.tolist() == [5.888282, 2.404872, 1.8116344]
    assert read_log(f"{table}#npu").series["loss"].values.tolist() == npu.series["loss"].values.tolist()


@pytest.mark.parametrize(("side", "loss"), [("gpu", 6.5477915), ("npu", 6.8431473)])
def test_xlnet_final_losses(side: str, loss: float) -> None:
    found = read_log(FIELD / f"xlnet_{side}_estimator.log")
    assert found.metrics["final_loss"].value == loss
    assert found.metrics["final_loss"].resolution == 1e-7


def test_xlnet_gpu_printed_its_only_loss_twice() -> None:
    found = read_log(FIELD / "xlnet_gpu_estimator.log")
    assert found.series["loss"].steps.tolist() == [0]
    assert found.series["loss"].values.tolist() == [11.166861]
    assert found.notes == ("1 lines repeated an event, counted once",)


def test_tinybert_best_accuracies() -> None:
    runs = read_logs(FIELD / "tinybert_best_acc.log")
    best = np.concatenate([run.series["best_accuracy"].values for run in runs])
    assert [best[3], best[7], best[11]] == [0.902777, 0.813929, 0.891176]
    assert runs[0].metrics["accuracy"].value == 0.902777  # SST-2: what follows is lower, hence another run


def test_tinybert_losses_of_old_tensors() -> None:
    runs = read_logs(FIELD / "tinybert_mindspore.log")
    found = [(run.series["loss"].steps.tolist(), run.series["loss"].values.tolist()) for run in runs]
    lonely = [([100], [28.2093]), ([100], [28.1478]), ([100], [30.5901]), ([1], [63.4098])]
    assert found == [([100, 200], [28.2093, 30.1724]), *lonely]
    assert read_log(FIELD / "tinybert_mindspore.log").notes[-1].startswith("of 5 runs")


@pytest.mark.parametrize(
    ("model", "trained", "evaluated", "accuracy", "f1"),
    [
        ("bert", (24.254299, 26.924685), (16.960302, 6.711065), 0.7988994497248624, 0.8021653543307087),
        ("roberta", (24.792296, 27.662308), (10.762685, 6.790019), 0.7903951975987994, 0.8033786954481464),
    ],
)
def test_pytorch_times_and_results(model, trained, evaluated, accuracy, f1) -> None:
    for run, training, evaluation in zip(("first", "cached"), trained, evaluated, strict=True):
        found = read_log(FIELD / f"pytorch_{model}_train_{run}.log")
        assert found.metrics["training_seconds"].value == training
        assert found.environment["batch_size"] == "16"
        assert found.environment["optimization_steps"] == "125"
        found = read_log(FIELD / f"pytorch_{model}_eval_{run}.log")
        assert found.metrics["evaluation_seconds"].value == evaluation
        assert found.metrics["accuracy"].value == accuracy
        assert found.metrics["f1"].value == f1
        assert found.metrics["acc_and_f1"].value == pytest.approx((accuracy + f1) / 2, abs=1e-15)
        assert found.metrics["accuracy"].count == 2000


def test_published_times_are_those_of_the_cached_runs() -> None:
    times = [read_log(FIELD / f"pytorch_{m}_train_cached.log").metrics["training_seconds"] for m in ("bert", "roberta")]
    assert [round(time.value, 2) for time in times] == [26.92, 27.66]
    times = [
        read_log(FIELD / f"pytorch_{m}_eval_cached.log").metrics["evaluation_seconds"] for m in ("bert", "roberta")
    ]
    assert [round(time.value, 2) for time in times] == [6.71, 6.79]


def test_epoch_time_from_examples_per_second() -> None:
    found = read_log(FIELD / "estimator_rates.log")
    rates = found.series["examples_per_second"].values
    assert rates.tolist() == [1768.51, 3019.77]
    assert 8551 / rates.mean() == pytest.approx(3.57163, abs=1e-5)
    assert (1 / found.series["seconds"].values).tolist() == pytest.approx([55.2661, 94.3678, 90.2155])


def test_the_table_of_cola() -> None:
    runs = read_logs(FIELD / "cola_bert_sizes_rtx2080ti.csv")
    assert len(runs) == 29
    base = read_log(f"{FIELD}/cola_bert_sizes_rtx2080ti.csv#Base 16")
    assert base.environment == {"model": "Base", "batch_size": "16"}
    values = {name: metric.value for name, metric in base.metrics.items()}
    assert values == pytest.approx(
        {
            "accuracy": 0.8322,
            "eval_loss": 0.89,
            "train_loss": 0.90,
            "epoch_time": 113.88,
            "average_power": 219.03,
            "average_memory": 10514.8,
            "average_utilization": 0.8767,
        }
    )
