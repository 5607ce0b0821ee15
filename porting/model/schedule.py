"""The learning rate of a step."""

from __future__ import annotations

from math import cos, pi
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from porting.model.recipe import Schedule


def learning_rate(schedule: Schedule, step: int) -> float:
    """The rate of a step, counted from 0, in float64.

    step: updates made so far: the rate is read before the count goes up, so that the first step under warm-up
        has rate 0. A step that a loss scale skips does not count.

    The originals of `bert`, `xlnet` and `mindspore` compute in float32, which is 1e-7 of the peak off at most where
    power is 1; `bert_adam` computes in Python's float64, as here.
    """
    if schedule.kind == "constant":
        return schedule.peak
    if schedule.kind == "bert_adam":
        return _bert_adam(schedule, step)
    if step < schedule.warmup:
        return schedule.peak * (step / schedule.warmup)
    if schedule.kind == "xlnet":
        return _decayed(schedule, step - schedule.warmup, schedule.steps - schedule.warmup)
    return _decayed(schedule, step, schedule.steps)


def _decayed(schedule: Schedule, step: float, steps: float) -> float:
    """tf.train.polynomial_decay or cosine_decay without cycles; nn.PolynomialDecayLR of MindSpore is the first."""
    done = min(step, steps) / steps
    left = 0.5 * (1 + cos(pi * done)) if schedule.decay == "cosine" else (1 - done) ** schedule.power
    return (schedule.peak - schedule.end) * left + schedule.end


def _bert_adam(schedule: Schedule, step: int) -> float:
    """WarmupLinearSchedule of huawei-noah/Pretrained-Language-Model TinyBERT/transformer/optimization.py."""
    done = step / schedule.steps
    if done < schedule.warmup:
        return schedule.peak * (done / schedule.warmup)
    return schedule.peak * max((done - 1) / (schedule.warmup - 1), 0.0)
