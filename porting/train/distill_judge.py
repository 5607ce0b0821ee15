"""How a student is evaluated: while phase 2 trains it, or alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from porting.data.schema import LABEL
from porting.data.tasks import task_named
from porting.errors import UsageError
from porting.parity.subject import Subject
from porting.train.batches import Records
from porting.train.best import read_best
from porting.train.distill_data import TEXT, records
from porting.train.evaluate import METRIC, metrics
from porting.train.evaluation import evaluator
from porting.train.loop import Judge
from porting.train.options import required

if TYPE_CHECKING:
    from porting.backends.protocol import Session
    from porting.train.distill_pair import Pair
    from porting.train.log import TrainLog

Evaluate = Callable[["Session"], dict[str, float]]

ALONE = {"classification": "classification", "ner": "token_classification"}
"""The task of a student alone, by the type of what it was distilled on."""

_METHODS = {"acc": "accuracy", "bf1": "f1"}
"""ModelZoo's words for metrics."""


def metric_of(options: Mapping[str, Any]) -> tuple[str, str]:
    """The task whose metrics are taken, "" for accuracy alone, and the one by which the best is kept.

    Raises: UsageError for a metric that is not one of the task's.
    """
    task = "" if options["task_name"] is None else task_named(options["task_name"]).name
    asked = options["assessment_method"] or METRIC.get(task, "accuracy")
    asked = _METHODS.get(asked, asked)
    known = metrics(task, np.zeros(2, np.int32), np.zeros(2, np.int32))
    if asked not in known:
        raise UsageError(f"assessment_method {asked}: wanted one of {', '.join(known)}, those of {task or 'classes'}")
    return task, asked


def token_evaluator(records: Records, size: int) -> Evaluate:
    """Accuracy over all tokens that the mask shows, padding left out: BERT's own, [CLS] and [SEP] included."""

    def evaluate(session: Session) -> dict[str, float]:
        said, wanted = [], []
        for batch in records.batches(size):
            shown = batch["input_mask"] == 1
            logits = session.forward({name: batch[name] for name in TEXT})["logits"]
            said.append(logits.argmax(-1)[shown])
            wanted.append(batch[LABEL][shown])
        return metrics("", np.concatenate(said), np.concatenate(wanted))

    return evaluate


def _evaluator(held: Records, options: Mapping[str, Any], labels: int) -> Evaluate:
    task, size = metric_of(options)[0], options["eval_batch_size"]
    if options["task_type"] == "ner":
        return token_evaluator(held, size)
    return evaluator(held, task=task, size=size, labels=labels)


def judge_of(
    held: Records,
    options: Mapping[str, Any],
    pair: Pair,
    folder: Path,
    log: TrainLog | None,
    tell: Callable[[str], None],
) -> Judge:
    """Evaluates as options say, and writes a better metric into the log as MindSpore's scripts print it."""
    metric, evaluate = metric_of(options)[1], _evaluator(held, options, pair.labels or 0)

    def judged(session: Session) -> dict[str, float]:
        found, best = evaluate(session), read_best(folder)
        if log is not None and (best is None or found[metric] > best.value):
            log.say(f"The best acc is {found[metric]:.6f}")
        tell(", ".join(f"{name} {value:.6f}" for name, value in found.items()))
        return found

    return Judge(options["eval_steps"], judged, metric)


def evaluate_student(options: Mapping[str, Any], tell: Callable[[str], None]) -> dict[str, float]:
    """Evaluate a student alone (do_train false). Raises: PortError."""
    from porting.model.registry import model_named
    from porting.train.distill_net import backend_of
    from porting.train.distill_pair import MODEL, student_values
    from porting.train.distill_weights import labels_of, part, plain, student_file
    from porting.train.start import open_trainee

    required(options, "load_td1_ckpt_path", "eval_data_dir")
    place, spec = student_file(options["load_td1_ckpt_path"]), model_named(MODEL)
    config = plain(spec.configure(student_values(options, place)[0]))
    labels = labels_of(part(place, "student"))
    if labels is None:
        raise UsageError(f"{place}: has no classifier: it is no student of task distillation")
    task = ALONE[options["task_type"]]
    held = records(options["eval_data_dir"], options, spec, config, labels=labels, judged=True)
    subject = Subject(spec.name, config.to_dict(), task, labels, checkpoint=str(place))
    trainee = open_trainee(subject, backend_of(options), compute=options["dtype"], mode=options["mode"])
    with trainee.arithmetic():
        found = _evaluator(held, options, labels)(trainee.session)
    tell(", ".join(f"{name} {value:.6f}" for name, value in found.items()))
    return found
