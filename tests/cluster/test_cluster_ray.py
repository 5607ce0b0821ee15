"""The engine on a Ray cluster of several nodes on this machine, one of which is killed in the middle."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from threading import Thread

import pytest
from cluster_support import STORE, kill_node_of, started

from porting.cluster import conversion, nodes, ray_place
from porting.cluster.engine import run, stream
from porting.cluster.job import Job, files_of
from porting.convert.convert import convert
from porting.errors import UsageError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]
"""What Ray warns of in itself is not ours."""


def job(verb, *, needs=None, timeout=60.0, inputs=(), outputs=(), alone=False, **values) -> Job:
    found = {str(path): files_of(path) for path in inputs}
    told = {"verb": f"cluster_verbs:{verb}", **values}
    return Job(verb, told, needs or {"cpu": 1}, timeout, found, tuple(map(str, outputs)), alone)


@pytest.fixture(scope="module")
def cluster():
    """A head that runs nothing, a node with a GPU, two with an NPU each: resources of Ray, no devices."""
    npu = {"num_cpus": 1, "resources": {"NPU": 1}}
    with started([{"num_cpus": 1, "num_gpus": 1, "resources": {"bigmem": 1}}, npu, npu]) as made:
        yield made


def _wait(until, seconds=60.0):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_jobs_go_where_their_resources_are_and_files_go_with_them(cluster, tmp_path):
    """A folder and a file go, 18 MB of several pieces come back; one refuses, one dies, one knows its environment."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("a")
    (tmp_path / "in" / "b").write_text("b")
    inputs, output = [tmp_path / "in", Path(__file__)], tmp_path / "made"
    copied = {"a": str(tmp_path / "in"), "me": __file__}
    jobs = [
        job("copy", needs={"gpu": 1}, inputs=inputs, outputs=[output], output=str(output), files=copied),
        job("refuse", needs={"npu": 1}),
        job("half", outputs=[tmp_path / "half"], output=str(tmp_path / "half")),
        job("threads"),
        job("echo", needs={"bigmem": 1}, text="Σ"),
    ]
    said = []
    found = run(jobs, cluster=cluster.address, progress=lambda number, told: said.append((number, told)))
    made, refused, died, threads, echo = found
    assert made.state == "done", made
    assert made.attempts == 1
    assert not any(str(tmp_path) in place for place in made.value["lay"].values())
    assert (tmp_path / "made" / "a" / "b").read_text() == "b"
    assert (tmp_path / "made" / "me").read_bytes() == Path(__file__).read_bytes()
    assert (tmp_path / "made" / "large").read_bytes() == b"\x01\x02\x03" * 6_000_000
    assert (refused.state, refused.reason) == ("refused", "asked wrongly")
    assert died.state == "crashed"
    assert "SIGKILL" in died.reason
    assert not (tmp_path / "half").exists()
    assert threads.value["threads"] == os.environ.get("OMP_NUM_THREADS")
    assert echo.value["heard"] == "Σ"
    assert (4, {"step": 1}) in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "made"]


def test_what_no_node_has_is_refused_with_what_there_is(cluster):
    with pytest.raises(UsageError) as raised:
        run([job("echo", text=""), job("echo", needs={"tpu": 1}, text="")], cluster=cluster.address)
    assert "echo: no node has tpu 1; there are: " in str(raised.value)
    assert "CPU 1, NPU 1" in str(raised.value)
    assert "CPU 1, GPU 1, bigmem 1" in str(raised.value)


def test_another_version_of_the_kit_is_refused(cluster, monkeypatch):
    monkeypatch.setattr(ray_place, "VERSION", "9.9")
    (found,) = run([job("echo", text="")], cluster=cluster.address)
    assert found.state == "refused"
    assert "has porting kit 0." in found.reason
    assert found.reason.endswith("wanted 9.9, as the driver has")


def test_another_cluster_than_the_connected_one_is_refused(cluster):
    run([job("echo", text="")], cluster=cluster.address)
    with pytest.raises(UsageError, match="this process is connected to"):
        run([job("echo", text="")], cluster="10.0.0.1:6379")


def test_jobs_that_measure_are_alone_on_their_node(cluster, tmp_path):
    began, until = tmp_path / "began", tmp_path / "until"
    jobs = [job("sleep", needs={"NPU": 0.25}, alone=True, began=str(began), until=str(until)) for _ in range(3)]
    found = []
    thread = Thread(daemon=True, target=lambda: found.extend(run(jobs, cluster=cluster.address)))
    thread.start()
    _wait(lambda: began.is_dir() and len(list(began.iterdir())) == 2)
    time.sleep(2)
    assert len(list(began.iterdir())) == 2  # of two nodes that have an NPU
    until.touch()
    thread.join(60)
    assert [each.state for each in found] == ["done"] * 3


def test_closing_ends_what_runs_on_the_nodes(cluster, tmp_path):
    said, until = [], str(tmp_path / "until")
    waiting = job("sleep", began=str(tmp_path / "began"), until=until)
    tell = lambda _, told: said.append(told)  # noqa: E731
    running = stream([job("echo", text=""), waiting], cluster=cluster.address, progress=tell)
    assert next(running)[0] == 0
    _wait(lambda: any("pid" in told for told in said))
    pid = next(told["pid"] for told in said if "pid" in told)
    assert Path(f"/proc/{pid}").exists()
    running.close()
    _wait(lambda: not Path(f"/proc/{pid}").exists(), 20)


