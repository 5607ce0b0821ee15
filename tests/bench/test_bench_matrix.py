"""The matrix: gone on with cell by cell whatever ended it, its table in the field case's layout."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from math import isnan
from pathlib import Path

import pytest
from bench_support import giving, made, matrix, names

from porting.bench import store
from porting.bench.matrix import bench
from porting.bench.options import matrix_of
from porting.bench.table import as_csv, as_markdown
from porting.errors import FormatError, UsageError
from porting.logs.read import read_logs

pytest.importorskip("psutil")
pytest.importorskip("plotly")

FIELD = Path(__file__).parents[1] / "field_logs" / "cola_bert_sizes_rtx2080ti.csv"
FULL = {"state": "out_of_memory", "reason": "CUDA out of memory", "backend": "torch:cuda", "tail": ["the end"]}


@pytest.mark.torch
def test_one_real_cell_from_the_command_line(port, tmp_path):
    words = ["bench", "run", "--models", "bert-tiny", "--batch-sizes", 2, "--examples", 24, "--epochs", 2]
    words += ["--max-seq-length", 8, "--period", 0.05, "-o", tmp_path / "m", "--json"]
    ran = port(*words)
    assert ran.code == 0, ran.err
    (cell,) = json.loads(ran.out)["cells"]
    figures = cell["figures"]
    assert (cell["state"], cell["backend"], cell["steady_from_step"]) == ("done", "torch:cpu", cell["steady_from_step"])
    assert cell["not_measured"].keys() == {"average_power", "peak_memory"}
    assert 0.5 < figures["eval_loss"] < 1
    assert 0 <= figures["eval_accuracy"] <= 1
    assert figures["examples_per_second"] == pytest.approx(2 / figures["step_time"], rel=1)
    assert figures["peak_rss"] > 100
    steps = list(csv.DictReader((tmp_path / "m" / "cells" / "cpu.bert-tiny.2" / "steps.csv").read_text().splitlines()))
    assert [row["epoch"] for row in steps] == ["1"] * 12 + ["2"] * 12
    readings = (tmp_path / "m" / "cells" / "cpu.bert-tiny.2" / "readings.csv").read_text().splitlines()
    during = [row for row in csv.DictReader(readings) if row["step"]]
    assert during, "some sample fell into a step"
    for row in during:
        at = steps[int(row["step"]) - 1]
        assert (
            float(at["start_s"]) <= float(row["seconds"]) + 1e-3 <= float(at["start_s"]) + float(at["seconds"]) + 2e-3
        )
    again = port(*words)
    assert json.loads(again.out)["kept"] == 1


def test_a_cell_that_is_there_is_not_run_again(tmp_path):
    seen: list[int] = []
    first = bench(matrix(sizes=(2, 4)), tmp_path / "m", run=giving(seen=seen))
    second = bench(matrix(sizes=(4, 2, 8)), tmp_path / "m", run=giving(seen=seen))
    assert seen == [2, 4, 8]
    assert (first.kept, second.kept) == (0, 2)
    assert [one.cell.batch_size for one in second.cells] == [4, 2, 8]
    assert names((tmp_path / "m").iterdir()) == [
        ".lock",
        "cells",
        "matrix.csv",
        "matrix.html",
        "matrix.md",
        "plan.json",
    ]


@pytest.mark.parametrize(
    ("other", "again", "retried"),
    [
        (FULL, [], [4]),
        ({"state": "crashed", "reason": "killed", "backend": "torch:cpu"}, [], [4]),
        ({"state": "refused", "reason": "too long", "backend": "torch:cpu"}, [], [4]),
        ({"state": "not_run", "reason": "no sign of a GPU"}, [4], [4]),
    ],
)
def test_a_cell_that_failed_is_a_result_and_the_others_go_on(other, again, retried, tmp_path):
    folder, seen = tmp_path / "m", list[int]()
    found = bench(matrix(sizes=(2, 4, 8)), folder, run=giving({4: other}))
    assert [one.state for one in found.cells] == ["done", other["state"], "done"]
    assert not found.passed
    rows = list(csv.DictReader((folder / "matrix.csv").read_text().splitlines()))
    assert (rows[1]["state"], rows[1]["eval_loss"]) == (other["state"], "")
    assert other["reason"] in rows[1]["not_measured"]
    assert other["reason"] in (folder / "matrix.md").read_text()
    assert other["reason"] in (folder / "matrix.html").read_text()
    bench(matrix(sizes=(2, 4, 8)), folder, run=giving({4: other}, seen))
    assert seen == again
    mended = bench(matrix(sizes=(2, 4, 8)), folder, run=giving(seen=(seen := [])), retry=True)
    assert seen == retried
    assert mended.passed


SLOW = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from bench_support import giving, matrix
from porting.bench import store
from porting.bench.matrix import bench
written = store._written
def slow(path, text):
    written(path, text)
    if path.parent.name.startswith(".cpu.bert-tiny.4") or path.parent.name.startswith(".torch-cpu.bert-tiny.4"):
        time.sleep(60)
store._written = slow
bench(matrix(sizes=(2, 4, 8)), Path({folder!r}), run=giving())
"""


