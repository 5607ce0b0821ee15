"""Distillation of TinyBERT: general, and on a task in two phases, in any framework that has the port.

What a run leaves in its folder:

    run.json               options, recipe, config, hashes of data and teacher, what was noted, what came out
    train.log, steps.jsonl the lines that MindSpore's callbacks print, and a line of JSON per step
    state-STEPS.safetensors, evaluations.jsonl, best.safetensors   as porting.train.loop leaves them
    student.safetensors    under PyTorch's names, fit_dense included; config.json beside it
    student.ckpt, student.onnx, student.mindir                     as they are asked for
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from porting.checkpoint.output import write_json
from porting.errors import UsageError
from porting.model.recipe import Recipe
from porting.model.registry import model_named
from porting.parity.prepare import content_hash
from porting.train.batches import Records, Shuffled
from porting.train.best import best_weights, read_best
from porting.train.distill_data import records
from porting.train.distill_judge import ALONE, judge_of, metric_of
from porting.train.distill_net import Open, open_net
from porting.train.distill_pair import MODEL, Pair, pair
from porting.train.distill_recipe import Stage, idle, recipe_for
from porting.train.distill_session import Taught
from porting.train.distill_weights import FIT, STUDENT, plain
from porting.train.export import check_formats, export
from porting.train.export import lines as export_lines
from porting.train.log import TrainLog
from porting.train.loop import Plan, train
from porting.train.options import required
from porting.train.parallel import alone_in, schedule, together, world

if TYPE_CHECKING:
    from porting.backends.protocol import StepResult
    from porting.terminal import Stepped
    from porting.train.state import Position

_TASKS: Mapping[Stage, str] = {"general": "general_distill", "1": "task_distill_1", "2": "task_distill_2"}
_EPOCHS: Mapping[Stage, str] = {"general": "epoch_size", "1": "td_phase1_epoch_size", "2": "td_phase2_epoch_size"}
RUN = "run.json"
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Distilled:
    """What came out. folder: of the run. student: its file. best: the metric and its value, None without evaluation."""

    folder: Path
    student: Path
    steps: int
    overflows: int
    best: tuple[str, float] | None
    teacher: str

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        best = None if self.best is None else {"metric": self.best[0], "value": self.best[1]}
        return {
            "folder": str(self.folder), "student": str(self.student), "steps": self.steps,
            "overflows": self.overflows, "best": best, "teacher": self.teacher,
        }  # fmt: skip


def distill_general(options: Mapping[str, Any], tell: Tell, stepped: Stepped | None = None) -> Distilled:
    """General distillation. options: of porting.train.distill_options.chosen.

    tell: takes lines for the user. stepped: takes steps made, steps to make, and the loss.

    Raises: PortError for whatever of the options, the data or the checkpoints does not fit, before the first step.
    """
    required(options, "output", "data_dir")
    return _distil(options, "general", options["output"], options["load_gd_ckpt_path"], tell, stepped)


def distill_task(options: Mapping[str, Any], tell: Tell, stepped: Stepped | None = None) -> list[Distilled]:
    """Task distillation: one phase in the output's folder, or both in `phase1` and `phase2` below it.

    Raises: as `distill_general`.
    """
    required(options, "output", "train_data_dir")
    folder, first, second = (options[name] for name in ("output", "load_gd_ckpt_path", "load_td1_ckpt_path"))
    if options["phase"] == "2":
        if second is None:
            raise UsageError(
                "wanted: --load-td1-ckpt-path, the student of phase 1: its file, or the folder of that run"
            )
        return [_distil(options, "2", folder, second, tell, stepped)]
    if second is not None:
        raise UsageError("--load-td1-ckpt-path: is what --phase 2 begins with")
    if options["phase"] == "1":
        return [_distil(options, "1", folder, first, tell, stepped)]
    one = _distil(options, "1", folder / "phase1", first, tell, stepped)
    return [one, _distil(options, "2", folder / "phase2", one.folder, tell, stepped)]


@dataclass(frozen=True, slots=True)
class _Run:
    """A run that is ready to begin. task: of the model's."""

    stage: Stage
    task: str
    folder: Path
    options: Mapping[str, Any]
    pair: Pair
    data: Shuffled
    held: Records | None
    steps: int
    recipe: Recipe


def _distil(
    options: Mapping[str, Any], stage: Stage, folder: Path, begin: Path | None, tell: Tell, stepped: Stepped | None
) -> Distilled:
    schedule()
    run, output = _prepared(options, stage, folder, begin), options["output"]
    with alone_in(output), nullcontext() if folder == output else alone_in(folder):  # a phase's lies within
        return _distilled(run, tell, stepped)


def _distilled(run: _Run, tell: Tell, stepped: Stepped | None) -> Distilled:
    """Make a run that is ready, from its newest state where there is one."""
    options, folder, leads = run.options, run.folder, world().leads
    net = open_net(run.options, run.task, run.pair, run.recipe)
    resolved, drawn = net.trainee.resolved, net.trainee.notes
    emulated = (f"{resolved.backend}: {resolved.reason}",) if resolved.emulated else ()
    notes = (*emulated, *run.pair.notes, *drawn, *idle(options, run.stage, run.recipe, resolved.backend.known))
    before = net.teacher_hash()
    said = {**_said(run, net, before), "notes": list(notes)}
    tell = tell if leads else _untold
    for note in notes:
        tell(note)
    if leads:
        write_json(folder / RUN, {**said, "result": None})
    best, overflows = _trained(run, net, said["identity"], tell, stepped)
    if (after := net.teacher_hash()) != before:
        raise UsageError(f"{folder}: the teacher has changed while it taught: {before} before, {after} after")
    tell(f"teacher: as it was, {after}")
    done = Distilled(folder, folder / STUDENT, net.session.counters().steps, overflows, best, after)

    def finish() -> None:
        made = _exported(run, net, tell)
        write_json(folder / RUN, {**said, "result": done.to_json(), "files": made})

    together(finish)  # the next phase begins with what is written here
    return done


