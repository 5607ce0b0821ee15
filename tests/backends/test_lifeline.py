"""Ranks that end, freeze or go on: processes with sockets between them, and no framework."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from porting.backends import lifeline
from porting.errors import UsageError

SUBJECT = """
import sys, time
from pathlib import Path
from porting.backends import lifeline
folder, rank, size, does = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
lifeline.GRACE, limit = 0.3, 1.0
lifeline.BEAT = 0.2
def exchange(said):
    (folder / f".{rank}").write_bytes(said)
    (folder / f".{rank}").rename(folder / f"said-{rank}")
    while len(list(folder.glob("said-*"))) < size:
        time.sleep(0.01)
    return [(folder / f"said-{one}").read_bytes() for one in range(size)]
line = lifeline.join(rank, size, "127.0.0.1", exchange)
line.limit = limit
print("joined", flush=True)
if does == "ends":
    sys.exit(0)
if does == "freezes":
    import signal, os
    os.kill(os.getpid(), signal.SIGSTOP)
if does == "works":
    time.sleep(0.8)
    print("has worked", flush=True)
    sys.exit(0)
with line.waiting():
    time.sleep(20)
"""


def ran(folder, *tasks):
    """Exit codes and errors of ranks that do this; a frozen one is killed when the others have ended."""
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", SUBJECT, str(folder), str(rank), str(len(tasks)), does],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank, does in enumerate(tasks)
    ]  # fmt: skip
    try:
        for rank, does in zip(ranks, tasks, strict=True):
            if does != "freezes":
                rank.wait(15)
    finally:
        for rank in ranks:
            rank.kill()
    said = [rank.communicate() for rank in ranks]
    return [rank.returncode for rank in ranks], [error for _, error in said], [out for out, _ in said]


@pytest.mark.parametrize("gone", [0, 2])
def test_those_who_wait_end_with_the_name_of_the_rank_that_has_ended(tmp_path, gone):
    tasks = ["ends" if rank == gone else "waits" for rank in range(3)]
    codes, errors, _ = ran(tmp_path, *tasks)
    for rank, (code, error) in enumerate(zip(codes, errors, strict=True)):
        if rank == gone:
            assert (code, error) == (0, "")
        else:
            assert code == 2
            assert error.startswith(f"port: error: rank {gone} (process ")
            assert error.endswith(f"has ended before the others; rank {rank} waits for it no longer and ends too\n")
            assert error.count("\n") == 1


def test_a_rank_that_has_all_it_needs_goes_on(tmp_path):
    codes, errors, outs = ran(tmp_path, "works", "ends")
    assert codes == [0, 0]
    assert errors == ["", ""]
    assert outs[0] == "joined\nhas worked\n"


def test_a_rank_that_gives_no_sign_of_life_is_named(tmp_path):
    codes, errors, _ = ran(tmp_path, "waits", "freezes")
    assert codes[0] == 2
    assert "rank 1 (process " in errors[0]
    assert "has given no sign of life for 1 s" in errors[0]


def test_who_does_not_know_the_token_is_no_rank():
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = server.getsockname()
        stranger = socket.create_connection(place)
        stranger.sendall(b"x" * 16 + (1).to_bytes(4, "big"))
        rank = lifeline._connected(*place, 1, "0123456789abcdef")
        found = lifeline._accepted(server, 2, "0123456789abcdef")
        assert found.keys() == {1}
        assert found[1].getpeername() == rank.getsockname()
        for one in (stranger, rank, found[1]):
            one.close()


def test_ranks_that_do_not_come_are_named(monkeypatch):
    monkeypatch.setattr(lifeline, "JOINING", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(UsageError, match="rank 1, 2: has not conn"):
        lifeline._accepted(server, 3, "0123456789abcdef")


def test_a_failure_is_given_time_to_be_understood(monkeypatch):
    monkeypatch.setattr(lifeline, "GRACE", 0.6)
    ended, line = [], lifeline.Lifeline(0, ["", "process 5 on there"])
    line.end = ended.append
    one, two = socket.socketpair()
    line.watch({1: one})
    with line.waiting():
        two.close()
        line.settle()
    assert ended == [
        "rank 1 (process 5 on there) has ended before the others; rank 0 waits for it no longer and ends too"
    ]
    one.close()
