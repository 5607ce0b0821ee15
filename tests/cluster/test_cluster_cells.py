"""Cells of a benchmark through the engine: on this machine here, on a Ray cluster in the slow tests."""

from __future__ import annotations

import json

import pytest
from cluster_support import started

from porting.bench.cell import Cell, Setting
from porting.cluster.cells import VERB, ClusterCells, _job, _result
from porting.cluster.job import Result
from porting.data.schema import SCHEMA
from porting.errors import UsageError

GENERATED = {"kind": "generated", "seed": 0, "train": 8, "eval": 4, "length": 8}


def test_a_cell_takes_its_files_along_and_is_alone_on_a_node_of_its_kind(golden, tmp_path):
    path = golden("bert_a1/bert_model.ckpt")
    for name in ("train.tfrecord", "eval.tfrecord", SCHEMA):
        (tmp_path / name).touch()
    data = {"kind": "files", "train": [{"path": str(tmp_path / "train.tfrecord")}], "examples": None}
    data["eval"] = [{"path": str(tmp_path / "eval.tfrecord")}]
    setting = Setting("cola", data, {"bert-tiny": {"path": str(path)}})
    job = _job(Cell("torch:npu", "bert-tiny", 2).job(setting))
    assert job.values["verb"] == VERB
    assert (job.needs, job.alone, job.outputs) == ({"npu": 1}, True, ())
    names = {name.rpartition("/")[2] for files in job.inputs.values() for name in files}
    ckpt = {"bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"}
    assert names == {"train.tfrecord", "eval.tfrecord", SCHEMA, *ckpt}
    assert not _job(Cell("cpu", "bert-mini", 2).job(Setting("cola", GENERATED))).inputs


def test_what_is_not_a_cells_own_doing_is_tried_again_another_time():
    done = {"state": "done", "notes": ["of the cell"]}
    found = _result(Result("done", done, node="a 12345678", told=("attempt 1 of 3: gone",)))
    assert found["notes"] == ["of the cell", "attempt 1 of 3: gone", "node a 12345678"]
    assert _result(Result("lost", reason="gone"))["state"] == "not_run"
    assert _result(Result.refused(UsageError("another kit")))["state"] == "not_run"
    crashed = _result(Result("crashed", reason="killed", tail=("last",)))
    assert crashed == {"state": "crashed", "reason": "killed", "tail": ["last"]}
    assert _result(Result("done", {"state": "out_of_memory", "reason": "full"}))["state"] == "out_of_memory"


def test_a_device_that_cannot_be_had_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr("porting.extras.find_spec", {}.get)
    jobs = [Cell("gpu", "bert-tiny", 2).job(Setting("cola", GENERATED))]
    with pytest.raises(UsageError, match="ray is not installed"):
        list(ClusterCells("10.0.0.1:6379", print)(jobs))


@pytest.mark.slow
@pytest.mark.torch
def test_one_cell_through_the_engine_on_this_machine():
    pytest.importorskip("psutil")
    (found,) = ClusterCells(None, print)([Cell("cpu", "bert-tiny", 4).job(Setting("cola", GENERATED, epochs=1))])
    number, result = found
    assert number == 0
    assert result["state"] == "done", result
    assert len(result["loss"]) == 2
    assert result["notes"][-1] == "node here"


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_cells_on_two_nodes_in_one_command(port, tmp_path):
    """One on a node with a CPU, one on a node with an NPU, which is emulated there: there is no device."""
    with started([{"num_cpus": 1}, {"num_cpus": 0, "resources": {"NPU": 1}}]) as made:
        words = ["--models", "bert-tiny", "--batch-sizes", 4, "--examples", 8, "--epochs", 1, "--max-seq-length", 8]
        words += ["--backend", "cpu,npu", "--cluster", made.address, "-o", tmp_path / "m", "--json"]
        ran = port("bench", "run", *words)
    assert ran.code == 0, ran.err
    cells = json.loads(ran.out)["cells"]
    assert [(cell["backend"], bool(cell["emulated"]), cell["state"]) for cell in cells] == [
        ("torch:cpu", False, "done"),
        ("torch:npu,cube=float16,overflow=saturate", True, "done"),
    ]
