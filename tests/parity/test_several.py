"""Several captures in one process: what one is refused by, or dies of, is its own."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from porting.backends.found import Resolved, installed
from porting.backends.names import BackendName
from porting.errors import UsageError
from porting.parity import side as sides
from porting.parity.reader import read_capture
from porting.parity.side import Side, Take, capture_all
from porting.parity.state import Level
from porting.parity.subject import subject

BACKEND = BackendName.parse("torch:cpu")

FAKE = """
import os, time
from porting.backends.message import encode_error
from porting.errors import UsageError

def captures(job, progress):
    for number, one in enumerate(job["jobs"]):
        progress({"began": number})
        name = os.path.basename(one["output"])
        if name == "dies":
            print("last words", flush=True)
            os.abort()
        if name == "hangs":
            time.sleep(60)
        time.sleep(0.4)
        open(one["output"] + ".made", "a").write(str(os.getpid()))
        ended = {"ended": number}
        if name == "refused":
            ended["error"] = encode_error(UsageError("no such thing"))
        progress(ended)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Captures that only say that they were made, in processes that import no framework."""
    (tmp_path / "fake_captures.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path)
    real = sides.call

    def call(backend, job, **options):
        return real(backend, {**job, "verb": "fake_captures:captures"}, **options)

    monkeypatch.setattr(sides, "call", call)
    return tmp_path


def takes(folder: Path, *names: str, timeout: float = 30.0) -> list[Take]:
    side = Side(Resolved(BACKEND), subject("bert"), timeout=timeout)
    return [Take(side, folder / name) for name in names]


def test_one_process_makes_all(fake):
    asked = takes(fake, "a", "b", "c")
    assert capture_all(asked) == [None, None, None]
    assert len({(fake / f"{name}.made").read_text() for name in "abc"}) == 1


def test_what_one_is_refused_by_is_its_own(fake):
    first, second, third = capture_all(takes(fake, "a", "refused", "c"))
    assert (first, third) == (None, None)
    assert isinstance(second, UsageError)
    assert str(second) == "no such thing"


def test_those_after_a_crash_are_made_in_another_process(fake):
    assert capture_all(takes(fake, "a", "dies", "c")) == [None, None, None]
    assert (fake / "a.made").read_text() != (fake / "c.made").read_text()
    manifest = read_capture(fake / "dies").manifest
    assert manifest.state == "crashed"
    assert "SIGABRT" in manifest.reason


def test_the_limit_is_counted_from_what_was_told_last(fake):
    """Four of 0.4 s within a limit of 1.5 s, start and all; one that hangs is killed, the next is made."""
    started = time.monotonic()
    asked = takes(fake, "a", "b", "c", "d", "hangs", "e", timeout=1.5)
    assert capture_all(asked) == [None] * 6
    assert time.monotonic() - started < 20
    assert [(fake / f"{name}.made").is_file() for name in "abcde"] == [True] * 5
    assert "did not end within" in read_capture(fake / "hangs").manifest.reason


def test_backends_have_processes_of_their_own(fake):
    one, two = takes(fake, "a", "b")
    other = replace(two, side=replace(two.side, resolved=Resolved(BackendName.parse("onnxruntime:cpu"))))
    assert capture_all([one, other]) == [None, None]
    assert (fake / "a.made").read_text() != (fake / "b.made").read_text()


@pytest.mark.torch
def test_really(tmp_path):
    """A source and its replica from one process are those of two."""
    resolved = installed(BACKEND)
    assert resolved is not None
    side = Side(resolved, subject("bert", task="mlm"), levels=(Level.WEIGHTS, Level.FORWARD))
    asked = [Take(side, tmp_path / "one"), Take(side, tmp_path / "replica", replica=1)]
    assert capture_all(asked) == [None, None]
    alone = read_capture(side.capture(tmp_path / "alone", replica=1)).manifest
    assert read_capture(tmp_path / "replica").manifest.content == alone.content
    assert read_capture(tmp_path / "one").manifest.content != alone.content
