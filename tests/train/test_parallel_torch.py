"""Two processes with half a batch each train as one with the whole batch: by torchrun, over gloo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from porting.train.state import read_state, state_path, states

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

SUBJECT = Path(__file__).parent / "parallel_subject.py"
CASES = ("classification", "mlm", "pretraining", "overflow")
CLOSE = 3e-6
"""Of weights and losses after four steps. Sums over a batch of four are taken as two sums of two: a rounding of 6e-8 of
each value; an update is at most lr = 1e-2 times what Adam makes of it, and four steps add up: 4e-7 is the most that was
seen. With shares of 1/2 where labels are unequally many the weights differ by 0.1."""


def launched(*words, launcher=(), **variables):
    """What a process, or those that a launcher starts, has done."""
    command = [sys.executable, *launcher, str(SUBJECT), *map(str, words)]
    inherited = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(command, env=inherited, capture_output=True, text=True, timeout=120, check=False)


TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Folders of one process and of two."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    for folder, steps, launcher in ((one, 6, ()), (two, 4, TWO)):
        done = launched("torch", ",".join(CASES), steps, folder, launcher=launcher)
        assert done.returncode == 0, done.stderr
    return one, two


def left(folder, case, rank):
    """Steps and last weights of a rank."""
    with np.load(folder / case / f"rank-{rank}.npz") as found:
        weights = dict(found)
    return json.loads((folder / case / f"rank-{rank}.json").read_text()), weights


def close(found, wanted):
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        np.testing.assert_allclose(found[name], weight, rtol=0, atol=CLOSE, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(both, case):
    one, two = both
    wanted, _ = left(one, case, 0)
    made, first = left(two, case, 0)
    again, second = left(two, case, 1)
    assert made == again
    assert all(np.array_equal(first[name], second[name]) for name in first)
    close(first, read_state(state_path(one / case, 4)).weights)
    for mine, theirs in zip(made, wanted, strict=False):
        assert mine == pytest.approx(theirs, rel=CLOSE)


def test_an_overflow_on_one_rank_skips_the_step_on_all(both):
    for folder, ranks in zip(both, (1, 2), strict=True):
        for rank in range(ranks):
            steps = left(folder, "overflow", rank)[0][:4]
            assert [overflow for *_, overflow in steps] == [False, True, False, False]
            assert [scale for *_, scale, _ in steps] == [1024.0, 1024.0, 512.0, 512.0]


def test_one_process_goes_on_from_the_state_of_two(both, tmp_path):
    one, two = both
    assert [path.name for path in states(two / "mlm")] == ["state-00000002.safetensors", "state-00000004.safetensors"]
    shutil.copytree(two / "mlm", tmp_path / "mlm")
    assert launched("torch", "mlm", 6, tmp_path).returncode == 0
    steps, weights = left(tmp_path, "mlm", 0)
    assert len(steps) == 2
    close(weights, left(one, "mlm", 0)[1])


def test_a_rank_that_dies_ends_the_others_with_its_name(tmp_path):
    """Without a launcher that ends the others itself: what is seen is the kit's own line."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "DIES": "1 2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SUBJECT), "torch", "classification", "4", str(tmp_path)]
    ranks = [
        subprocess.Popen(
            command, env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        _, said = ranks[0].communicate(timeout=60)
        ranks[1].communicate(timeout=60)
    finally:
        for rank in ranks:
            rank.kill()
    assert ranks[0].returncode == 2
    lines = [line for line in said.splitlines() if line.startswith("port: ")]
    assert len(lines) == 1
    assert lines[0].startswith(f"port: error: rank 1 (process {ranks[1].pid} on ")
    assert "has ended before the others" in lines[0]
    assert (tmp_path / "classification" / "state-00000002.safetensors").exists()