def test_killed_while_a_cell_is_written(tmp_path):
    folder = tmp_path / "m"
    code = SLOW.format(tests=str(Path(__file__).parent), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code])
    end = time.monotonic() + 60
    part = folder / "cells" / ".torch-cpu.bert-tiny.4.part"
    while not (part / "cell.json").exists() and time.monotonic() < end:
        time.sleep(0.02)
    with pytest.raises(UsageError, match="another run is at work there"):
        bench(matrix(sizes=(2, 4, 8)), folder, run=giving())
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert names((folder / "cells").glob("[!.]*")) == ["torch-cpu.bert-tiny.2"]
    seen: list[int] = []
    assert bench(matrix(sizes=(2, 4, 8)), folder, run=giving(seen=seen)).passed
    assert seen == [4, 8]
    assert not part.exists()


HANGING = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from bench_support import matrix
from porting.bench import cell_job
from porting.bench.matrix import bench
from porting.bench.monitor import Monitor
cell_job.VERB = "bench_verbs:silent"
Monitor.watch = lambda self, pid: print(pid, self._process.pid, flush=True)
bench(matrix(), Path({folder!r}))
"""


@pytest.mark.torch
def test_killed_in_the_middle_of_a_cell_nothing_goes_on_running(tmp_path):
    code = HANGING.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "m"))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2, "the process that trains, and the monitor's"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    end = time.monotonic() + 20
    while any(running(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(running(pid) for pid in pids)
    assert bench(matrix(), tmp_path / "m", run=giving()).kept == 0


def running(pid: int) -> bool:
    """Whether there is such a process, and not only its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_interrupted_it_says_what_there_is(port, monkeypatch, tmp_path):
    def run(jobs, tell):
        yield from giving()(jobs[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr("porting.bench.cell.run_here", run)
    words = ["--models", "bert-tiny", "--batch-sizes", "2,4", "-o", tmp_path / "m"]
    ran = port("bench", "run", *words)
    assert ran.code == 130
    assert "are whole, and the same command goes on" in ran.err
    assert names((tmp_path / "m" / "cells").iterdir()) == ["cpu.bert-tiny.2"]


@pytest.mark.parametrize("text", ["", "{", '{"cell": {}}', "[]", '{"cell": {"backend": "x"}, "result": {}}'])
def test_a_damaged_cell_is_run_again_and_a_comparison_names_it(text, tmp_path):
    folder, seen = tmp_path / "m", list[int]()
    made(folder)
    cell = folder / "cells" / "torch-cpu.bert-tiny.2" / "cell.json"
    cell.write_text(text)
    with pytest.raises(FormatError, match=r"cell\.json: is no cell of a matrix"):
        store.read_cells(folder)
    assert bench(matrix(sizes=(2, 4)), folder, run=giving(seen=seen)).passed
    assert seen == [2]


def test_a_full_disk_leaves_what_is_there_and_nothing_half(tmp_path, monkeypatch):
    folder, written = tmp_path / "m", store._written

    def full(path, text):
        if ".4.part" in str(path):
            path.write_text(text[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(path, text)

    monkeypatch.setattr(store, "_written", full)
    with pytest.raises(FormatError, match="cannot be written: No space left on device"):
        bench(matrix(sizes=(2, 4, 8)), folder, run=giving())
    assert names((folder / "cells").iterdir()) == ["torch-cpu.bert-tiny.2"]
    monkeypatch.undo()
    assert bench(matrix(sizes=(2, 4, 8)), folder, run=giving()).kept == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"epochs": 3}, "epochs"), ({"learning_rate": 1e-4}, "learning_rate"), ({"data": {"kind": "x"}}, "data")],
)
def test_a_folder_of_another_matrix_is_refused(changes, told, tmp_path):
    made(tmp_path / "m")
    before = (tmp_path / "m" / "plan.json").read_bytes()
    other = matrix()
    object.__setattr__(other, "setting", replace(other.setting, **changes))
    with pytest.raises(UsageError, match=f"was begun with another {told}; choose another folder"):
        bench(other, tmp_path / "m", run=giving())
    assert (tmp_path / "m" / "plan.json").read_bytes() == before