def test_a_node_that_is_killed_in_the_middle_is_replaced_and_said(cluster, tmp_path, capsys):
    """The job's own process on the lost node ends too, and no output of it appears."""
    began, until, made = tmp_path / "began", tmp_path / "until", tmp_path / "made"
    one = job("sleep", needs={"npu": 1}, outputs=[made], output=str(made), began=str(began), until=str(until))
    found, said = [], []
    tell = lambda _, told: said.append(told)  # noqa: E731
    thread = Thread(daemon=True, target=lambda: found.extend(run([one], cluster=cluster.address, progress=tell)))
    thread.start()
    _wait(lambda: any("pid" in told for told in said))
    first = next(told["pid"] for told in said if "pid" in told)
    kill_node_of(cluster, first)
    _wait(lambda: len(list(began.iterdir())) == 2)
    _wait(lambda: not Path(f"/proc/{first}").exists())
    until.touch()
    thread.join(60)
    (result,) = found
    assert result.state == "done", result
    assert result.attempts == 2
    assert result.value["pid"] != first
    assert made.read_text() == "woke"
    (lost,) = [told["lost"] for told in said if "lost" in told]
    assert lost.startswith("attempt 1 of 3: ")
    assert result.told == (lost,)
    assert capsys.readouterr().out == ""  # where results belong, and Ray prints of itself


def test_the_last_node_that_could_is_lost_and_the_job_with_it(cluster, tmp_path, monkeypatch):
    """Only one node with an NPU is left: what waits for another ends, in words, and other jobs do not mind."""
    monkeypatch.setattr(ray_place, "WAIT", 4.0)
    began, until = tmp_path / "began", tmp_path / "until"
    jobs = [job("sleep", needs={"npu": 1}, began=str(began), until=str(until)), job("echo", text="x")]
    found, said = [], []
    tell = lambda _, told: said.append(told)  # noqa: E731
    thread = Thread(daemon=True, target=lambda: found.extend(run(jobs, cluster=cluster.address, progress=tell)))
    thread.start()
    _wait(lambda: any("pid" in told for told in said))
    kill_node_of(cluster, next(told["pid"] for told in said if "pid" in told))
    thread.join(120)
    lost, echo = found
    assert lost.state == "lost"
    assert lost.attempts == 2
    assert "no node has NPU 1; there are: " in lost.reason
    assert echo.state == "done"


def test_a_conversion_whose_node_is_killed_is_that_of_one_process(cluster, golden, tmp_path, monkeypatch):
    """The worker dies with its node when it has done half of its share; another does it again."""
    monkeypatch.setattr(conversion, "VERB", "cluster_verbs:fill_slowly")
    source = golden("bert_a1/bert_model.ckpt")
    cluster.add_node(num_cpus=1, object_store_memory=STORE)  # so that a node may be spared
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    convert(source, tmp_path / "one" / "model.ckpt", to="modelzoo")
    said, made = [], tmp_path / "many" / "model.ckpt"
    options = {"to": "modelzoo", "cluster": cluster.address, "tell": said.append}
    thread = Thread(daemon=True, target=lambda: convert(source, made, **options))
    thread.start()
    _wait(lambda: said)
    first = int(said[0].removeprefix("pid "))
    assert not made.exists()
    kill_node_of(cluster, first)
    _wait(lambda: len([line for line in said if line.startswith("pid ")]) == 2)
    (made.parent / "go").touch()
    thread.join(60)
    assert made.read_bytes() == (tmp_path / "one" / "model.ckpt").read_bytes()
    ledgers = [(tmp_path / name / "model.ckpt.port.json").read_text() for name in ("one", "many")]
    assert ledgers[0].replace("/one/", "/many/") == ledgers[1]
    assert [line for line in said if line.startswith("attempt 1 of 3: ")]
    assert sorted(path.name for path in made.parent.iterdir()) == ["go", "model.ckpt", "model.ckpt.port.json"]


class TestAddresses:
    """Refused in seconds, in one line: Ray alone takes two minutes, and then ends the process."""

    @pytest.fixture(autouse=True)
    def _unconnected(self):
        ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
        if ray.is_initialized():
            ray.shutdown()

    @pytest.mark.parametrize("address", ["nowhere", "ray://10.0.0.1:10001", "host:", ":1", "host:99999"])
    def test_what_is_no_address(self, address):
        with pytest.raises(UsageError, match="wanted HOST:PORT of the head"):
            nodes.connect(address)

    def test_nobody_there(self):
        with pytest.raises(UsageError, match=r"--cluster 127\.0\.0\.1:1: Connection refused"):
            nodes.connect("127.0.0.1:1")

    def test_somebody_else_there(self, monkeypatch):
        monkeypatch.setattr(nodes, "PATIENCE", 1.0)
        with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(UsageError, match="timed out"):
            nodes.connect(f"127.0.0.1:{other.getsockname()[1]}")
        with socket.create_server(("127.0.0.1", 0)) as other:
            Thread(target=lambda: other.accept()[0].sendall(b"HTTP/1.1 400 Bad\r\n\r\n"), daemon=True).start()
            with pytest.raises(UsageError, match="is not the head of a Ray cluster"):
                nodes.connect(f"127.0.0.1:{other.getsockname()[1]}")
