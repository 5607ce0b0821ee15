"""The verb that fine-tunes: in a worker process, reads the data, opens the session, trains and evaluates.

The job travels as JSON: `run`, a porting.train.finetune.Run with absolute paths; `subject`; `backend`, `emulated` and
`reason`, as porting.backends.found resolved them. Data are read before the framework is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from porting.backends.found import Resolved
from porting.backends.names import BackendName
from porting.checkpoint.output import write_json
from porting.convert.registry import family_named
from porting.errors import UsageError
from porting.model.dropout import Dropout, Mode
from porting.model.recipe import Recipe
from porting.parity.options import computed
from porting.parity.prepare import content_hash
from porting.parity.subject import Subject
from porting.train.batches import Records, Shuffled
from porting.train.best import read_best, read_evaluations
from porting.train.evaluate import METRIC
from porting.train.evaluation import evaluator
from porting.train.examples import Wanted, read_examples
from porting.train.finetune import Run
from porting.train.finetune_recipe import original_of, recipe_for
from porting.train.log import TrainLog
from porting.train.loop import Judge, Plan, train
from porting.train.parallel import alone_in, leave, together, world
from porting.train.start import open_trainee
from porting.train.state import Position, check_run, read_mark, states
from porting.version import VERSION

if TYPE_CHECKING:
    from porting.backends.protocol import Session, StepResult
    from porting.backends.worker import Progress
    from porting.train.start import Trainee

ACCOUNT = "run.json"
EPOCHS, BATCH = 3.0, 32
"""Of a recipe in a file, which has no original to follow."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a run is made of before any framework is imported. steps: of the whole run."""

    run: Run
    subject: Subject
    data: Shuffled
    evaluated: Mapping[str, Records]
    recipe: Recipe
    steps: int

    @property
    def metric(self) -> str:
        """By which the best is the best."""
        return METRIC.get(self.run.glue.name, "accuracy")

    def same(self, trainee: Trainee) -> dict[str, Any]:
        """What makes two runs the same, flat, so that a difference is told by its name."""
        recipe, config = self.recipe.to_dict(), self.subject.config
        return {
            "model": self.subject.model, **_flat("config", config), "task": self.run.glue.name,
            "labels": self.subject.labels, "framework": trainee.resolved.backend.known,
            "emulated": trainee.resolved.emulated, "dtype": self.run.dtype, "dropout": self.run.dropout,
            "seed": self.run.seed, "batch_size": self.data.size, "steps": self.steps, **_flat("recipe", recipe),
            "data": content_hash(self.data.records.arrays), "weights": content_hash(trainee.session.weights()),
        }  # fmt: skip


