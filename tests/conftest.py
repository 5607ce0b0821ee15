"""What tests of several folders share."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from porting.cli import main

settings.register_profile("kit", deadline=None)  # a machine that stalls for a moment is no failure
settings.load_profile("kit")

pytest_plugins = ["pytester"]

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden(tmp_path: Path) -> Callable[[str], Path]:
    """Copies a golden checkpoint with its config into the test's folder: outputs stand beside sources."""

    def copy(name: str) -> Path:
        case, _, stem = name.partition("/")
        for file in (*(GOLDEN / case).glob(f"{stem}*"), *(GOLDEN / case).glob("*config.json")):
            shutil.copy(file, tmp_path / file.name)
        return tmp_path / stem

    return copy


@dataclass(frozen=True)
class Ran:
    """What the command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs the `port` command in this process."""

    def run(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["port", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code: object = 0
        except SystemExit as stop:
            code = stop.code or 0
        shown = capsys.readouterr()
        assert isinstance(code, int)
        return Ran(code, shown.out, shown.err)

    return run
