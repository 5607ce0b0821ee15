"""What a node does with a job, without Ray: what arrives there, what goes back, what it refuses."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from porting.cluster import nodes, ray_node
from porting.cluster.job import Job, Result, files_of
from porting.cluster.nodes import Node
from porting.cluster.parcel import Unpacking, packed
from porting.errors import UsageError
from porting.version import VERSION

OTHER = 2**22 + 1
"""A process number that Linux does not give."""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """The node's temporary folder, and where its jobs find the tests' verbs."""
    (tmp_path / "node").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "node"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # as Ray would set it


def _worked(job, inputs=(), version=VERSION):
    messages = list(ray_node.work(job.to_json(), version, inputs, lambda piece: piece))
    results = [Result.from_json(each["result"]) for each in messages if isinstance(each, dict) and "result" in each]
    assert messages[-1] == {"end": True}
    assert len(results) == 1
    return messages, results[0]


def test_inputs_arrive_and_outputs_go_back(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / name).write_text(name)
    folder, output = str(tmp_path / "in"), str(tmp_path / "made")
    values = {"verb": "cluster_verbs:copy", "files": {"there": folder}, "output": output}
    job = Job("copy", values, inputs={folder: files_of(folder)}, outputs=(output,))
    sent = {"root": str(tmp_path), "paths": [folder]}
    sent["pieces"] = list(packed(tmp_path, [Path(file) for file in files_of(folder)]))
    messages, result = _worked(job, [sent])
    assert result.state == "done", result
    assert result.value["lay"]["there"].startswith(str(tmp_path / "node"))
    taking = Unpacking([tmp_path / "made"])
    for each in messages:
        if isinstance(each, bytes) or "file" in each or "hash" in each:
            taking.take(each)
    assert (tmp_path / "made" / "there" / "b").read_text() == "b"
    assert (tmp_path / "made" / "large").stat().st_size == 18_000_000
    assert not list((tmp_path / "node").iterdir())


def test_an_input_that_was_damaged_on_the_way_is_refused(tmp_path):
    (tmp_path / "one").write_text("one")
    job = Job("x", {"verb": "cluster_verbs:nothing"}, inputs={str(tmp_path / "one"): (str(tmp_path / "one"),)})
    header, _, end = packed(tmp_path, [tmp_path / "one"])
    sent = {"root": str(tmp_path), "paths": [str(tmp_path / "one")], "pieces": [header, b"two", end]}
    _, result = _worked(job, [sent])
    assert result.state == "refused"
    assert "did not arrive as it was sent" in result.reason


def test_another_version_is_refused():
    _, result = _worked(Job("x", {"verb": "cluster_verbs:nothing"}), version="9.9")
    assert result.reason == f"node {socket.gethostname()}: has porting kit {VERSION}; wanted 9.9, as the driver has"


def test_a_node_without_permission_says_where(monkeypatch):
    def denied(*_args, **_options):
        raise PermissionError(13, "Permission denied", "/locked")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", denied)
    _, result = _worked(Job("x", {"verb": "cluster_verbs:nothing"}))
    assert (result.state, result.reason) == ("refused", f"node {socket.gethostname()}: /locked: Permission denied")


def test_what_killed_workers_left_is_removed_and_nothing_else(tmp_path):
    """Of this host, this user and a process that is gone."""
    own = f"{ray_node.ROOM}{socket.gethostname()}-"
    kept = [f"{own}{os.getpid()}-alive", f"{own}no-number", f"{ray_node.ROOM}other-host-{OTHER}-x", "else"]
    for name in (*kept, f"{own}{OTHER}-gone"):
        (tmp_path / "node" / name).mkdir()
    _worked(Job("x", {"verb": "cluster_verbs:nothing"}))
    assert sorted(path.name for path in (tmp_path / "node").iterdir()) == sorted(kept)


def test_threads_are_those_of_the_node_not_rays(monkeypatch):
    """Ray would have a job on a GPU train with one thread."""
    _, result = _worked(Job("x", {"verb": "cluster_verbs:threads"}))
    started_with = Path(f"/proc/{os.getppid()}/environ").read_bytes()
    assert result.value["threads"] != "7" or b"OMP_NUM_THREADS=7" in started_with
    monkeypatch.undo()


class TestNodes:
    here = (
        Node("a" * 40, "one", {"CPU": 8.0, "GPU": 2.0, "memory": 1e9, "node:10.0.0.1": 1.0, "accelerator_type:H": 1.0}),
        Node("b" * 40, "two", {"CPU": 4.0, "NPU": 1.0}),
    )

    def test_what_there_is_is_named(self):
        said = nodes.nowhere({"gpu": 3, "bigmem": 1}, self.here)
        assert said == (
            "no node has GPU 3, bigmem 1; there are: one aaaaaaaa (CPU 8, GPU 2); two bbbbbbbb (CPU 4, NPU 1)"
        )
        assert nodes.nowhere({"cpu": 1}, []) == "no node has CPU 1; there are: none at all"

    def test_needs_must_meet_on_one_node(self):
        nodes.check_needs([Job("x", {}, {"npu": 1, "cpu": 4})], self.here)
        with pytest.raises(UsageError, match="x: no node has NPU 1, GPU 1"):
            nodes.check_needs([Job("x", {}, {"npu": 1, "gpu": 1})], self.here)

    def test_a_task_asks_ray_for_what_a_job_needs(self):
        asked = nodes.options({"gpu": 1, "npu": 2, "bigmem": 0.5})
        assert asked == {"num_cpus": 0, "num_gpus": 1, "resources": {"NPU": 2, "bigmem": 0.5}}
