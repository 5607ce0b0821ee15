"""Each dialect by the lines that its software prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from porting.acceptance.trajectory import Trajectory
from porting.errors import FormatError
from porting.logs.dialects import DIALECTS
from porting.logs.needles import Needles

GLOG = "I1212 21:59:05.964472 281473521922416 basic_session_run_hooks.py:260] "


def series(found: Trajectory, name: str) -> tuple[list[int], list[float]]:
    one = found.series[name]
    assert one.steps.dtype == np.int64
    assert one.values.dtype == np.float64
    return one.steps.tolist(), one.values.tolist()


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_the_example_of_a_dialect_is_read_by_it_and_by_no_other(dialect, tmp_path):
    from porting.logs.scan import Scan

    scan = Scan(DIALECTS)
    scan.feed(dialect.example.encode() + b"\n")
    assert list(scan.found) == [dialect.name]


class TestEstimator:
    def test_the_twin_of_an_event_counts_once(self, read):
        events = ["loss = 2.5182028, step = 100", "loss = 0.8321978, step = 200 (22.301 sec)"]
        found = read("".join(f"INFO:tensorflow:{one}\n{GLOG}{one}\n" for one in events))
        assert series(found, "loss") == ([100, 200], [2.5182028, 0.8321978])
        assert series(found, "seconds") == ([200], [pytest.approx(0.22301)])
        assert found.series["loss"].resolution == 1e-7
        assert found.series["seconds"].resolution == pytest.approx(1e-5)
        assert "2 lines repeated an event, counted once" in found.notes

    def test_rates_stand_at_the_steps_of_the_losses(self, read):
        found = read(
            "INFO:tensorflow:loss = 3.0, step = 0\n"
            "INFO:tensorflow:global_step/sec: 4\nINFO:tensorflow:examples/sec: 128\n"
            "INFO:tensorflow:loss = 2.0, step = 100\n"
            "INFO:tensorflow:global_step/sec: 8\nINFO:tensorflow:examples/sec: 256\n"
            "INFO:tensorflow:loss = 1.5, step = 200\n"
        )
        assert series(found, "seconds") == ([100, 200], [0.25, 0.125])
        assert series(found, "examples_per_second") == ([100, 200], [128.0, 256.0])

    def test_the_twin_of_a_rate_counts_once(self, read):
        rates = [3.09606, 3.1, 2.9]
        found = read("".join(f"INFO:tensorflow:examples/sec: {r}\n{GLOG}examples/sec: {r}\n" for r in rates))
        assert series(found, "examples_per_second") == ([0, 1, 2], rates)
        assert any("carry no step" in limit for limit in found.limits)

    @pytest.mark.parametrize("names", ["total_loss mlm_loss", "loss learning_rate", "loss mlm_loss learning_rate"])
    def test_tensors_that_a_hook_prints_beside_the_loss(self, read, names):
        names = names.split()
        line = "".join(f"{name} = {place + 0.5}, " for place, name in enumerate(names))
        found = read(f"INFO:tensorflow:{line}step = 300\n{GLOG}{line}step = 400 (10.0 sec)\n")
        assert series(found, "loss") == ([300, 400], [0.5, 0.5])
        assert series(found, "seconds") == ([400], [0.1])
        others = {"learning_rate": "lr"}
        for place, name in enumerate(names[1:], 1):
            assert series(found, others.get(name, name))[1] == [place + 0.5] * 2

    def test_final_loss(self, read):
        text = "Loss for final step: 0.98728836."
        found = read(f"INFO:tensorflow:{text}\n{GLOG}{text}\n")
        assert found.metrics["final_loss"].value == 0.98728836
        assert found.metrics["final_loss"].resolution == 1e-8

    def test_an_evaluation_is_no_training_loss(self, read):
        found = read(
            "INFO:tensorflow:loss = 0.5, step = 300\n"
            "INFO:tensorflow:Saving dict for global step 300: eval_accuracy = 0.8676471, global_step = 300,"
            " loss = 0.45\n"
        )
        assert series(found, "loss") == ([300], [0.5])
        assert series(found, "eval_loss") == ([300], [0.45])
        assert found.metrics["accuracy"].value == 0.8676471

    def test_pre_training_losses_of_interleaved_ranks_are_averaged(self, read):
        line = (
            "INFO:tensorflow:global_step = {}, masked_lm_loss = {}, next_sentence_loss = 0.5, total_loss = {}"
            " (81.600 sec)\n"
        )
        text = "".join(line.format(s, a, a + 0.5) for s in (100, 200, 300) for a in (2.0 + s / 1000, 2.5 + s / 1000))
        found = read(text)
        steps, values = series(found, "loss")
        assert steps == [100, 200, 300]
        assert values == pytest.approx([2.85, 2.95, 3.05])
        assert series(found, "masked_lm_loss")[1] == pytest.approx([2.35, 2.45, 2.55])
        assert series(found, "seconds")[1] == pytest.approx([0.816, 0.816])
        assert any("up to 2 values a step" in note for note in found.notes)


def test_xlnet_shows_two_decimals(read):
    found = read(
        "[100] | gnorm 1.23 lr 0.000010 | loss 6.54 | pplx  694.02, bpc  9.4385\n"
        "[200] | gnorm 0.98 lr 0.000009 | loss 6.50 | pplx  665.14, bpc  9.3772\n"
    )
    assert series(found, "loss") == ([100, 200], [6.54, 6.5])
    assert series(found, "grad_norm") == ([100, 200], [1.23, 0.98])
    assert series(found, "lr") == ([100, 200], [1e-5, 9e-6])
    assert found.series["loss"].resolution == 0.01
    assert "the loss is printed to 0.01" in found.limits


class TestAscend:
    COMPILED = "tf_adapter/kernels/geop_npu.cc:805] The model has been compiled on the Ascend AI processor, current"

    def test_recompilations_are_counted(self, read):
        found = read("".join(f"2021-03-25 09:3{i}: I {self.COMPILED} graph id is: {i}1\n" for i in range(4)))
        assert found.counts == {"recompilations": 4}

    def test_a_line_that_is_there_twice_counts_once(self, read):
        line = f"2021-03-25 09:30: I {self.COMPILED} graph id is: 11\n"
        assert read(line + line).counts == {"recompilations": 1}

    def test_operators_that_fall_back_are_counted_and_named(self, read):
        caution = "[W VariableFallbackKernel.cpp:51] Warning: CAUTION: The operator '{}' is not currently supported on"
        caution += " the NPU backend and will fall back to run on the CPU. This may have performance implications.\n"
        found = read(caution.format("aten::isin") * 2 + caution.format("aten::<b>"))
        assert found.counts == {"cpu_fallbacks": 3}
        assert found.notes == ("operators that fell back to the CPU: aten::isin (2), aten::<b> (1)",)


def test_modelzoo_summary(read):
    found = read(
        "Final Performance images/sec : 4711.5\nNetwork = Bert_ID0060\nRankSize = 8\nBatchSize = 128\n"
        "DeviceType = aarch64\nActualFPS = 4711.5\nTrainingTime = 217.34\nActualLoss = 1.25\n"
    )
    assert found.environment == {"network": "Bert_ID0060", "ranks": "8", "batch_size": "128", "device": "aarch64"}
    assert series(found, "seconds") == ([0], [0.21734])
    assert series(found, "examples_per_second") == ([0], [4711.5])
    assert found.metrics["final_loss"].value == 1.25


class TestMindSpore:
    def test_steps_that_begin_anew_in_each_epoch(self, read):
        found = read(
            "epoch: 1 step: 1875, loss is 1.1544309\nepoch time: 72110.166 ms, per step time: 38.459 ms\n"
            "epoch: 2 step: 1875, loss is 0.9544309\nepoch time: 60000.0 ms, per step time: 32.000 ms\n"
        )
        assert series(found, "loss") == ([1875, 3750], [1.1544309, 0.9544309])
        assert series(found, "seconds") == ([1875, 3750], [0.038459, 0.032])
        assert found.series["loss"].resolution == 1e-7

    @pytest.mark.parametrize("word", ["outpus", "outputs"])
    def test_tensors(self, read, word):
        line = (
            "epoch: {}, step: {}, " + word + " are (Tensor(shape=[1], dtype=Float32, {}), "
            "Tensor(shape=[], dtype=Bool, {}), Tensor(shape=[], dtype=Float32, {}))\n"
        )
        found = read(line.format(1, 100, 28.2093, True, 65536) + line.format(2, 200, 30.1724, False, 32768))
        assert series(found, "loss") == ([100, 200], [28.2093, 30.1724])
        assert series(found, "overflow") == ([100, 200], [1.0, 0.0])
        assert series(found, "loss_scale") == ([100, 200], [65536.0, 32768.0])
        assert found.counts == {"overflows": 1}

    def test_plain_outputs(self, read):
        found = read("epoch: 1, step: 100, outpus are 28.2093\nepoch: 1, step: 200, outpus are 27.5\n")
        assert series(found, "loss") == ([100, 200], [28.2093, 27.5])

    def test_the_best_accuracy_is_the_last(self, read):
        found = read("The best acc is 0.872685\nThe best acc is 0.893515\n")
        assert found.metrics["accuracy"].value == 0.893515
        assert found.metrics["accuracy"].resolution == 1e-6


class TestMindFormers:
    LINE = (
        "{{ Epoch:[  {}/  2], step:[    {}/   19], loss: {}, per_step_time: 1752ms, lr: 1e-05, overflow cond: {},"
        " loss_scale: 1.0, global_norm: [10.57], train_throughput_per_npu: 170.738T}}\n"
    )

    def test_a_line(self, read):
        found = read(self.LINE.format(1, 2, "10.633", False) + self.LINE.format(2, 1, "9.5", True))
        assert series(found, "loss") == ([2, 20], [10.633, 9.5])
        assert series(found, "seconds") == ([2, 20], [1.752, 1.752])
        assert series(found, "grad_norm") == ([2, 20], [10.57, 10.57])
        assert series(found, "lr") == ([2, 20], [1e-5, 1e-5])
        assert series(found, "overflow") == ([2, 20], [0.0, 1.0])
        assert found.counts == {"overflows": 1}
        assert found.series["lr"].resolution == 1e-5

    def test_a_dry_run_is_rejected(self, read):
        with pytest.raises(FormatError, match=r"train.log: is a dry run: its loss is 0\.000 throughout"):
            read("".join(self.LINE.format(1, step, "0.000", False) for step in (1, 2, 3)))

    def test_a_loss_that_falls_to_zero_is_none(self, read):
        found = read(self.LINE.format(1, 1, "10.633", False) + self.LINE.format(1, 2, "0.000", False))
        assert series(found, "loss") == ([1, 2], [10.633, 0.0])


class TestTrainer:
    V4 = "{'loss': 1.4596, 'grad_norm': nan, 'learning_rate': 4.55e-06, 'epoch': 0.66}\n"
    V5 = "{'loss': '1.4596', 'grad_norm': 'nan', 'learning_rate': '4.55e-06', 'epoch': '0.66'}\n"

    @pytest.mark.parametrize("line", [V4, V5])
    def test_lines_are_numbered(self, read, line):
        found = read(
            " 66%|██████▌   | 2/3 [00:01<00:00]\r" + line + line.replace("0.66", "0.99").replace("1.4596", "1.25")
        )
        assert series(found, "loss") == ([1, 2], [1.4596, 1.25])
        assert np.isnan(found.series["grad_norm"].values).all()
        assert found.series["lr"].values[0] == 4.55e-6
        assert found.series["lr"].resolution == 1e-8
        assert any("carry no step" in limit for limit in found.limits)

    def test_a_line_that_is_there_twice_counts_once(self, read):
        found = read(self.V4 + self.V4 + self.V4.replace("0.66", "0.99"))
        assert series(found, "loss") == ([1, 2], [1.4596, 1.4596])
        assert "1 lines repeated an event, counted once" in found.notes

    def test_evaluation_and_summary(self, read):
        found = read(
            self.V4 + "{'eval_loss': 0.5, 'eval_accuracy': 0.86, 'eval_f1': 0.9, 'epoch': 1.0}\n"
            "{'train_runtime': 123.4, 'train_samples_per_second': 50.5, 'train_loss': 1.2, 'epoch': 1.0}\n"
        )
        assert found.metrics["accuracy"].value == 0.86
        assert found.metrics["f1"].value == 0.9
        assert found.metrics["training_seconds"].value == 123.4
        assert series(found, "loss") == ([1], [1.4596])
        assert series(found, "eval_loss") == ([1], [0.5])

    def test_a_second_training_is_another_run(self, read_all):
        line = "{{'loss': {}, 'learning_rate': 1e-5, 'epoch': {}}}\n"
        text = "".join(line.format(1 / (n + 1), e) for n, e in enumerate((0.1, 0.2, 0.3, 0.1, 0.2)))
        runs = read_all(text)
        assert [series(run, "loss")[0] for run in runs] == [[1, 2, 3], [1, 2]]

    def test_training_taken_up_again_replaces(self, read):
        line = "{{'loss': {}, 'learning_rate': 1e-5, 'epoch': {}}}\n"
        epochs, losses = (0.1, 0.2, 0.3, 0.4, 0.3, 0.4, 0.5), (7, 6, 5, 4, 3, 2, 1)
        found = read("".join(line.format(a, e) for a, e in zip(losses, epochs, strict=True)))
        assert series(found, "loss") == ([1, 2, 3, 4, 5], [7, 6, 3, 2, 1])

    def test_trainer_state(self, read):
        state = {
            "epoch": 1.0,
            "global_step": 20,
            "log_history": [
                {"epoch": 0.5, "grad_norm": 1.5, "learning_rate": 1e-05, "loss": 2.25, "step": 10},
                {"epoch": 1.0, "grad_norm": float("nan"), "learning_rate": 5e-06, "loss": 2.0, "step": 20},
                {"epoch": 1.0, "eval_loss": 1.9, "eval_matthews_correlation": 0.55, "step": 20},
            ],
            "train_batch_size": 16,
        }
        found = read(json.dumps(state, indent=2), "trainer_state.json")
        assert series(found, "loss") == ([10, 20], [2.25, 2.0])
        assert found.series["grad_norm"].steps.tolist() == [10, 20]
        assert found.metrics["matthews"].value == 0.55
        assert found.environment == {"batch_size": "16"}
        assert not any("carry no step" in limit for limit in found.limits)

    def test_a_torn_trainer_state_is_named(self, read):
        with pytest.raises(FormatError, match="is no whole trainer_state"):
            read('{"epoch": 1.0, "log_history": [{"loss": 2.', "trainer_state.json")


class TestXla:
    def test_old(self, read):
        found = read(
            "[xla:0](100) Loss=1.16723 Rate=0.07 GlobalRate=0.05 Time=Thu Sep 24 07:41:56 2020\n"
            "[xla:0](200) Loss=1.43893 Rate=4.44 GlobalRate=0.10 Time=Thu Sep 24 07:42:23 2020\n"
            "Finished training epoch 0\n"
            "[xla:0](0) Acc=1.00000 Rate=0.00 GlobalRate=0.00 Time=Thu Sep 24 07:51:29 2020\n"
            "[xla:0](100) Acc=0.98515 Rate=0.00 GlobalRate=0.00 Time=Thu Sep 24 07:52:04 2020\n"
            "[xla:0] Accuracy=98.95%\n"
        )
        assert series(found, "loss") == ([100, 200], [1.16723, 1.43893])
        assert series(found, "seconds") == ([200], [0.27])
        assert series(found, "examples_per_second") == ([100, 200], [0.07, 4.44])
        assert series(found, "running_accuracy") == ([0, 100], [1.0, 0.98515])
        assert found.metrics["accuracy"].value == 0.9895
        assert found.metrics["accuracy"].resolution == pytest.approx(1e-4)

    def test_epochs_that_count_anew_are_one_run(self, read):
        line = "[xla:0]({}) Loss={} Rate=7.00 GlobalRate=0.05 Time=Thu Sep 24 07:41:56 2020\n"
        end = "Finished training epoch {}\n"
        found = read(line.format(0, 3.0) + line.format(100, 2.0) + end.format(0) + line.format(0, 1.0) + end.format(1))
        assert series(found, "loss") == ([0, 100, 101], [3.0, 2.0, 1.0])

    def test_new(self, read):
        line = "| Training Device=xla:0/0 Epoch={} Step={} Loss={} Rate=432.10 GlobalRate=80.5 Time=20:33:{}\n"
        found = read(line.format(1, 20, 2.75, 10) + line.format(1, 40, 2.5, 12) + line.format(2, 20, 2.25, 20))
        assert series(found, "loss") == ([20, 40, 60], [2.75, 2.5, 2.25])
        assert series(found, "seconds") == ([40, 60], [0.1, 0.4])
        assert found.series["loss"].resolution == 0.01


def test_megatron(read):
    line = (
        " iteration        {}/    2000 | consumed samples:           32 | elapsed time per iteration (ms): {} |"
        " learning rate: 1.250E-08 | global batch size:    16 | lm loss: {} | loss scale: 1.0 | grad norm: {} |"
        " number of skipped iterations:   {} | number of nan iterations:   0 |\n"
    )
    found = read(line.format(1, 5670.5, "2.543476E+00", 42.5, 1) + line.format(2, 1331.74, "2.443476E+00", 41.986, 0))
    assert series(found, "loss") == ([1, 2], [2.543476, 2.443476])
    assert series(found, "grad_norm") == ([1, 2], [42.5, 41.986])
    assert series(found, "seconds") == ([1, 2], [5.6705, 1.33174])
    assert series(found, "lr") == ([1, 2], [1.25e-8, 1.25e-8])
    assert found.series["loss"].resolution == 1e-6
    assert found.environment == {"batch_size": "16"}
    assert found.counts == {"overflows": 1}


def test_mllog(read):
    def event(key: str, value: object, time: int, **about: object) -> str:
        values = {"namespace": "", "time_ms": time, "event_type": "POINT_IN_TIME", "key": key, "value": value}
        return f":::MLLOG {json.dumps({**values, 'metadata': {'file': 'run.py', 'lineno': 1, **about}})}\n"

    found = read(
        event("global_batch_size", "448", 0)
        + event("run_start", None, 1000)
        + event("train_loss", 2.5, 2000, step_num=100)
        + event("train_loss", 2.25, 3000, step_num=200)
        + event("eval_accuracy", 0.71, 3500, epoch_num=1)
        + event("tracked_stats", {"throughput": 512.5}, 3600, step_num=200)
        + event("run_stop", None, 4000)
    )
    assert series(found, "loss") == ([100, 200], [2.5, 2.25])
    assert series(found, "examples_per_second") == ([200], [512.5])
    assert found.metrics["accuracy"].value == 0.71
    assert found.metrics["training_seconds"].value == 3.0
    assert found.environment == {"batch_size": "448"}


def test_steps_of_a_capture(read):
    step = {"loss": 2.5, "lr": 1e-05, "grad_norm": 1.25, "loss_scale": 65536.0, "overflow": False, "seconds": 0.5}
    lines = [{"step": n, **step, "overflow": n == 1, "loss": 2.5 - n, "batch": f"xxh3_128:{n}"} for n in range(3)]
    lines[2]["grad_norm"] = "nan"
    found = read("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines), "steps.jsonl")
    assert series(found, "loss") == ([0, 1, 2], [2.5, 1.5, 0.5])
    assert series(found, "overflow") == ([0, 1, 2], [0.0, 1.0, 0.0])
    assert np.isnan(found.series["grad_norm"].values[2])
    assert found.batches == ("xxh3_128:0", "xxh3_128:1", "xxh3_128:2")
    assert found.counts == {"overflows": 1}
    assert not any("hash of the data" in limit for limit in found.limits)


def test_rows_of_nvidia_smi(read):
    found = read(
        "| N/A   35C    P0    42W / 300W |  10486MiB / 11019MiB |     33%      Default |\n"
        "| 41%   62C    P2   250W / 250W |  10500MiB / 11019MiB |     97%      Default |\n"
    )
    assert series(found, "utilization") == ([0, 1], [0.33, 0.97])
    assert series(found, "power_watts") == ([0, 1], [42.0, 250.0])
    assert series(found, "memory_mb")[1] == pytest.approx([10486 * 1.048576, 10500 * 1.048576])


def test_a_file_may_mix_dialects(read):
    found = read(
        "INFO:tensorflow:loss = 2.5, step = 100\n"
        f"{TestAscend.COMPILED} graph id is: 11\n"
        "a line of no dialect\n"
        "| N/A   35C    P0    42W / 300W |  10486MiB / 11019MiB |     33%      Default |\n"
        "Network = bert\n"
        "INFO:tensorflow:loss = 2.25, step = 200\n"
    )
    assert series(found, "loss") == ([100, 200], [2.5, 2.25])
    assert found.counts == {"recompilations": 1}
    assert found.environment == {"network": "bert"}
    assert "memory_mb" in found.series


@pytest.mark.parametrize("name", ["summaries", "tensors"])
def test_event_files_that_tensorflow_wrote(name, tmp_path):
    from porting.logs.read import read_log

    found = read_log(Path(__file__).parent / "data" / f"{name}.tfevents")
    assert found.series["loss"].values.tolist() == [2.5, 2.25, 2.0, 1.75, 1.5]
    assert found.series["seconds"].values.size == 4
    if name == "tensors":
        assert found.metrics["accuracy"].value == 0.75


def test_a_torn_event_file_is_read_so_far(tmp_path):
    from porting.logs.read import read_log

    whole = (Path(__file__).parent / "data" / "tensors.tfevents").read_bytes()
    (tmp_path / "events").write_bytes(whole[: len(whole) - 7])
    found = read_log(tmp_path / "events")
    assert found.series["loss"].values.tolist() == [2.5, 2.25, 2.0, 1.75, 1.5]
    assert found.series["eval/accuracy"].values.size == 5
    assert "the file is torn: events up to there were read" in found.notes


@pytest.mark.parametrize("behind", [b"", b"y"])
@pytest.mark.parametrize("before", [b"", b"x"])
def test_a_needle_is_seen_wherever_it_begins(before, behind):
    needles = [event.needle for dialect in DIALECTS for event in dialect.events]
    known = Needles(needles)
    for number, needle in enumerate(needles):
        assert number in known.possible(before + needle + behind), needle
    assert known.possible(b"nothing of interest here\n") == []


@given(st.binary(min_size=2, max_size=6), st.binary(max_size=40), st.binary(max_size=40))
def test_no_needle_that_is_there_is_missed(needle, before, behind):
    assert Needles([needle, b"another needle"]).possible(before + needle + behind)[0] == 0
