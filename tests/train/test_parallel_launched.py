"""Whole commands under torchrun, and MindSpore under msrun: two processes against one. Minutes on a small machine."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from finetune_records import write_config, write_records
from golden_distillation import STEPS, arrays, options
from test_parallel_torch import SUBJECT, TWO, close, launched, left

from porting.train.state import read_state, states

pytestmark = pytest.mark.slow

TRAJECTORY = 2e-5  # the project's aim for distillation
CLOSE = 3e-6  # test_parallel_torch says why

DISTILS = """
import pickle, sys
from pathlib import Path
from porting.train.distill import distill_general, distill_task
opts = pickle.loads(Path(sys.argv[1]).read_bytes())
(distill_general if opts["command"] == "general" else distill_task)(opts, print)
"""


def rows(folder):
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("framework", "phase"), [("torch", "gd"), ("torch", "td2"), ("mindspore", "td2")])
def test_distillation_by_two_makes_the_golden_trajectory(framework, phase, tmp_path):
    pytest.importorskip(framework)
    made = options(tmp_path, phase, batch_size=2, backend=f"{framework}:cpu")
    (tmp_path / "options").write_bytes(pickle.dumps({**made, "command": "general" if phase == "gd" else "task"}))
    (tmp_path / "distils.py").write_text(DISTILS)
    if framework == "torch":
        command = [sys.executable, *TWO, str(tmp_path / "distils.py"), str(tmp_path / "options")]
        inherited = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=inherited, capture_output=True, text=True, timeout=200, check=False)
        said = done.stdout
    else:
        done, said = by_msrun(tmp_path, tmp_path / "distils.py", tmp_path / "options")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run"
    found = np.array([row["loss"] for row in rows(folder)])
    assert len(found) == STEPS
    assert np.abs(found - arrays("trajectory")[f"{phase}/loss"]).max() <= TRAJECTORY
    assert [path.name for path in states(folder)] == [f"state-{STEPS:08d}.safetensors"]
    assert said.count("student.safetensors") == 1


def test_finetune_by_two_is_finetune_by_one(tmp_path):
    pytest.importorskip("torch")
    data = [write_records(tmp_path / "data", name) for name in ("train", "dev")]
    words = ["finetune", "bert", "--task", "sst-2", "--train", data[0], "--eval", data[1], "--backend", "torch:cpu"]
    words += ["--model-config", write_config(tmp_path, "bert"), "--epochs", 2, "--learning-rate", 1e-3]
    for name, size, launcher in (("one", 8, ()), ("two", 4, TWO)):
        command = [sys.executable, *launcher, "-m", "porting", *words, "--batch-size", size, "-o", tmp_path / name]
        inherited = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*map(str, command)], env=inherited, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("state-00000006.safetensors") == 1
    one, two = tmp_path / "one", tmp_path / "two"
    assert len(rows(two)) == len(rows(one)) == 6
    for mine, theirs in zip(rows(two), rows(one), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=CLOSE)
    close(read_state(states(two)[-1]).weights, read_state(states(one)[-1]).weights)
    assert (two / "evaluations.jsonl").read_text() == (one / "evaluations.jsonl").read_text()


def by_msrun(folder, *words):
    """Two ranks; returns what msrun has done, and the log of rank 0."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "msrun"), "--worker_num=2", "--local_worker_num=2", "--join=True"]
    command += [f"--master_port={port}", f"--log_dir={folder / 'log'}", "python", *map(str, words)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path}
    done = subprocess.run(command, cwd=folder, env=inherited, capture_output=True, text=True, timeout=300, check=False)
    return done, (folder / "log" / "worker_0.log").read_text(errors="replace")


def test_two_processes_of_mindspore_train_as_one(tmp_path):
    pytest.importorskip("mindspore")
    cases = "classification,mlm"
    assert launched("mindspore", cases, 4, tmp_path / "one").returncode == 0
    done, log = by_msrun(tmp_path, SUBJECT, "mindspore", cases, 4, tmp_path / "two")
    assert done.returncode == 0, log
    for case in cases.split(","):
        wanted, weights = left(tmp_path / "one", case, 0)
        made, first = left(tmp_path / "two", case, 0)
        again, second = left(tmp_path / "two", case, 1)
        assert made == again
        assert all(np.array_equal(first[name], second[name]) for name in first)
        close(first, weights)
        for mine, theirs in zip(made, wanted, strict=True):
            assert mine == pytest.approx(theirs, rel=CLOSE)


def test_a_rank_of_mindspore_that_dies_ends_the_other_with_its_name(tmp_path):
    """Without msrun, which kills the others within a second: what is seen is the kit's own line."""
    pytest.importorskip("mindspore")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    place = {"MS_WORKER_NUM": "2", "MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": port, "OMP_NUM_THREADS": "1"}
    roles = [{"MS_ROLE": "MS_WORKER", "MS_NODE_ID": str(r), "RANK_ID": str(r), "DEVICE_ID": str(r)} for r in range(2)]
    words = [sys.executable, str(SUBJECT), "mindspore", "classification", "4", str(tmp_path / "two")]
    logs = [tmp_path / f"log-{number}" for number in range(3)]
    processes = []
    try:
        for role, log in zip([*roles, {"MS_ROLE": "MS_SCHED"}], logs, strict=True):
            with log.open("w") as file:
                inherited = {**os.environ, **place, **role, "DIES": "1 2"}
                processes.append(subprocess.Popen(words, cwd=tmp_path, env=inherited, stdout=file, stderr=file))
        assert processes[1].wait(120) == -signal.SIGKILL
        assert processes[0].wait(20) == 2
        assert processes[2].wait(120) == 2
    finally:
        for process in processes:
            process.kill()
    said = [[line for line in log.read_text().splitlines() if line.startswith("port: ")] for log in logs]
    assert [len(lines) for lines in said] == [1, 0, 1]
    assert said[0][0].startswith(f"port: error: rank 1 (process {processes[1].pid} on ")
    assert said[2][0].startswith("port: error: msrun's scheduler: ")


def test_a_part_of_a_sum_that_mindspore_cannot_weight_is_refused(tmp_path):
    pytest.importorskip("mindspore")
    done, log = by_msrun(tmp_path, SUBJECT, "mindspore", "pretraining", 2, tmp_path / "two")
    assert done.returncode != 0
    assert "MindSpore weights a loss on several devices as a whole; its parts want mlm.loss " in log
