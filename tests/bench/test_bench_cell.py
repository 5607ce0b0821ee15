"""A cell: trained in a process of its own, and whatever becomes of that process is a result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bench_support import matrix, one, result

from porting.backends.names import BackendName
from porting.backends.protocol import Build
from porting.bench import cell_job
from porting.bench.cell import Cell, run_cells, run_here
from porting.bench.corpus import COLA, POSITIVE, WORDS, from_files, generated, split
from porting.bench.figures import FIGURES, OF_DEVICE, measured
from porting.bench.monitor import Monitor
from porting.bench.reading import Reading
from porting.bench.train_job import RECIPE
from porting.convert.registry import family_named
from porting.data.tasks import task_named
from porting.errors import UsageError
from porting.model.batch import check_batch
from porting.model.registry import models
from porting.testing.tiny import tiny
from porting.train.finetune_recipe import recipe_for

pytest.importorskip("psutil")


def run(verb: str, monkeypatch: pytest.MonkeyPatch, backend: str = "torch:cpu") -> dict:
    """The result of a cell whose process does `verb`."""
    monkeypatch.setattr(cell_job, "VERB", f"bench_verbs:{verb}")
    ((_, found),) = run_cells([Cell(backend, "bert-tiny", 2)], matrix().setting, run_here)
    return dict(found)


@pytest.mark.parametrize(
    ("verb", "state", "reason"),
    [
        ("memory_error", "out_of_memory", "MemoryError"),
        ("cuda", "out_of_memory", "CUDA out of memory"),
        ("limited", "out_of_memory", "Unable to allocate"),
        ("killed", "crashed", "killed by SIGKILL"),
        ("aborted", "crashed", "killed by SIGABRT"),
        ("wrong", "crashed", "shapes do not fit"),
        ("refused", "refused", "wanted at most 512"),
        ("silent", "crashed", "did not end within 1 s"),
    ],
)
@pytest.mark.torch
def test_a_process_that_fails_is_a_result_with_its_reason(verb, state, reason, monkeypatch):
    if verb == "silent":
        monkeypatch.setattr(cell_job, "QUIET", 1.0)
    found = run(verb, monkeypatch)
    assert (found["state"], found["backend"]) == (state, "torch:cpu")
    assert reason in found["reason"]
    figures = measured(Cell("torch:cpu", "bert-tiny", 2), found)
    assert set(figures.values.values()) == {None}
    assert all(reason in text for text in figures.reasons.values())


@pytest.mark.torch
def test_the_samples_of_the_monitor_are_on_the_clock_of_the_steps(monkeypatch):
    found = run("done", monkeypatch)
    times = [row[0] for row in found["readings"]]
    assert min(times) < 0 < max(times) < 5, "from before the first step to after the last"
    assert {row[1] for row in found["readings"]} >= {"host"}
    assert found["reads"] == "host"
    assert max(row[4] or 0 for row in found["readings"]) > 10, "MiB of the process that trained"


def test_a_device_that_is_not_there_is_told_with_what_was_looked_for(monkeypatch):
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU here")
    found = run("done", monkeypatch, "gpu")
    assert found["state"] == "not_run"
    assert "no sign of a GPU" in found["reason"]


@pytest.mark.parametrize(
    ("backend", "environ", "there", "reads"),
    [
        ("torch:cpu", {}, ["host", "nvidia:0"], "host"),
        ("torch:npu,cube=hf32", {}, ["host"], "host"),
        ("torch:cuda", {}, ["host", "nvidia:0", "nvidia:1"], "nvidia:0"),
        ("torch:cuda", {"CUDA_VISIBLE_DEVICES": "1,0"}, ["nvidia:0", "nvidia:1"], "nvidia:1"),
        ("torch:cuda", {"CUDA_VISIBLE_DEVICES": "GPU-8f6d"}, ["nvidia:0", "nvidia:1"], ""),
        ("torch:cuda", {"CUDA_VISIBLE_DEVICES": "GPU-8f6d"}, ["nvidia:0"], "nvidia:0"),
        ("torch:cuda", {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, ["nvidia:0", "nvidia:1"], ""),
        ("torch:cuda", {}, ["host"], ""),
        ("mindspore:ascend", {"ASCEND_RT_VISIBLE_DEVICES": "3"}, ["ascend:0", "ascend:3"], "ascend:3"),
    ],
)
def test_whose_readings_are_the_cells(backend, environ, there, reads, monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "ASCEND_RT_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monitor = Monitor(readings=tuple(Reading(0.0, device) for device in there))
    assert cell_job._reads(BackendName.parse(backend), monitor) == reads


def test_figures_are_those_of_the_steady_state():
    found = one(step=0.01, steps=60)
    assert found.steady is not None
    assert found.steady.first == 4
    assert set(found.values) == set(FIGURES)
    assert found.values["step_time"] == pytest.approx(0.01, rel=0.02)
    assert found.values["examples_per_second"] == pytest.approx(200, rel=0.02)
    assert found.values["compile_time"] == pytest.approx(4 * 0.29, rel=0.02)
    assert found.values["epoch_time"] == pytest.approx(0.3, rel=0.02)
    assert found.values["average_power"] == pytest.approx(200, abs=1)
    assert found.values["average_utilization"] == pytest.approx(0.8)
    assert found.values["peak_memory"] == 1500
    assert found.values["peak_rss"] == 700
    assert found.values["train_loss"] == pytest.approx(np.linspace(0.7, 0.6, 60)[30:].mean())
    assert found.reasons == {}


def test_the_first_step_is_never_steady_however_much_the_others_vary():
    seconds = [9.96, 0.29, 0.32, 0.59, 0.62, 1.78, 0.23, 0.83, 0.50, 0.85, 0.22, 2.64, 2.2, 0.36, 1.5, 0.23]
    found = measured(Cell("mindspore:cpu", "bert-tiny", 2), {**result(), "seconds": seconds, "per_epoch": 8})
    assert found.steady is not None
    assert found.steady.first == 1
    assert found.values["compile_time"] == pytest.approx(9.96 - np.median(seconds[1:]))
    assert found.values["epoch_time"] == pytest.approx((sum(seconds[1:]) + np.median(seconds[1:])) / 2)


@pytest.mark.parametrize(
    ("changes", "empty", "reason"),
    [
        ({"power": None}, "average_power", "nvidia:0 does not tell it"),
        ({"power": None, "reads": "host"}, "average_power", "a CPU's power is not told"),
        ({"reads": "host"}, "peak_memory", "see peak_rss"),
        ({"peak_rss": None}, "peak_rss", "does not tell"),
        ({"evaluation": {"loss": 1.0, "corr": 0.5}}, "eval_accuracy", "a regression has none"),
        ({"readings": [], "reads": "nvidia:0"}, "average_utilization", "no sample of nvidia:0"),
        ({"readings": [[0.1, "nvidia:0", 1.0, 1.0, 1.0], [0.1, "nvidia:1", 1.0, 1.0, 1.0]], "reads": ""},
         "average_power", "which of nvidia:0, nvidia:1"),
        ({"readings": [], "reads": "", "monitor": {"missing": ["nvidia: no driver"]}}, "average_memory", "no driver"),
        ({"emulated": "float16 saturate"}, "step_time", "emulated (float16 saturate)"),
    ],
)  # fmt: skip
def test_a_figure_that_was_not_measured_is_empty_with_its_reason(changes, empty, reason):
    plain = {key: value for key, value in changes.items() if key in ("power", "reads", "emulated")}
    found = measured(Cell("torch:cuda", "bert-tiny", 2), {**result(**plain), **changes})
    assert found.values[empty] is None
    assert reason in found.reasons[empty]
    assert {name for name, value in found.values.items() if value is None} == set(found.reasons)


def test_an_emulated_device_has_losses_and_nothing_else():
    found = one(emulated="float16 saturate")
    assert {name for name, value in found.values.items() if value is not None} == set(FIGURES) - set(OF_DEVICE)


@pytest.mark.parametrize("model", [name for name in models() if name != "tinybert"] + ["tinybert"])
def test_generated_examples_fit_every_model(model):
    spec = models()[model]
    config = tiny(spec)
    data = generated(40, seed=3, length=12)
    found = split(data, "train", spec, config, task_named("cola"))
    again = split(data, "train", spec, config, task_named("cola"))
    other = split(data, "eval", spec, config, task_named("cola"))
    assert found.count == 40
    assert found.arrays["input_ids"].shape == (40, 12)
    assert all((found.arrays[name] == again.arrays[name]).all() for name in found.arrays)
    assert (found.arrays["input_ids"] != other.arrays["input_ids"]).any()
    check_batch(spec, config, Build("classification"), found.arrays)


def test_the_generated_corpus_has_the_rows_of_cola_and_its_lengths():
    spec = models()["bert"]
    found = split(generated(None, seed=0), "eval", spec, spec.sizes["bert-tiny"], task_named("cola"))
    assert found.count == COLA["eval"] == 1043
    assert generated(None, seed=0)["train"] == 8551
    assert found.arrays["label_ids"].mean() == pytest.approx(POSITIVE, abs=0.04)
    words = found.arrays["input_mask"].sum(axis=1) - 2
    assert words.mean() == pytest.approx(WORDS, rel=0.06)
    assert words.min() >= 1


@pytest.mark.parametrize(("task", "file", "rows"), [("cola", "cola/train.tsv", 24), ("sts-b", "sts-b/dev.tsv", 40)])
def test_examples_of_files_are_those_of_the_records_without_what_fills_up(task, file, rows, port, tmp_path):
    data = Path(__file__).parents[1] / "golden" / "data"
    words = ["--vocab", data / "vocab.txt", "--max-seq-length", 16, "--pad-to", 48]
    ran = port("data", "glue", task, data / file, "-o", tmp_path / "train.tfrecord", *words)
    assert ran.code == 0, ran.err
    spec = models()["bert"]
    files = [tmp_path / "train.tfrecord"]
    for examples, count in ((None, rows), (10, 10)):
        found = split(from_files(files, files, examples), "eval", spec, spec.sizes["bert-tiny"], task_named(task))
        assert found.count == count, "and not those that fill up"
        assert found.arrays.keys() == {
            "input_ids", "input_mask", "segment_ids", "label_ids" if task == "cola" else "label_values",
        }  # fmt: skip


@pytest.mark.parametrize("model", models())
def test_one_recipe_for_every_model(model):
    spec = models()[model]
    one, bert = (recipe_for(each, RECIPE, steps=40, learning_rate=2e-5) for each in (spec, models()["bert"]))
    assert one.diff(bert) in ((), (f"names_of: {one.names_of}, google",))
    assert one.names_of in {dialect.name for dialect in family_named(spec.family).dialects}
    assert one.schedule.warmup == 4


@pytest.mark.parametrize("examples", [0, -1, 9000])
def test_a_corpus_that_cannot_be(examples):
    with pytest.raises(UsageError, match="--examples"):
        generated(examples, seed=0)


def test_cells_are_described_without_a_framework():
    code = (
        "import sys; import porting.bench.matrix, porting.bench.compare, porting.bench.page;"
        "print([m for m in ('torch', 'tensorflow', 'mindspore', 'ray') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
