"""On a terminal: a bar that goes away again, and nothing but the result on standard output."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from made import google_bert, save

from porting.terminal import number, show, size


def on_a_terminal(*words: object) -> tuple[int, bytes, bytes]:
    """Standard error is a terminal, standard output a pipe: exit code and both."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "porting.cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            more = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        shown += more
    os.close(ours)
    out, _ = running.communicate()
    return running.returncode, out, shown


def test_progress_is_shown_and_taken_away(tmp_path: Path) -> None:
    source = save(tmp_path / "a.npz", google_bert(hidden=256, inner=1024, vocab=3000), "npz")
    code, out, shown = on_a_terminal("convert", "tf2ms", source)
    assert code == 0
    assert out.startswith(b"bert: google -> modelzoo")
    assert b"\033" not in out
    assert b"a.npz -> mindspore" in shown
    code, out, shown = on_a_terminal("convert", "tf2ms", source, "--overwrite", "--quiet")
    assert (code, out, shown) == (0, b"", b"")


def test_errors_are_red_on_a_terminal_only(tmp_path: Path) -> None:
    code, out, shown = on_a_terminal("convert", "tf2ms", tmp_path / "no")
    assert (code, out) == (2, b"")
    line = f"port: \033[31merror:\033[0m {tmp_path}/no: no such file, folder or TensorFlow prefix\n"
    assert shown.replace(b"\r", b"").endswith(line.encode())


@pytest.mark.parametrize(
    ("count", "want"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (96_200, "96.2 kB"), (1_344_904_432, "1.34 GB"), (6e11, "600 GB")],
)
def test_bytes_for_people(count: float, want: str) -> None:
    assert size(count) == want


@pytest.mark.parametrize(("count", "want"), [(0, "0"), (24_000, "24 k"), (336_226_108, "336 M"), (7e9, "7 G")])
def test_counts_for_people(count: float, want: str) -> None:
    assert number(count) == want


def test_a_terminal_of_few_characters_shows_the_others_by_their_numbers(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    show(["a → Σ"])
    assert written.getvalue() == b"a \\u2192 \\u03a3\n"