def _untold(line: str) -> None:
    """What all ranks would say the first says."""
    del line


def _prepared(options: Mapping[str, Any], stage: Stage, folder: Path, begin: Path | None) -> _Run:
    """Everything that can be wrong is read and checked here, before a framework is imported."""
    check_formats(_formats(options))
    found, spec = pair(options, stage, begin), model_named(MODEL)
    place = options["data_dir" if stage == "general" else "train_data_dir"]
    task = _TASKS[stage] + ("_tokens" if stage == "2" and options["task_type"] == "ner" else "")
    learnt = records(place, options, spec, found.config, labels=found.labels)
    learnt = replace(learnt, arrays={name: learnt.arrays[name] for name in spec.task(task).features})
    size = (options["batch_size"] or (16 if stage == "general" else 32)) * world().size
    data = Shuffled(learnt, size, options["seed"] if options["do_shuffle"] else None)
    steps = options["train_steps"] or data.per_epoch * options[_EPOCHS[stage]]
    held = None
    if stage != "general" and options["phase"] != "1" and _evaluated(options):  # before phase 1 too, so that it is told
        metric_of(options)
        held = records(options["eval_data_dir"], options, spec, found.config, labels=found.labels, judged=True)
        held = held if stage == "2" else None
    recipe = recipe_for(options, stage, steps, data.per_epoch)
    return _Run(stage, task, folder, options, found, data, held, steps, recipe)


def _evaluated(options: Mapping[str, Any]) -> bool:
    """Is the student of phase 2 evaluated? Raises: UsageError where it is to be, and on nothing."""
    if options["do_eval"]:
        required(options, "eval_data_dir")
    return bool(options["do_eval"])


def _said(run: _Run, net: Open, teacher: str) -> dict[str, Any]:
    """What run.json says before the first step. identity: what makes two runs the same."""
    options, trainee = run.options, net.trainee
    identity = {
        "task": run.task, "config": run.pair.config.to_dict(), "recipe": run.recipe.to_dict(),
        "data": content_hash(run.data.records.arrays), "batch_size": run.data.size, "shuffled_by": run.data.seed,
        "teacher": teacher, "student": net.begun, "dtype": options["dtype"], "seed": options["seed"],
        "dropout": options["dropout"], "framework": trainee.resolved.backend.known,
    }  # fmt: skip
    given = {name: str(options[name]) for name in sorted(options["given"])}
    device = {"backend": str(trainee.resolved.backend), "name": trainee.device.name}
    return {"options": given, "steps": run.steps, "device": device, "identity": identity}


def _trained(
    run: _Run, net: Open, identity: Mapping[str, Any], tell: Tell, stepped: Stepped | None
) -> tuple[tuple[str, float] | None, int]:
    """Train to the end. Returns the best metric with its value, and how many steps overflowed in this process."""
    options, per_epoch, overflows = run.options, run.data.per_epoch, 0
    every = options["data_sink_steps"] if options["enable_data_sink"] else 1
    plan = Plan(run.steps, run.folder, identity, options["save_ckpt_step"], options["max_ckpt_num"])
    scaled = run.recipe.loss_scale.kind != "none"
    here = world()
    opened = TrainLog(run.folder, per_epoch, every=every, scaled=scaled) if here.leads else nullcontext()
    with opened as log, net.trainee.arithmetic():

        def told(place: Position, step: int, result: StepResult) -> None:
            nonlocal overflows
            overflows += result.overflow
            if log is not None:
                log.told(place, step, result)
            if stepped is not None and here.leads:
                stepped(step, run.steps, f"loss {result.loss:.4g}")
            if result.overflow:
                tell(f"step {step}: gradients overflow at loss scale {result.loss_scale:g}: no update")
            if place.batch + 1 == per_epoch or step == run.steps:
                tell(f"epoch {place.epoch + 1}, step {step} of {run.steps}: loss {result.loss:.6g}")

        judge = None if run.held is None else judge_of(run.held, options, run.pair, run.folder, log, tell)
        train(Taught(net.session), run.data, plan, told, judge)
    best = read_best(run.folder) if judge is not None and here.leads else None
    return (None if best is None else (best.metric, best.value)), overflows


def _exported(run: _Run, net: Open, tell: Tell) -> list[str]:
    """Write the student: the best where it was evaluated, else the last. Returns lines of what was made."""
    from porting.checkpoint.write import write

    student = net.net.student(net.session.weights() if run.held is None else best_weights(run.folder))
    write(run.folder / STUDENT, student, format="safetensors", overwrite=True)
    alone = {name: tensor for name, tensor in student.items() if not name.startswith(FIT)}
    task = "student" if run.stage == "general" else ALONE[run.options["task_type"]]
    build = replace(net.trainee.build, task=task)
    formats = [kind for kind in _formats(run.options) if kind != "safetensors"]
    made = export(
        alone, model_named(MODEL), plain(run.pair.config), build,
        source_dialect="hf", folder=run.folder, stem="student", formats=formats,
    )  # fmt: skip
    found = [str(run.folder / STUDENT), *export_lines(made)]
    for line in found:
        tell(line)
    return found


def _formats(options: Mapping[str, Any]) -> list[str]:
    return [kind for kind in options["export"].replace(" ", "").split(",") if kind]