def test_cells_of_other_code_are_not_mixed(tmp_path):
    made(tmp_path / "m", 2, code="sha256:of-last-year")
    with pytest.raises(UsageError, match="was measured with other code"):
        bench(matrix(sizes=(2, 4)), tmp_path / "m", run=giving())


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"holds other things than a matrix \(thesis.tex\)"):
        bench(matrix(), tmp_path, run=giving())
    assert names(tmp_path.iterdir()) == ["thesis.tex"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--models", "bert-gigantic"], "model bert-gigantic: not known"),
        (["--models", ","], "--models: wanted at least one"),
        (["--batch-sizes", "2,x"], "--batch-sizes: wanted whole numbers with commas, got x"),
        (["--batch-sizes", "0"], "--batch-sizes: wanted 1 to the 24 examples, got 0"),
        (["--batch-sizes", "25"], "--batch-sizes: wanted 1 to the 24 examples, got 25"),
        (["--backend", "tpu"], "backend tpu: not known"),
        (["--epochs", "0"], "--epochs: wanted at least 1, got 0"),
        (["--task", "sst-2"], "--task sst-2: only cola has generated examples: pass --train and --eval"),
        (["--task", "nonsense"], "nonsense: wanted a task among"),
        (["--train", "absent.tfrecord"], "--train and --eval: wanted both"),
        (["--train", "absent.tfrecord", "--eval", "absent.tfrecord"], "absent.tfrecord: cannot be read"),
        (["--compute", "int8"], "--compute: wanted one of"),
        (["--mode", "fast"], "--mode: wanted eager or graph"),
        (["--checkpoint", "bert-tiny"], "--checkpoint: wanted MODEL=PATH"),
        (["--seed", "-1"], "--seed: wanted at least 0"),
        (["--period", "0"], "period: wanted 0.001 to 3600 seconds"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(words, told, port, tmp_path):
    usual = {"--models": "bert-tiny", "--batch-sizes": "2", "--examples": "24", "-o": tmp_path / "m"}
    given = {**usual, **dict(zip(words[::2], words[1::2], strict=True))}
    ran = port("bench", "run", *(word for pair in given.items() for word in pair))
    assert ran.code == 2
    assert told in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "m").exists()


def test_options_of_an_emulated_device_keep_their_commas():
    found = matrix_of(models="bert-tiny", batch_sizes="2", backends="npu,cube=hf32,overflow=infnan,cpu", examples=8)
    assert found.backends == ("npu,cube=hf32,overflow=infnan", "cpu")


def test_the_csv_has_the_layout_of_the_field_case_and_is_read_as_such(tmp_path):
    made(tmp_path / "m")
    lines = (tmp_path / "m" / "matrix.csv").read_text().splitlines()
    head = FIELD.read_text().splitlines()[0]
    assert lines[0].startswith(head + ",")
    first = next(csv.DictReader(lines))
    theirs = next(csv.DictReader(FIELD.read_text().splitlines()))
    units = [[row[name].strip("0123456789.") for name in head.split(",")[2:]] for row in (first, theirs)]
    assert units[0] == units[1] == ["%", "", "", "s", "W", "MiB", "%"]
    runs = read_logs(tmp_path / "m" / "matrix.csv")
    assert len(runs) == 2
    values = {name: metric.value for name, metric in runs[0].metrics.items()}
    assert values["accuracy"] == pytest.approx(0.69)
    assert values["average_power"] == pytest.approx(200, abs=1)
    assert values["average_utilization"] == pytest.approx(0.8)


def test_what_is_generated_and_what_is_emulated_is_said_everywhere(tmp_path):
    folder = tmp_path / "m"
    bench(matrix(sizes=(2,), backends=("npu",)), folder, run=giving(emulated="float16 saturate"))
    for name in ("matrix.md", "matrix.html"):
        text = (folder / name).read_text()
        assert "GENERATED from seed 0, not CoLA" in text
        assert "EMULATED" in text
    assert "float16 saturate" in (folder / "matrix.csv").read_text()
    picture = (folder / "cells" / "npu.bert-tiny.2" / "picture.svg").read_text()
    assert "loss" in picture
    assert "step time" not in picture


def test_what_a_device_or_a_file_is_called_cannot_break_the_table(tmp_path):
    nasty = '<script>alert(1)</script>|"\n'
    found = bench(matrix(sizes=(2,)), tmp_path / "m", run=giving(device=nasty, notes=[nasty]))
    plan = store.read_plan(tmp_path / "m")
    page = (tmp_path / "m" / "matrix.html").read_text()
    assert "<script>alert" not in page
    assert "<script>alert" not in as_markdown(plan, found.cells)
    assert next(csv.DictReader(as_csv(found.cells).splitlines(keepends=True)))["device"] == nasty


def test_losses_that_are_not_finite_are_drawn_around(tmp_path):
    losses = [float("nan")] * 60
    losses[3] = float("inf")
    found = bench(matrix(sizes=(2,)), tmp_path / "m", run=giving(loss=losses))
    assert "nothing finite" in (tmp_path / "m" / "cells" / "torch-cpu.bert-tiny.2" / "picture.svg").read_text()
    assert isnan(found.cells[0].values["train_loss"])
