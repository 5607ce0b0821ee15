"""The job of the process that a cell trains in: a model with drawn weights, all steps of all epochs, one evaluation.

Beside what the step itself does, the loop reads the clock and the loss once a step; the monitor is another process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from porting.backends.device import resident_peak
from porting.backends.found import Resolved
from porting.backends.names import BackendName
from porting.bench.cell_job import ORDER
from porting.bench.corpus import split
from porting.data.tasks import Task, task_named
from porting.model.dropout import Dropout
from porting.parity.capture_job import code_hash
from porting.parity.prepare import content_hash
from porting.parity.subject import Subject, subject
from porting.train.batches import Records, Shuffled
from porting.train.evaluate import metrics
from porting.train.finetune_recipe import recipe_for
from porting.train.start import open_trainee

if TYPE_CHECKING:
    from porting.backends.protocol import Array, Session
    from porting.backends.worker import Progress

RECIPE = "bert"
"""Of all models, so that one can be compared with another: that of google-research/bert's run_classifier.py."""

TELL = 5.0
"""Seconds between two signs of life."""

EVALUATED = 32
"""Examples of a batch of the evaluation, whatever the batch of the training, so that it is the same for all cells."""

GRAPHS = ("tensorflow", "mindspore")
"""Frameworks that are trained compiled unless a mode is asked for, as nearly all of their users do."""


def train_cell(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Train and evaluate. Returns what was measured, times in seconds of CLOCK_MONOTONIC. Raises: PortError."""
    progress({"pid": os.getpid()})
    os.environ.setdefault(*ORDER)
    setting, backend, task = job["setting"], BackendName.parse(job["backend"]), task_named(job["setting"]["task"])
    asked = asked_of(job["model"], task, setting["checkpoints"], setting["seed"])
    spec, config = asked.spec, asked.configured()
    training, evaluation = (split(setting["data"], name, spec, config, task) for name in ("train", "eval"))
    batches = Shuffled(training, job["batch_size"], setting["seed"])
    count = batches.per_epoch * setting["epochs"]
    recipe = recipe_for(spec, RECIPE, steps=count, learning_rate=setting["learning_rate"])
    trainee = open_trainee(
        asked, Resolved(backend, job["emulated"]), recipe=recipe, dropout=Dropout("own", setting["seed"]),
        compute=setting["compute"], mode=setting["mode"] or ("graph" if backend.known in GRAPHS else "eager"),
    )  # fmt: skip
    session, device = trainee.session, trainee.device
    with trainee.arithmetic():
        times, losses = trained(session, batches, count, progress)
        found = evaluated(session, evaluation, task)
    return {
        "start": float(times[0]),
        "seconds": [float(f"{value:.6g}") for value in np.diff(times)],
        "loss": [float(f"{value:.7g}") for value in losses],
        "per_epoch": batches.per_epoch,
        "examples": {"train": training.count, "eval": evaluation.count},
        "evaluation": found,
        "peak_rss": resident_peak(),
        "compilations": getattr(session, "compilations", None),
        "mode": trainee.build.mode,
        "device": device.name,
        "versions": dict(device.versions),
        "switches": dict(device.switches),
        "code": code_hash(spec.package),
        "notes": list(trainee.notes),
        "data": {"train": content_hash(training.arrays), "eval": content_hash(evaluation.arrays)},
        "recipe": {**recipe.to_dict(), "hash": recipe.hash},
    }


def asked_of(model: str, task: Task, checkpoints: Mapping[str, Mapping[str, Any]], seed: int) -> Subject:
    """A model with the head of a task. checkpoints: by model, with its `path`.

    Raises: UsageError for a model that is not known, or has no such head.
    """
    head, labels = ("regression", 1) if task.regression else ("classification", len(task.labels))
    path = checkpoints[model]["path"] if model in checkpoints else None
    return subject(model, checkpoint=path, task=head, labels=labels, seed=seed)


def trained(session: Session, batches: Shuffled, count: int, progress: Progress) -> tuple[Array, Array]:
    """Make `count` steps. Returns when the first began and each ended (count + 1,), and the losses (count,)."""
    times, losses = np.zeros(count + 1), np.zeros(count)
    told = times[0] = time.monotonic()
    for step in range(count):
        losses[step] = session.step(batches.batch(*divmod(step, batches.per_epoch))).loss
        times[step + 1] = now = time.monotonic()
        if now - told > TELL:
            progress({"step": step + 1, "of": count})
            told = now
    return times, losses


def evaluated(session: Session, records: Records, task: Task) -> dict[str, float]:
    """The mean loss over all examples, and the task's metrics."""
    answers, losses = [], []
    for batch in records.batches(EVALUATED):
        out = session.forward(batch)
        answers.append(out["logits"].reshape(-1) if task.regression else out["logits"].argmax(axis=-1))
        losses.append(float(out["loss"]) * len(answers[-1]))
    labels = records.arrays["label_values" if task.regression else "label_ids"]
    return {"loss": sum(losses) / records.count, **metrics(task.name, np.concatenate(answers), labels)}
