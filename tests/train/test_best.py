"""Evaluations of a run: the best weights stay whatever comes after, over kills, ties and numbers that are none."""

from __future__ import annotations

import resource

import numpy as np
import pytest
from descent_session import Descent

from porting.backends.protocol import StepResult
from porting.checkpoint.registry import read
from porting.errors import FormatError, UsageError
from porting.train.batches import Records, Shuffled
from porting.train.best import BEST, EVALUATIONS, Evaluation, add_evaluation, keep_best, read_best, read_evaluations
from porting.train.evaluation import evaluator
from porting.train.log import STEPS, TrainLog
from porting.train.loop import Judge, Plan, train
from porting.train.state import Position

DATA = Shuffled(Records({"x": np.arange(22, dtype=np.float32)}, 22), 4, seed=3)
NAN = float("nan")


def judged(folder, steps=10, every=2, values=None, stop=None, **changes):
    """A run whose evaluations give these values in turn, by the step that they are made at."""

    def evaluate(session):
        made = session.counters().steps
        if made == stop:
            raise KeyboardInterrupt
        return {"accuracy": values[made] if values else float(made), "loss": 0.5}

    plan = {"save_every": 5, "keep": 1, "run": {"seed": 3}} | changes
    judge = Judge(every, evaluate, "accuracy")
    session = Descent()
    train(session, DATA, Plan(steps, folder, **plan), lambda *_: None, judge)
    return session


def test_evaluations_at_steps_at_epochs_and_at_the_end(tmp_path):
    judged(tmp_path / "steps", every=4)
    assert [one.step for one in read_evaluations(tmp_path / "steps")] == [4, 8, 10]
    judged(tmp_path / "epochs", steps=11, every=0)
    assert [(one.step, one.epoch) for one in read_evaluations(tmp_path / "epochs")] == [(5, 1), (10, 2), (11, 3)]
    with pytest.raises(UsageError, match="eval_steps: wanted at least 0, got -1"):
        judged(tmp_path, every=-1)


def test_the_best_is_kept_and_of_equals_the_earlier(tmp_path):
    values = {2: 0.5, 4: 0.75, 6: 0.75, 8: 0.25, 10: NAN}
    session = judged(tmp_path, values=values)
    best = read_best(tmp_path)
    assert (best.metric, best.value, best.evaluation.step) == ("accuracy", 0.75, 4)
    kept = read(tmp_path / BEST)["w"].read()
    assert not np.array_equal(kept, session.w)
    again = Descent()
    for step in range(4):
        again.step(DATA.batch(0, step))
    assert np.array_equal(kept, again.w)


def test_what_is_not_defined_gives_way_to_any_number(tmp_path):
    for step, value in enumerate([NAN, NAN, -0.5, NAN], 1):
        keep_best(tmp_path, Evaluation(step, 1, {"m": value}), "m", {"w": np.full(2, step, np.float32)}, {})
    assert read_best(tmp_path).evaluation.step == 3
    assert read(tmp_path / BEST)["w"].read().tolist() == [3, 3]


def test_a_run_that_was_stopped_has_every_evaluation_once(tmp_path):
    judged(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        judged(tmp_path / "stopped", stop=8)
    assert [one.step for one in read_evaluations(tmp_path / "stopped")] == [2, 4, 6]
    judged(tmp_path / "stopped")
    assert read_evaluations(tmp_path / "stopped") == read_evaluations(tmp_path / "whole")
    assert read_best(tmp_path / "stopped") == read_best(tmp_path / "whole")


def test_the_best_of_another_run_is_not_replaced(tmp_path):
    judged(tmp_path, steps=2)
    before = (tmp_path / BEST).read_bytes()
    (tmp_path / "state-00000002.safetensors").unlink()
    with pytest.raises(UsageError, match="is the best of another run"):
        judged(tmp_path, steps=2, run={"seed": 4})
    assert (tmp_path / BEST).read_bytes() == before
    (tmp_path / BEST).write_bytes(b"nothing")
    with pytest.raises(FormatError):
        judged(tmp_path, steps=2)


def test_a_full_disk_leaves_the_old_best(tmp_path):
    judged(tmp_path, steps=2)
    before = {name: (tmp_path / name).read_bytes() for name in (BEST, EVALUATIONS)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, limits[1]))
    try:
        with pytest.raises(FormatError, match=r"best\.safetensors: cannot be written"):
            keep_best(tmp_path, Evaluation(4, 1, {"accuracy": 9.0}), "accuracy", {"w": np.ones(99)}, {"seed": 3})
        with pytest.raises(FormatError, match=r"evaluations\.jsonl: cannot be written"):
            add_evaluation(tmp_path, Evaluation(4, 1, {"accuracy": 9.0}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name in before} == before
    assert not list(tmp_path.glob(".*.part"))


def test_a_metric_that_is_not_measured_and_a_file_of_something_else(tmp_path):
    with pytest.raises(UsageError, match="metric f1: was not measured; there are m"):
        keep_best(tmp_path, Evaluation(1, 1, {"m": 0.0}), "f1", {"w": np.ones(2)}, {})
    (tmp_path / EVALUATIONS).write_text("[]\n")
    with pytest.raises(FormatError, match="wanted a line"):
        read_evaluations(tmp_path)


class Says:
    """A session whose logits are its first feature."""

    def __init__(self):
        self.sizes = []

    def forward(self, batch):
        assert set(batch) == {"x"}
        self.sizes.append(len(batch["x"]))
        return {"logits": batch["x"]}


def test_every_example_is_evaluated_once_and_in_order():
    x = np.array([[0, 1], [1, 0], [0, 1], [0, 1], [1, 0]], np.float32)
    session = Says()
    records = Records({"x": x, "label_ids": np.array([1, 0, 1, 0, 0], np.int32)}, 5)
    assert evaluator(records, task="sst-2", size=2, labels=2)(session) == {"accuracy": 0.8}
    assert session.sizes == [2, 2, 1]
    values = Records({"x": x[:4, :1] * [[1], [2], [3], [4]], "label_values": np.array([0, 2, 0, 0.5], np.float32)}, 4)
    assert evaluator(values, task="sts-b", size=4, labels=1)(session)["pearson"] > 0.9
    with pytest.raises(UsageError, match=r"wanted logits of 3 labels, got \(2, 2\)"):
        evaluator(records, task="mnli", size=2, labels=3)(session)
    with pytest.raises(UsageError, match="the examples have no labels; they have x"):
        evaluator(Records({"x": x}, 5), task="sst-2", size=2, labels=2)
    with pytest.raises(UsageError, match="eval_batch_size: wanted at least 1, got 0"):
        evaluator(records, task="sst-2", size=0, labels=2)


@pytest.mark.parametrize("torn", ["", '{"step":2,"lo', "x" * 9000])
def test_a_line_that_a_kill_tore_is_cut_off(tmp_path, torn):
    for step in (1, 2):
        with TrainLog(tmp_path, 3) as log:
            log.told(Position(0, step - 1), step, StepResult(0.5, 1e-3, 1.0))
        if step == 1:
            with (tmp_path / STEPS).open("a") as file:
                file.write(torn)
    rows = (tmp_path / STEPS).read_text().splitlines()
    assert [row[:9] for row in rows] == ['{"step":1', '{"step":2']
