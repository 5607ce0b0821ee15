"""What the tests of logs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from porting.acceptance.trajectory import Trajectory
from porting.logs.read import read_log, read_logs

Read = Callable[..., Trajectory]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Writes text or bytes as a log and reads it."""

    def written(text: str | bytes, name: str = "train.log") -> Trajectory:
        file = tmp_path / name
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_log(file)

    return written


@pytest.fixture
def read_all(tmp_path: Path) -> Callable[..., tuple[Trajectory, ...]]:
    """Likewise, all runs."""

    def written(text: str | bytes, name: str = "train.log") -> tuple[Trajectory, ...]:
        file = tmp_path / name
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_logs(file)

    return written
