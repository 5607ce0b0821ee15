"""States on disk: whole or not at all, and a run that was killed goes on to the same trajectory."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from descent_session import Descent

from porting.backends.protocol import Counters
from porting.errors import FormatError, MismatchError, UsageError
from porting.train.batches import Records, Shuffled
from porting.train.loop import Plan, train
from porting.train.state import Position, State, read_state, save, states

RUN = {"seed": 3, "batch_size": 4}
DATA = Shuffled(Records({"x": np.arange(22, dtype=np.float32)}, 22), 4, seed=3)

KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import porting.checkpoint.output as output
from test_train_state import begin
written, write = [], output.os.pwrite
def fatal(*arguments):
    written.append(write(*arguments))
    if len(written) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return written[-1]
output.os.pwrite = fatal
begin(Path(sys.argv[2]))
"""


def begin(folder, steps=12, told=lambda *_: None, session=None, **changes):
    """A run from its start or its newest state."""
    session = session or Descent()
    plan = {"save_every": 3, "keep": 2, "run": RUN} | changes
    return train(session, DATA, Plan(steps, folder, **plan), told), session


def trajectory(folder, steps=12):
    made = []
    _, session = begin(folder, steps, lambda place, step, result: made.append((place, step, result)))
    return made, session


def spoilt(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_state_comes_back_as_it_was(tmp_path):
    _, session = trajectory(tmp_path, 4)
    state = read_state(states(tmp_path)[-1])
    assert state.mark.counters == session.counters() == Counters(4, 4, 2.0, 4)
    assert state.mark.position == Position(0, 4)
    assert state.mark.run == RUN
    assert np.array_equal(state.weights["w"], session.w)
    assert np.array_equal(state.slots["v"]["w"], session.v)


def test_the_newest_are_kept(tmp_path):
    begin(tmp_path)
    assert [path.name for path in states(tmp_path)] == ["state-00000009.safetensors", "state-00000012.safetensors"]
    with pytest.raises(UsageError, match="keep: wanted at least 1, got 0"):
        Plan(1, tmp_path, RUN, keep=0)


@pytest.mark.parametrize("write", [1, 2, 3, 4, 7])
def test_a_run_killed_while_it_writes_goes_on_to_the_same_trajectory(tmp_path, write):
    wanted, whole = trajectory(tmp_path / "whole")
    folder = tmp_path / "killed"
    here = str(Path(__file__).parent)
    ended = subprocess.run([sys.executable, "-c", KILLED, here, str(folder), str(write)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert list(folder.glob(".*.part"))
    there = [read_state(path).mark.counters.steps for path in states(folder)]
    made, session = trajectory(folder)
    begun = there[-1] if there else 0
    assert made == wanted[begun:]
    assert np.array_equal(session.w, whole.w)
    assert np.array_equal(session.m, whole.m)


def test_a_full_disk_is_told_and_the_old_state_stays(tmp_path):
    begin(tmp_path, 3)
    before = {path: path.read_bytes() for path in states(tmp_path)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        with pytest.raises(FormatError, match=r"state-00000006\.safetensors: cannot be written"):
            begin(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_damaged_state_is_refused_by_name(tmp_path):
    path, _ = begin(tmp_path, 3)
    spoilt(path, -1)
    with pytest.raises(FormatError, match=r"state-00000003\.safetensors: tensors: are damaged: wanted hash sha256:"):
        begin(tmp_path)
    begin(tmp_path / "other", 3)
    other = states(tmp_path / "other")[-1]
    spoilt(other, other.read_bytes().index(b"steps") + len(b'steps\\": '))
    with pytest.raises(FormatError, match="is damaged: its hash is another"):
        read_state(other)


def test_another_safetensors_file_is_no_state(tmp_path):
    import porting

    path = tmp_path / "state-00000001.safetensors"
    porting.write(path, {"w": np.ones(2, np.float32)}, format="safetensors")
    with pytest.raises(FormatError, match="wanted a training state, got another safetensors file"):
        read_state(path)


def test_a_state_of_another_run_or_model_is_refused(tmp_path):
    begin(tmp_path, 3)
    with pytest.raises(UsageError, match="is of another run: seed: 3 there, 4 here"):
        begin(tmp_path, run={**RUN, "seed": 4})
    larger = Descent(5)
    with pytest.raises(MismatchError, match="descent"):
        begin(tmp_path, session=larger)
    assert larger.counters() == Counters()
    assert np.array_equal(larger.w, np.ones(5))


def test_moments_that_do_not_fit_leave_the_weights_as_they_were(tmp_path):
    state = State.of(Descent(), Position(), RUN)
    session = Descent()
    session.step(DATA.batch(0, 0))
    moved = session.w.copy()
    with pytest.raises(MismatchError):
        State(state.mark, state.weights, {"m": state.slots["m"], "v": {}}).restore(session)
    assert np.array_equal(session.w, moved)
    assert save(tmp_path, state).exists()
