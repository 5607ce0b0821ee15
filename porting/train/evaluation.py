"""How well a session does on examples: all of them, in the order of their files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from porting.backends.protocol import Array, Session
from porting.errors import UsageError
from porting.train.batches import Records
from porting.train.evaluate import metrics

LABELS = ("label_ids", "label_values")
"""Features that hold what is wanted. The session is not given them: distillation's nets take none."""


def evaluator(records: Records, *, task: str, size: int, labels: int) -> Callable[[Session], dict[str, float]]:
    """Evaluates any session on these examples, by the metrics of a task of GLUE (porting.train.evaluate).

    size: of a batch; what is left over is a smaller one, so that every example counts once. labels: classes; 1 for the
    values of a regression. The session's outputs hold `logits`: (examples, labels), or of a regression one per example.
    Raises: UsageError for a batch of no example, and for records without labels.
    """
    if size < 1:
        raise UsageError(f"eval_batch_size: wanted at least 1, got {size}")
    wanted = next((records.arrays[name] for name in LABELS if name in records.arrays), None)
    if wanted is None:
        raise UsageError(f"{task}: the examples have no labels; they have {', '.join(records.arrays)}")
    asked = Records({name: array for name, array in records.arrays.items() if name not in LABELS}, records.count)

    def evaluate(session: Session) -> dict[str, float]:
        found = [_said(task, session.forward(batch)["logits"], labels) for batch in asked.batches(size)]
        return metrics(task, np.concatenate(found), wanted)

    return evaluate


def _said(task: str, logits: Array, labels: int) -> Array:
    """Classes, or the values of a regression: (examples,). Raises: UsageError for logits of other classes."""
    rows = logits.reshape(len(logits), -1)
    if rows.shape[1] != labels:
        raise UsageError(f"{task}: wanted logits of {labels} labels, got {logits.shape}")
    said: Array = rows[:, 0] if labels == 1 else rows.argmax(axis=1)
    return said
