"""The log of a run, read by the kit's own parsers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from porting.backends.protocol import StepResult
from porting.errors import UsageError
from porting.logs.read import read_log
from porting.train.log import LOG, STEPS, TrainLog
from porting.train.state import Position

LOSSES = [1.1544309, 0.5, 0.25, 0.125, float(np.float32(1 / 3)), 2.0]


def write(folder, every=1):
    with TrainLog(folder, 3, every=every) as log:
        for i, loss in enumerate(LOSSES):
            log.told(Position(i // 3, i % 3), i + 1, StepResult(loss, 1e-3, 1.0))


def test_our_own_parser_reads_it(tmp_path):
    write(tmp_path)
    lines = (tmp_path / LOG).read_text().splitlines()
    assert lines[0] == "epoch: 1 step: 1, loss is 1.1544309"
    assert [line.startswith("epoch time: ") for line in lines] == [False] * 3 + [True] + [False] * 3 + [True]
    found = read_log(tmp_path / LOG)
    assert np.allclose(found.series["loss"].values, LOSSES, rtol=1e-8)


def test_every_step_is_in_the_json_and_every_nth_in_the_log(tmp_path):
    write(tmp_path, every=2)
    said = [json.loads(line) for line in (tmp_path / STEPS).read_text().splitlines()]
    assert [one["loss"] for one in said] == LOSSES
    assert [one["step"] for one in said] == [1, 2, 3, 4, 5, 6]
    steps = [line for line in (tmp_path / LOG).read_text().splitlines() if "loss is" in line]
    assert len(steps) == 4  # the second, fourth and sixth, and the last of the first epoch
    with pytest.raises(UsageError, match="log_every: wanted at least 1, got 0"):
        TrainLog(tmp_path, 3, every=0)


def test_where_the_loss_is_scaled_overflows_are_told_and_read(tmp_path):
    with TrainLog(tmp_path, 4, every=4, scaled=True) as log:
        for i, scale in enumerate((512.0, 256.0, 256.0, 256.0)):
            log.told(Position(0, i), i + 1, StepResult(LOSSES[i], 1e-3, 1.0, scale, overflow=i == 0))
        log.say("The best acc is 0.75")
    lines = (tmp_path / LOG).read_text().splitlines()
    assert lines[0].endswith("Tensor(shape=[], dtype=Bool, value= True), Tensor(shape=[], dtype=Float32, value= 512))")
    found = read_log(tmp_path / LOG)
    assert found.series["loss"].values.tolist() == [LOSSES[0], LOSSES[3]]
    assert found.series["overflow"].values.tolist() == [1.0, 0.0]
    assert found.series["loss_scale"].values.tolist() == [512.0, 256.0]
    assert found.series["best_accuracy"].values.tolist() == [0.75]
