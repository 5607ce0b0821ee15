"""The engine on this machine: jobs in processes of their own, as on the nodes of a cluster."""

from __future__ import annotations

import time
from importlib import util
from pathlib import Path
from threading import Thread

import pytest

from porting.cluster.engine import run, stream
from porting.cluster.job import Job, Result, files_of
from porting.cluster.parcel import Unpacking, packed_path
from porting.errors import FormatError, UsageError


def job(verb, *, needs=None, timeout=60.0, inputs=(), outputs=(), **values) -> Job:
    found = {str(path): files_of(path) for path in inputs}
    return Job(
        verb, {"verb": f"cluster_verbs:{verb}", **values}, needs or {"cpu": 1}, timeout, found, tuple(map(str, outputs))
    )


def test_each_ends_by_itself_and_all_are_told_in_order(tmp_path):
    made = tmp_path / "made"
    jobs = [
        job("echo", text="Σ"),
        job("refuse"),
        job("fail"),
        job("half", outputs=[tmp_path / "half"], output=str(tmp_path / "half")),
        job("nothing", outputs=[tmp_path / "none"], output=str(tmp_path / "none")),
        job(
            "copy",
            inputs=[__file__],
            outputs=[made],
            files={"me": __file__},
            output=str(made),
        ),
    ]
    said = []
    found = run(jobs, workers=2, progress=lambda number, values: said.append((number, values)))
    assert [each.state for each in found] == ["done", "refused", "crashed", "crashed", "crashed", "done"]
    assert found[0].value["heard"] == "Σ"
    assert isinstance(found[1].error, UsageError)
    assert found[1].reason == "asked wrongly"
    assert found[2].reason == "ValueError: no such thing"
    assert "SIGKILL" in found[3].reason
    assert found[4].reason == f"ended without {tmp_path / 'none'}"
    assert said == [(0, {"step": 1})]
    assert (tmp_path / "made" / "me").read_bytes() == Path(__file__).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert all(Result.from_json(each.to_json()).to_json() == each.to_json() for each in found)


def test_closing_ends_what_runs_and_leaves_no_output(tmp_path):
    """Not the job's own time limit, nor its sixty seconds."""
    began, made = str(tmp_path / "began"), str(tmp_path / "made")
    wait = job("sleep", outputs=[made], output=made, began=began, until="/no")
    running = stream([job("echo", text=""), wait], workers=2)
    assert next(running)[0] == 0
    while not (tmp_path / "began").is_dir():
        time.sleep(0.02)
    since = time.monotonic()
    running.close()
    assert time.monotonic() - since < 10
    assert [path.name for path in tmp_path.iterdir()] == ["began"]


def test_a_device_is_given_to_one_at_a_time(tmp_path):
    began, until = tmp_path / "began", tmp_path / "until"
    jobs = [job("sleep", needs={"gpu": 1}, began=str(began), until=str(until)) for _ in range(2)]
    found = []
    thread = Thread(target=lambda: found.extend(run(jobs, workers=2)))
    thread.start()
    while not (began.is_dir() and list(began.iterdir())):
        time.sleep(0.02)
    time.sleep(0.5)
    assert len(list(began.iterdir())) == 1
    until.touch()
    thread.join(30)
    assert [each.state for each in found] == ["done", "done"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"needs": {"gpu": 2}}, "needs 2 gpu; here there is 1"),
        ({"needs": {"cpu": 3}}, "needs 3 cpu; here there is 2"),
        ({"text": {1, 2}}, "do not travel as JSON"),
        ({"outputs": [__file__]}, "exists already"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(wrong, said):
    with pytest.raises(UsageError, match=said):
        run([job("echo", **{"text": "", **wrong})], workers=2)


def test_no_workers_are_refused():
    with pytest.raises(UsageError, match="workers: wanted 1 or more, got 0"):
        run([], workers=0)


def test_an_output_without_permission_is_a_result(tmp_path, monkeypatch):
    def denied(*_args, **_options):
        raise PermissionError(13, "Permission denied", "/locked")

    monkeypatch.setattr(Path, "mkdir", denied)
    (found,) = run([job("nothing", outputs=[tmp_path / "a" / "b"], output=str(tmp_path / "a" / "b"))])
    assert (found.state, found.reason) == ("refused", "/locked: Permission denied")


class TestParcels:
    def test_a_folder_arrives_as_it_was(self, tmp_path):
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "b" / "one").write_bytes(bytes(range(256)) * 40_000)
        (tmp_path / "a" / "two").touch()
        taking = Unpacking([tmp_path / "there"])
        for message in packed_path(tmp_path / "a"):
            taking.take(message)
        assert taking.whole
        for name in ("b/one", "two"):
            assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()

    @pytest.mark.parametrize("spoil", [lambda m: m[:1] + b"x" + m[2:], lambda m: m[:-1], lambda m: m + b"x"])
    def test_what_changed_on_the_way_is_seen(self, spoil, tmp_path):
        (tmp_path / "one").write_bytes(b"abcdef")
        header, piece, end = packed_path(tmp_path / "one")
        taking = Unpacking([tmp_path / "there"])
        taking.take(header)
        taking.take(spoil(piece))
        with pytest.raises(FormatError, match="did not arrive as it was sent"):
            taking.take(end)

    @pytest.mark.parametrize("name", ["../x", "/x", "a/../../x"])
    def test_a_name_that_leads_out_is_refused(self, name, tmp_path):
        with pytest.raises(FormatError, match="leads out of its folder"):
            Unpacking([tmp_path]).take({"file": [0, name], "bytes": 0})


def test_an_input_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is not there"):
        files_of(tmp_path / "none")
    with pytest.raises(UsageError, match="holds nothing"):
        files_of(tmp_path)


class TestWithoutACluster:
    @pytest.fixture(autouse=True)
    def _ray(self, monkeypatch, request):
        if "absent" in request.node.name:
            real = util.find_spec
            monkeypatch.setattr("porting.extras.find_spec", lambda name: None if name == "ray" else real(name))
        else:
            pytest.importorskip("ray", reason="the extra `ray` is not installed")

    def test_absent_ray_is_named_with_its_extra(self):
        with pytest.raises(UsageError) as raised:
            run([job("echo", text="")], cluster="10.0.0.1:6379")
        assert str(raised.value) == "--cluster: ray is not installed; pip install 'porting-kit[ray]' brings it"
