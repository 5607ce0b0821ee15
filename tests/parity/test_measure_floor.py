"""A floor from captures that are made while they are needed, and gone afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from floor_support import recorded

from porting.errors import UsageError
from porting.parity.measure_floor import measure_floor

BASE = np.random.default_rng(0).normal(size=(8, 4))


class Recorder:
    """Writes captures, and notes what was there at the time."""

    def __init__(self):
        self.made = []
        self.beside = []

    def __call__(self, folder, *, replica=None, compute=None):
        self.made.append((replica, compute))
        self.beside.append(sorted(path.name for path in folder.parent.glob("*")))
        shaken = BASE * (1 + 1e-6 * np.random.default_rng(replica or 0).normal(size=BASE.shape))
        tap = BASE if compute == "float64" else (shaken if replica else BASE).astype(np.float32)
        recorded(
            folder, {"forward": {"a": tap}}, replica=replica, build={"task": "mlm", "compute": compute or "float32"}
        )
        return folder


def test_captures_are_made_one_after_the_other_and_removed(tmp_path):
    record = Recorder()
    floor = measure_floor(record, folder=tmp_path / "room")
    assert record.made == [(None, None), (None, "float64"), (1, None), (2, None), (3, None)]
    assert record.beside[2:] == [["float64", "source"]] * 3
    assert list((tmp_path / "room").iterdir()) == []
    assert floor.replicas == (1, 2, 3)
    assert floor.float64
    assert 1e-7 < floor.entries["forward", "a"].rel_l2 < 1e-5


def test_a_source_that_is_there_is_not_recorded_again(tmp_path):
    record = Recorder()
    source = record(tmp_path / "source")
    floor = measure_floor(record, folder=tmp_path / "room", source=source, replicas=1, float64=False)
    assert record.made == [(None, None), (1, None)]
    assert not floor.float64
    assert source.is_dir()


def test_no_replicas_is_refused(tmp_path):
    with pytest.raises(UsageError, match="replicas: wanted 1 or more, got 0"):
        measure_floor(Recorder(), folder=tmp_path, replicas=0)


def test_what_recording_raises_leaves_nothing(tmp_path):
    def record(folder, *, replica=None, compute=None):
        raise UsageError("no such checkpoint")

    with pytest.raises(UsageError, match="no such checkpoint"):
        measure_floor(record, folder=tmp_path / "room")
    assert list((tmp_path / "room").iterdir()) == []
