"""`port finetune` in PyTorch on small models: what it learns, what it leaves, and that a kill changes no number."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from finetune_records import write_config, write_records

from porting.backends.worker import Progress
from porting.checkpoint.registry import read
from porting.errors import PortError
from porting.logs.read import read_log
from porting.train.best import BEST, read_best, read_evaluations
from porting.train.finetune import Run, finetune
from porting.train.finetune_job import finetune as job_of
from porting.train.log import LOG, STEPS
from porting.train.state import read_state, states

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

FAST = {"epochs": 6, "batch_size": 8, "learning_rate": 2e-3, "seed": 1, "warmup": 0.1}


def options(place, model="bert", task="sst-2", **changes):
    """Options of a run of a small model; its records are made beside."""
    style, values = ("xlnet" if model == "xlnet" else "bert"), task == "sts-b"
    made = {"style": style, "regression": values}
    train = write_records(place / "records", "train", count=48, **made)
    dev = write_records(place / "records", "dev", count=16, **made)
    return {
        "model": model, "model_config": write_config(place, model), "task": task, "train": [train], "eval": [dev],
        "output": place / "run", "backend": "torch:cpu", **FAST, **changes,
    }  # fmt: skip


def job(run_options):
    """What the worker is told."""
    run = Run.of(run_options)
    known = {"run": run.to_json(), "subject": run.subject.to_json()}
    return {**known, "backend": "torch:cpu", "emulated": "", "reason": ""}


def trained(run_options, progress: Progress = lambda _values: None):
    """The run in this process, which saves the start of another."""
    return job_of(job(run_options), progress)


def rows(folder):
    """Steps by number: one that was made again stands there once."""
    found = {}
    for text in (folder / STEPS).read_text().splitlines():
        row = json.loads(text)
        del row["seconds"]
        assert found.setdefault(row["step"], row) == row
    return found


@pytest.mark.parametrize(
    ("model", "task", "recipe", "metric"),
    [
        ("bert", "cola", "bert_finetune", "matthews"),
        ("roberta", "sst-2", "roberta_finetune", "accuracy"),
        ("tinybert", "mrpc", "tinybert_bert_adam", "acc_and_f1"),
        ("xlnet", "sts-b", "xlnet_finetune", "corr"),
        ("bert", "sts-b", "bert_finetune", "corr"),
    ],
)
def test_each_model_by_the_recipe_of_its_authors(tmp_path, model, task, recipe, metric):
    told = []
    found = trained(options(tmp_path, model, task, epochs=2), told.append)
    assert (found["recipe"], found["metric"], found["steps"], found["skipped"]) == (recipe, metric, 12, 0)
    assert [one["step"] for one in told] == list(range(1, 13))
    assert found["notes"] == ["no checkpoint: all weights drawn from seed 1, nothing is pre-trained"]
    evaluations, best = read_evaluations(tmp_path / "run"), read_best(tmp_path / "run")
    assert [one.step for one in evaluations] == [6, 12]
    assert found["best"]["step"] == best.evaluation.step
    values = [one.metrics[metric] for one in evaluations]
    assert best.value == max(values) or np.isnan(values).any()
    log = read_log(tmp_path / "run" / LOG)
    assert len(log.series["loss"].values) == 12
    assert set(json.loads((tmp_path / "run" / "run.json").read_text())) >= {"run", "options", "versions", "notes"}


def test_what_can_be_learnt_is_learnt_and_the_best_goes_on_as_a_checkpoint(tmp_path):
    first = options(tmp_path, epochs=12)
    assert trained(first)["best"]["metrics"]["accuracy"] == 1
    best = tmp_path / "run" / BEST
    again = {**first, "checkpoint": best, "model_config": None, "output": tmp_path / "again", "steps": 1}
    found = trained({**again, "epochs": None, "learning_rate": 0.0, "warmup": 0})
    assert found["notes"] == []
    assert found["last"]["metrics"]["accuracy"] == 1
    kept = read(tmp_path / "again" / BEST)
    assert all(np.array_equal(entry.read(), kept[name].read()) for name, entry in read(best).items())


def test_several_files_are_evaluated_apart_and_the_first_decides(tmp_path):
    asked = options(tmp_path, epochs=1)
    other = write_records(tmp_path / "records", "dev_other", count=8)
    found = trained({**asked, "eval": [*asked["eval"], other]})
    assert set(found["last"]["metrics"]) == {"accuracy", "dev_other/accuracy"}


def test_an_overflow_is_skipped_and_the_scale_falls(tmp_path):
    found = trained(options(tmp_path, epochs=1, dtype="float16", loss_scale="dynamic:1e7"))
    made = rows(tmp_path / "run")
    skipped = [row["step"] for row in made.values() if row["overflow"]]
    assert skipped[0] == 1
    assert found["skipped"] == len(skipped) < 6
    assert found["loss_scale"] == pytest.approx(1e7 / 2 ** len(skipped))
    assert all(np.isfinite(row["loss"]) for row in made.values())


def test_a_loss_that_is_not_finite_is_said(tmp_path):
    found = trained(options(tmp_path, epochs=2, learning_rate=1e30, recipe="adamw"))
    assert re.fullmatch(r"the loss was not finite in \d+ steps, first in step \d+", found["notes"][-1])


def test_another_run_in_the_same_folder_is_refused_by_what_differs(tmp_path):
    first = options(tmp_path, epochs=1)
    trained(first)
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    with pytest.raises(PortError, match=r"is of another run: recipe\.weight_decay: 0\.01 there, 0\.1 here$"):
        trained({**first, "weight_decay": 0.1})
    assert {path: path.read_bytes() for path in before} == before
    assert trained(first)["steps"] == 6  # of the same run nothing is left to do


def test_dropout_of_pytorchs_own_is_the_same_after_a_stop(tmp_path):
    asked = options(tmp_path, epochs=2, dropout="own", save_steps=5)
    trained({**asked, "output": tmp_path / "whole"})

    def stop(values):
        if values["step"] == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(asked, stop)
    trained(asked)
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    trained({**asked, "output": tmp_path / "off", "dropout": "off"})
    assert rows(tmp_path / "off") != rows(tmp_path / "whole")


KILLED = """
import json, os, signal, sys
from porting.train.finetune_job import finetune
from porting.train.log import TrainLog
told = TrainLog.told
def fatal(self, place, step, result):
    told(self, place, step, result)
    if step == 23:
        os.kill(os.getpid(), signal.SIGKILL)