def finetune(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Train, and say what came of it. Raises: PortError for what the job asks wrongly."""
    run, subject = Run.from_json(job["run"]), Subject.from_json(job["subject"])
    resolved = Resolved(BackendName.parse(job["backend"]), job["emulated"], job["reason"])
    folder = Path(run.output)
    work = prepared(run, subject)
    with alone_in(folder):
        trainee = open_trainee(
            subject, resolved, recipe=work.recipe, dropout=Dropout(cast("Mode", run.dropout), run.seed),
            compute=computed(run.dtype),
        )  # fmt: skip
        same = work.same(trainee)
        plan = Plan(work.steps, folder, same, save_every=run.save_steps or work.data.per_epoch, keep=run.max_ckpt_num)
        notes = (*trainee.notes, *_left_over(work.data))
        notes += _gone_on(folder, same)
        if world().leads:
            _write_account(work, trainee, same, notes)
        scaled = work.recipe.loss_scale.kind != "none"
        with trainee.arithmetic(), TrainLog(folder, work.data.per_epoch, every=run.log_steps, scaled=scaled) as log:
            broken: list[int] = []
            told = _telling(work, log, progress, broken)
            last = train(trainee.session, work.data, plan, told, _judge(work))
        if broken:
            notes += (f"the loss was not finite in {len(broken)} steps, first in step {broken[0]}",)
        result = together(lambda: _result(work, trainee, folder, last, notes)) or {}
        leave()
        return result


def prepared(run: Run, subject: Subject) -> Work:
    """Data and recipe, checked wholly. Raises: UsageError, FormatError."""
    config, glue = subject.configured(), run.glue
    wanted = Wanted(subject.spec, config, glue, subject.task, subject.labels)
    schema = Path(run.schema) if run.schema else None
    records = read_examples([Path(file) for file in run.train], wanted, schema=schema)
    evaluated = {
        _stem(file, run.eval): read_examples([Path(file)], wanted, schema=schema, labelled=True) for file in run.eval
    }
    original = original_of(subject.spec, run.recipe)
    size = (run.batch_size or (original.batch_size if original else BATCH)) * world().size
    if size > records.count:
        raise UsageError(f"--batch-size: a step takes {size} examples, there are {records.count} to train on")
    data = Shuffled(records, size, run.seed)
    epochs = run.epochs or (original.epochs if original else EPOCHS)
    steps = run.steps or max(int(data.per_epoch * epochs), 1)
    recipe = recipe_for(
        subject.spec, run.recipe, steps=steps, learning_rate=run.learning_rate, warmup=run.warmup,
        weight_decay=run.weight_decay, loss_scale=run.loss_scale,
    )  # fmt: skip
    return Work(run, subject, data, evaluated, recipe, steps)


def _stem(file: str, files: tuple[str, ...]) -> str:
    """What a file's metrics begin with: nothing for the first, whose metrics decide."""
    return "" if file == files[0] else f"{Path(file).stem}/"


def _judge(work: Work) -> Judge | None:
    if not work.evaluated:
        return None
    run = work.run
    evaluators = {
        stem: evaluator(records, task=run.glue.name, size=run.eval_batch_size, labels=work.subject.labels)
        for stem, records in work.evaluated.items()
    }

    def evaluate(session: Session) -> dict[str, float]:
        return {stem + name: value for stem, each in evaluators.items() for name, value in each(session).items()}

    return Judge(run.eval_steps, evaluate, work.metric)


def _telling(
    work: Work, log: TrainLog, progress: Progress, broken: list[int]
) -> Callable[[Position, int, StepResult], None]:
    """Writes a step down and tells of it. broken: takes the steps whose loss is not finite."""
    folder = Path(work.run.output)

    def told(place: Position, step: int, result: StepResult) -> None:
        log.told(place, step, result)
        if not isfinite(result.loss):
            broken.append(step)
        best = read_best(folder) if work.evaluated and place.batch == 0 else None
        said = f"loss {result.loss:.4g}" + (f", best {best.metric} {best.value:.4g}" if best else "")
        progress({"step": step, "steps": work.steps, "said": said})

    return told


def _gone_on(folder: Path, same: Mapping[str, Any]) -> tuple[str, ...]:
    """A line of where the run goes on. Raises: UsageError where the folder has the states of another."""
    found = states(folder)
    if not found:
        return ()
    mark = read_mark(found[-1])
    check_run(found[-1], mark, same)
    return (f"goes on from step {mark.counters.steps}",)


def _left_over(data: Shuffled) -> tuple[str, ...]:
    rest = data.records.count % data.size
    return (f"{rest} of {data.records.count} examples are left over in each epoch, other ones in each",) if rest else ()


def _result(work: Work, trainee: Trainee, folder: Path, last: Path, notes: tuple[str, ...]) -> dict[str, Any]:
    """What came of the run, as JSON values; numbers that are none are null."""
    mark = read_mark(last)
    evaluations, best = read_evaluations(folder), read_best(folder) if work.evaluated else None
    return {
        "folder": str(folder), "model": work.subject.model, "task": work.run.glue.name,
        "backend": str(trainee.resolved.backend), "device": trainee.device.name, "emulated": trainee.resolved.emulated,
        "steps": mark.counters.steps, "epochs": mark.position.epoch, "batch_size": work.data.size,
        "examples": work.data.records.count, "recipe": work.recipe.name,
        "skipped": mark.counters.steps - mark.counters.updates, "loss_scale": mark.counters.loss_scale,
        "metric": work.metric if work.evaluated else None,
        "last": _numbers(evaluations[-1].to_json()) if work.evaluated and evaluations else None,
        "best": _numbers(best.evaluation.to_json()) if best else None, "state": last.name, "notes": list(notes),
    }  # fmt: skip


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    plain = {name: value if value == value else None for name, value in values["metrics"].items()}  # noqa: PLR0124 - NaN
    return {**values, "metrics": plain}


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(f"{prefix}.{name}", value) if isinstance(value, dict) else {f"{prefix}.{name}": value}
    return found


def _write_account(work: Work, trainee: Trainee, same: Mapping[str, Any], notes: tuple[str, ...]) -> None:
    """What the run is, and the model's config, by which what it leaves can be read."""
    folder = Path(work.run.output)
    account = {"tool": f"porting-kit {VERSION}", "run": same, "options": work.run.to_json(), "notes": list(notes)}
    account |= {"device": trainee.device.name, "versions": dict(trainee.device.versions)}
    account |= {"switches": dict(trainee.device.switches)}
    config = family_named(work.subject.spec.family).config_files[0]
    write_json(folder / ACCOUNT, account)
    write_json(folder / config, work.subject.configured().to_dict())
