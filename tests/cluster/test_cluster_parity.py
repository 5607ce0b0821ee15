"""Parity of a source on one node with a target on another, in one command; on a local cluster, the target emulated."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from cluster_support import raylet_of, started

from porting.backends.found import Resolved
from porting.backends.names import BackendName
from porting.cluster.captures import ClusterCaptures, captures_on, checkpoint_files
from porting.cluster.job import Result
from porting.errors import UsageError
from porting.parity.parity import parity
from porting.parity.probe import probe_recipe
from porting.parity.reader import read_capture
from porting.parity.side import CAPTURED, Side, Take
from porting.parity.state import Level
from porting.parity.subject import subject


@pytest.fixture(scope="module")
def cluster():
    """A node with a CPU and no NPU, and two the other way round."""
    npu = {"num_cpus": 0, "resources": {"NPU": 1}}
    with started([{"num_cpus": 1}, npu, npu]) as made:
        yield made


def test_training_is_not_spread_and_nothing_is_asked_of_ray_without_an_address():
    with pytest.raises(UsageError, match="--cluster: makes captures; with --steps both sides train on this machine"):
        captures_on("10.0.0.1:6379", steps=3, tell=print)
    assert captures_on(None, steps=3, tell=print) is None


def test_without_ray_the_extra_is_named(port, monkeypatch, tmp_path):
    monkeypatch.setattr("porting.extras.find_spec", {}.get)
    ran = port("parity", "bert", "--target", "npu", "--cluster", "10.0.0.1:6379", "-o", tmp_path / "run")
    assert ran.code == 2
    assert ran.err == "port: error: --cluster: ray is not installed; pip install 'porting-kit[ray]' brings it\n"


def _take(folder, **changes) -> Take:
    here = Resolved(BackendName.parse("torch:cpu"))
    side = Side(here, subject("bert"), levels=CAPTURED, recipe=probe_recipe(subject("bert").spec), timeout=9.0)
    return Take(replace(side, **changes), folder)


def test_a_take_is_the_same_after_its_journey(tmp_path):
    for take in (_take(tmp_path), _take(tmp_path, recipe=None, levels=(Level.FORWARD,))):
        assert Take.from_job(take.job(), timeout=9.0).job() == take.job()


def test_all_files_of_a_checkpoint_travel(golden):
    path = golden("bert_a1/bert_model.ckpt")
    names = {Path(file).name for file in checkpoint_files(str(path))}
    assert names == {"bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"}


def test_captures_of_a_lost_node_are_crashed_ones(tmp_path, monkeypatch):
    """Nothing takes them for a pass."""
    asked = []

    def lost(jobs, **_options):
        asked.extend(jobs)
        return [Result("lost", reason="attempt 3 of 3: gone") for _ in jobs]

    monkeypatch.setattr("porting.cluster.captures.run", lost)
    captures = ClusterCaptures("10.0.0.1:6379", print)
    source, exact = _take(tmp_path / "source"), _take(tmp_path / "float64", compute="float64")
    assert captures.make([source, exact]) == [None, None]
    assert [job.needs for job in asked] == [{"cpu": 1}]
    assert len(asked[0].outputs) == 2
    for name in ("source", "float64"):
        made = read_capture(tmp_path / name).manifest
        assert (made.state, made.reason) == ("crashed", "attempt 3 of 3: gone")
    with pytest.raises(UsageError, match="backend npu: attempt 3 of 3: gone"):
        captures.resolve("npu")


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_each_side_on_its_node_and_the_verdict_here(cluster, golden, tmp_path):
    """The checkpoint goes to both nodes, the source's capture to the target's, and all captures come here."""
    said, checkpoint = [], golden("bert_a1/bert_model.ckpt")
    found = parity(
        subject("bert", checkpoint=checkpoint), "torch:cpu", "npu", output=tmp_path / "run",
        captures=ClusterCaptures(cluster.address, said.append),
    )  # fmt: skip
    assert found.overall.state.value == "PASS", found.to_json()
    assert found.overall.emulated
    assert said == []
    places = {name: read_capture(tmp_path / "run" / name).manifest for name in ("source", "float64", "target")}
    assert [made.state for made in places.values()] == ["whole"] * 3
    assert places["target"].forced_by
    assert (tmp_path / "run" / "comparison.json").is_file()
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_a_kind_of_device_that_no_node_has_is_refused_at_once(cluster, port, tmp_path):
    ran = port(
        "parity", "bert", "--source", "gpu", "--target", "npu", "--cluster", cluster.address, "-o", tmp_path / "x"
    )
    assert ran.code == 2
    assert ran.err.startswith("port: error: gpu: no node has GPU 1; there are: ")
    assert "(NPU 1)" in ran.err


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_the_targets_node_is_killed_while_it_captures(cluster, tmp_path):
    """The other one captures it anew, the verdict is the same, and the loss is said."""
    psutil = pytest.importorskip("psutil")
    said, stages, found = [], [], []
    captures = ClusterCaptures(cluster.address, said.append)
    options = {"output": tmp_path / "run", "captures": captures, "tell": stages.append}
    thread = Thread(daemon=True, target=lambda: found.append(parity(subject("bert"), "torch:cpu", "npu", **options)))
    thread.start()
    nodes = cluster.list_all_nodes()
    end = time.monotonic() + 90
    victim = None
    while victim is None and time.monotonic() < end:
        time.sleep(0.05)
        if any(stage.startswith("target on") for stage in stages):
            victim = next((node for node in nodes if _captures_there(psutil, raylet_of(node))), None)
    assert victim is not None, "no node was seen capturing"
    cluster.remove_node(victim, allow_graceful=False)
    thread.join(120)
    (comparison,) = found
    assert comparison.overall.state.value == "PASS", comparison.to_json()
    assert read_capture(tmp_path / "run" / "target").manifest.state == "whole"
    (lost,) = said
    assert lost.startswith("attempt 1 of 3: ")


def _captures_there(psutil, raylet) -> bool:
    """Whether a framework runs on a node: a worker's own worker."""
    try:
        below = psutil.Process(raylet).children(recursive=True)
        return sum("porting.backends.worker" in each.cmdline() for each in below) > 1
    except psutil.Error:
        return False