TrainLog.told = fatal
finetune(json.loads(sys.argv[1]), lambda values: None)
"""


@pytest.mark.usefixtures("one_thread")
def test_a_run_that_is_killed_goes_on_to_the_same_losses_and_weights(tmp_path):
    asked = options(tmp_path, epochs=8, save_steps=7, max_ckpt_num=2)
    trained({**asked, "output": tmp_path / "whole"})
    ended = subprocess.run([sys.executable, "-c", KILLED, json.dumps(job(asked))], check=False)
    assert ended.returncode == -signal.SIGKILL
    kept = [read_state(path).mark.counters.steps for path in states(tmp_path / "run")]
    assert kept == [14, 21]
    assert "goes on from step 21" in trained(asked)["notes"]
    _same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_command_that_is_killed_takes_its_worker_along_and_goes_on(tmp_path):
    asked = options(tmp_path, epochs=60, save_steps=7, max_ckpt_num=2, output=tmp_path / "whole")
    trained(asked)
    folder = tmp_path / "killed"
    flags = ["--" + name.replace("_", "-") for name in asked if name != "model"]
    words = [str(one[0] if isinstance(one, list) else one) for name, one in asked.items() if name != "model"]
    words[flags.index("--output")] = str(folder)
    command = [sys.executable, "-m", "porting.cli", "finetune", "bert"]
    command += [word for pair in zip(flags, words, strict=True) for word in pair]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait(lambda: (folder / STEPS).is_file() and len((folder / STEPS).read_bytes().splitlines()) > 20, process)
    finally:
        process.kill()
        process.communicate()
    done = None
    while done is None:  # the worker's own end follows that of the command
        try:
            done = trained({**asked, "output": folder})
        except PortError as error:
            assert "another run trains there now" in str(error)  # noqa: PT017 - any other is a failure
            time.sleep(0.05)
    assert any(note.startswith("goes on from step ") for note in done["notes"])
    _same(folder, tmp_path / "whole")


def _same(folder, whole):
    """Losses, evaluations, weights and the best of two runs."""
    assert rows(folder) == rows(whole)
    assert read_evaluations(folder) == read_evaluations(whole)
    one, two = (read_state(states(place)[-1]) for place in (folder, whole))
    assert all(np.array_equal(one.weights[name], value) for name, value in two.weights.items())
    best, wanted = (read(place / BEST) for place in (folder, whole))
    assert all(np.array_equal(best[name].read(), entry.read()) for name, entry in wanted.items())


def _wait(holds, process, seconds=60.0):
    end = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_command_says_last_and_best_and_takes_a_file_of_options(tmp_path, port):
    asked = options(tmp_path, epochs=1, export="safetensors,ckpt")
    config = tmp_path / "run.json"
    plain = {name: [str(one) for one in value] if isinstance(value, list) else value for name, value in asked.items()}
    config.write_text(json.dumps(plain, default=str))
    ran = port("finetune", "--config", config, "--batch-size", 24, "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert (said["steps"], said["batch_size"], said["metric"]) == (2, 24, "accuracy")
    assert said["best"]["metrics"]["accuracy"] >= said["last"]["metrics"]["accuracy"]
    assert [one["format"] for one in said["exports"]] == ["safetensors", "ckpt"]
    exported = [read(one["path"]) for one in said["exports"]]
    assert all(len(one) == len(read(tmp_path / "run" / BEST)) for one in exported)
    ran = port("finetune", "--config", config, "--learning-rate", "-1")
    assert (ran.code, ran.err) == (2, "port: error: --learning-rate: wanted at least 0, got -1.0\n")


def test_ctrl_c_is_told_with_what_is_left(tmp_path, monkeypatch):
    from porting.backends import process

    def interrupted(*_what, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr(process, "call", interrupted)
    with pytest.raises(PortError, match=r"interrupted; states in .*run are whole, and the same command goes on"):
        finetune(Run.of(options(tmp_path)))
