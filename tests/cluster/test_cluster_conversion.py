"""Conversions by workers: the files and the ledger of one process, to the byte, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import porting
from porting.checkpoint.parts import Parts
from porting.cluster import conversion
from porting.cluster.conversion_job import fill_part
from porting.cluster.job import Result
from porting.convert.asked import Asked
from porting.convert.convert import convert
from porting.errors import FormatError, PortError, UsageError

SMALL = 40_000
"""Bytes of a share, so that a small checkpoint has several."""


@pytest.fixture
def source(golden, tmp_path):
    """A sharded checkpoint of PyTorch's: several files, and the index that names them."""
    ledger = convert(golden("bert_a1/bert_model.ckpt"), tmp_path / "model.safetensors", to="hf", shard_size=25_000)
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    assert len(ledger.target.files) > 3
    return tmp_path / "model.safetensors.index.json"


def _hashes(folder: Path):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if not path.name.endswith(".port.json")
    }


def _ledger(folder: Path):
    (path,) = folder.glob("*.port.json")
    text = path.read_text().replace(str(folder), "FOLDER")
    return json.loads(text)


CASES = {
    "mindspore, one file": ("model.ckpt", {"to": "modelzoo"}),
    "shards to shards": ("model.safetensors", {"to": "modelzoo", "format": "safetensors", "shard_size": 45_000}),
    "tensorflow, checksums and an index at the end": ("model.ckpt", {"to": "google"}),
    "no hashes": ("model.npz", {"to": "modelzoo", "format": "npz", "hash": "none", "verify": False}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_result_is_that_of_one_process_to_the_byte(case, source, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "SHARE", SMALL)
    name, options = CASES[case]
    told, shares, real = [], [], conversion.shares
    monkeypatch.setattr(conversion, "shares", lambda *asked: shares.extend(real(*asked)) or shares)
    alone = convert(source, tmp_path / "one" / name, **options)
    convert(
        source, tmp_path / "many" / name, **options, workers=2, progress=lambda done, total: told.append((done, total))
    )
    assert _hashes(tmp_path / "one") == _hashes(tmp_path / "many")
    assert _hashes(tmp_path / "many")
    assert _ledger(tmp_path / "one") == _ledger(tmp_path / "many")
    assert told[-1][0] == told[-1][1] > 0
    assert len(shares) > 1
    assert sum(map(len, shares)) == len(alone.tensors)


def test_what_overflows_in_a_worker_is_said_as_by_one_process(source, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "SHARE", SMALL)
    large = {name: entry.read() * np.float32(1e7) for name, entry in porting.read(source).items()}
    porting.write(tmp_path / "large.safetensors", large, format="safetensors")
    options = {"to": "modelzoo", "dtype": "float16", "config": "none"}
    alone = convert(tmp_path / "large.safetensors", tmp_path / "one" / "model.ckpt", **options)
    by_workers = convert(tmp_path / "large.safetensors", tmp_path / "many" / "model.ckpt", **options, workers=2)
    assert any("finite values became infinite" in note for note in alone.notes)
    assert alone.notes == by_workers.notes
    assert _hashes(tmp_path / "one") == _hashes(tmp_path / "many")


def _ask(source, tmp_path, monkeypatch):
    """What a worker is told, as the driver tells it, and the driver's conversion."""
    told = []

    def heard(jobs, **_options):
        told.extend(jobs)
        raise InterruptedError

    monkeypatch.setattr(conversion, "stream", heard)
    with pytest.raises(InterruptedError):
        convert(source, tmp_path / "many" / "model.ckpt", to="modelzoo", workers=1)
    assert not list((tmp_path / "many").iterdir())
    return dict(told[0].values)


def test_a_source_that_changed_meanwhile_is_refused(source, tmp_path, monkeypatch):
    job = _ask(source, tmp_path, monkeypatch)
    os.utime(source, (1, 1))
    with pytest.raises(FormatError, match="is not here what it is for the driver"):
        fill_part(job, print)


def test_another_plan_is_refused(source, tmp_path, monkeypatch):
    job = _ask(source, tmp_path, monkeypatch)
    with pytest.raises(FormatError, match="is not here what it is for the driver"):
        fill_part({**job, "asked": {**job["asked"], "prefix": "other."}}, print)


def test_a_node_that_does_not_see_the_files_is_refused(source, tmp_path, monkeypatch):
    """The driver's part files are gone when the worker looks for them: as on a machine of another file system."""
    job = _ask(source, tmp_path, monkeypatch)
    with pytest.raises(FormatError, match="is not seen here: all nodes want one file system"):
        fill_part(job, print)


def test_parts_that_may_not_be_written_are_refused(tmp_path):
    with pytest.raises(FormatError, match="cannot be written: Is a directory"):
        Parts({0: tmp_path})


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (Result("lost", reason="attempt 3 of 3: gone"), "a worker ended: attempt 3 of 3: gone"),
        (Result.refused(UsageError("node a: has porting kit 0.0")), "^node a: has porting kit 0.0"),
        (
            Result("refused", reason="/x: no", error=UsageError("/x: no"), node="a 12"),
            "a worker ended: node a 12: /x: no",
        ),
    ],
)
def test_a_worker_that_does_not_end_well_ends_the_conversion(result, said, source, tmp_path, monkeypatch):
    def stream(jobs, **_options):
        assert jobs
        yield 0, result

    monkeypatch.setattr(conversion, "stream", stream)
    with pytest.raises(PortError, match=said):
        convert(source, tmp_path / "many" / "model.ckpt", to="modelzoo", workers=1)
    assert not list((tmp_path / "many").iterdir())


def test_a_worker_that_dies_leaves_nothing(source, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "VERB", "cluster_verbs:fill_and_die")
    with pytest.raises(FormatError, match="a worker ended: killed by SIGKILL"):
        convert(source, tmp_path / "many" / "model.ckpt", to="modelzoo", workers=2)
    assert not list((tmp_path / "many").iterdir())


def test_an_interrupt_ends_the_workers_and_leaves_nothing(source, tmp_path):
    """In a process of its own, which the signal goes to alone: its workers have sessions of their own."""
    script = (
        "import sys; from porting.cluster import conversion; from porting.cli import main;"
        "conversion.VERB = 'cluster_verbs:fill_slowly'; main()"
    )
    words = ["convert", "pt2ms", source, "-o", tmp_path / "many" / "model.ckpt", "--workers", "1"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    with subprocess.Popen(
        [sys.executable, "-c", script, *words], stderr=subprocess.PIPE, text=True, env=env
    ) as process:
        worker = int(process.stderr.readline().rpartition(" ")[2])
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert said == "port: error: interrupted; nothing was left behind\n"
    assert not list((tmp_path / "many").iterdir())
    assert not Path(f"/proc/{worker}").exists()


def test_no_workers_are_refused_by_the_command(source, port, tmp_path):
    ran = port("convert", "pt2ms", source, "-o", tmp_path / "many" / "model.ckpt", "--workers", 0)
    assert (ran.code, ran.err) == (2, "port: error: workers: wanted 1 or more, got 0\n")
    assert not list((tmp_path / "many").iterdir())


def test_what_was_asked_is_the_same_after_its_journey():
    asked = Asked("/a", None, "hf", layers=(1, 2), require=("mlm",), config="none", variables={"task": "mnli"})
    assert Asked.from_json(json.loads(json.dumps(asked.absolute().to_json()))) == asked
