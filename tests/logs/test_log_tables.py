"""CSV tables: whose columns are runs, whose rows are runs, and whose are one run."""

from __future__ import annotations

import gzip

import pytest

from porting.errors import FormatError


def values(found, name: str) -> tuple[list[int], list[float]]:
    return found.series[name].steps.tolist(), found.series[name].values.tolist()


def test_a_column_of_losses_per_side_is_a_run_each(read_all, read):
    text = "step,gpu_loss,npu_loss\n0,2.5,2.25\n100,1.5,1.25\n"
    runs = read_all(text, "table")
    assert [run.name for run in runs] == ["table#gpu", "table#npu"]
    assert values(runs[1], "loss") == ([0, 100], [2.25, 1.25])
    with pytest.raises(FormatError, match=r"holds 2 runs \(gpu, npu\): name one, as FILE#RUN"):
        read(text, "table")


@pytest.mark.parametrize(("unit", "factor"), [("ns", 1e9), ("us", 1e6), ("ms", 1e3), ("s", 1.0)])
def test_times_have_units(read_all, unit, factor):
    runs = read_all(f"old_{unit},new_{unit}\n{2 * factor:.0f},{factor:.0f}\n{4 * factor:.0f},{factor:.0f}\n")
    assert [run.name for run in runs] == ["train.log#old", "train.log#new"]
    assert values(runs[0], "seconds") == ([0, 1], [2.0, 4.0])


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_table_of_one_run(read, mark):
    text = "step,loss,grad_norm,learning_rate,time_ms\n1,2.50,1.5,1e-05,250\n2,2.25,1.25,9e-06,125\n"
    found = read(text.replace(",", mark))
    assert values(found, "loss") == ([1, 2], [2.5, 2.25])
    assert values(found, "grad_norm") == ([1, 2], [1.5, 1.25])
    assert values(found, "lr") == ([1, 2], [1e-5, 9e-6])
    assert values(found, "seconds") == ([1, 2], [0.25, 0.125])
    assert found.series["loss"].resolution == 0.01


def test_a_table_of_results_has_a_run_in_each_row(read_all):
    runs = read_all("model,batch_size,eval_accuracy,f1\nTiny,2,69.13%,0.5\nBase,4,83.22%,0.75\n")
    assert [run.name for run in runs] == ["train.log#Tiny 2", "train.log#Base 4"]
    assert runs[1].metrics["accuracy"].value == pytest.approx(0.8322)
    assert runs[1].metrics["accuracy"].resolution == 1e-4
    assert runs[1].environment == {"model": "Base", "batch_size": "4"}


def test_samples_of_nvidia_smi(read):
    found = read(
        "timestamp, name, utilization.gpu [%], memory.used [MiB], power.draw [W]\n"
        "2026/11/21 09:11:55.123, NVIDIA H200, 35 %, 1000 MiB, 300.50 W\n"
        "2026/11/21 09:11:56.123, NVIDIA H200, 97 %, 2000 MiB, 650.25 W\n"
    )
    assert values(found, "utilization") == ([0, 1], [0.35, 0.97])
    assert values(found, "memory_mb")[1] == pytest.approx([1048.576, 2097.152])
    assert values(found, "power_watts") == ([0, 1], [300.5, 650.25])
    assert found.environment == {"device": "NVIDIA H200"}


def test_steps_that_go_back_in_a_table(read):
    found = read("step,loss\n0,3\n10,2\n20,1.5\n10,1.75\n20,1.25\n")
    assert values(found, "loss") == ([0, 10, 20], [3.0, 1.75, 1.25])


def test_a_torn_last_row_is_left_out(read):
    found = read("step,loss,grad_norm\n0,3,1\n10,2,1\n20,1.")
    assert values(found, "loss") == ([0, 10], [3.0, 2.0])
    assert "the last line is torn and was left out" in found.notes


def test_a_row_of_another_width_is_named(read):
    with pytest.raises(FormatError, match="line 3: wanted 2 cells, got 3"):
        read("step,loss\n0,3\n10,2,1\n20,1\n")


def test_a_head_without_rows(read):
    with pytest.raises(FormatError, match="is a table without rows"):
        read("step,loss\n")


def test_packed(read):
    found = read(gzip.compress("step,loss\r\n0,3\r\n10,nan\r\n".encode("utf-16")))
    assert found.series["loss"].steps.tolist() == [0, 10]


def test_a_log_that_begins_with_words_and_commas_is_no_table(read):
    found = read("Loading data, time\nINFO:tensorflow:loss = 2.5, step = 100\n")
    assert values(found, "loss") == ([100], [2.5])


def test_not_every_text_with_commas_is_a_table(read):
    with pytest.raises(FormatError, match="no line of a known dialect"):
        read("name,age\nAda,36\n")
