"""A student and its teacher before any framework is there: configs, tensors, classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from porting.convert.config import find_config, read_config
from porting.convert.registry import family_named
from porting.data.tasks import task_named
from porting.errors import UsageError
from porting.model.registry import model_named
from porting.train.distill_options import layers
from porting.train.distill_recipe import Stage
from porting.train.distill_weights import from_layers, labels_of, part, student_file, with_teacher
from porting.train.options import required

if TYPE_CHECKING:
    from porting.backends.protocol import Array

MODEL = "tinybert"
_SHARED = ("vocab_size", "type_vocab_size")
"""What a student of a published size takes over from its teacher."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What is distilled. config: the student's, its teacher's in it. labels: classes, None in general distillation.

    teacher, student: under PyTorch's names; the student is None where it is to be drawn. notes: lines for the user.
    """

    config: Any
    labels: int | None
    teacher: Mapping[str, Array]
    student: Mapping[str, Array] | None
    notes: tuple[str, ...]


def pair(options: Mapping[str, Any], stage: Stage, begin: Path | None) -> Pair:
    """Read both. begin: the student's checkpoint or the folder of a run; None for a new student.

    Raises: UsageError, FormatError, MismatchError.
    """
    required(options, "load_teacher_ckpt_path")
    begin = None if begin is None else student_file(begin)
    place = options["load_teacher_ckpt_path"]
    teacher = part(student_file(place), "teacher")
    config, notes = _config(options, student_file(place), begin)
    labels = None if stage == "general" else _labels(options, place, labels_of(teacher))
    student = None if begin is None else part(begin, "student")
    chosen = layers("init_layers", options["init_layers"]) if stage == "general" else None
    if chosen is not None:
        if student is not None:
            raise UsageError("init_layers: is of a new student, and --load-gd-ckpt-path gives one: pass one of them")
        student = from_layers(teacher, chosen, config)
        notes += (f"student: begins as the teacher's layers {', '.join(map(str, chosen))}",)
    elif begin is not None:
        notes += (f"student: begins as {begin}",)
    return Pair(config, labels, teacher, student, notes)


def student_values(options: Mapping[str, Any], begin: Path | None) -> tuple[dict[str, Any], bool]:
    """The student's config as values, and whether it is that of a published size.

    Raises: UsageError where nothing tells it.
    """
    spec, named = model_named(MODEL), options["student"]
    if named in spec.sizes:
        return dict(spec.sizes[named].to_dict()), True
    if named is not None:
        if not Path(named).is_file():
            raise UsageError(f"student {named}: wanted a config file or a size: {', '.join(spec.sizes)}")
        return dict(read_config(Path(named)).values), False
    found = find_config(family_named(MODEL), begin, None) if begin is not None else None
    if found is None or found.path is None:
        raise UsageError(f"--student: wanted a config file or a size: {', '.join(spec.sizes)}")
    return dict(found.values), False


def _config(options: Mapping[str, Any], place: Path, begin: Path | None) -> tuple[Any, tuple[str, ...]]:
    """The config of both, and what a user should know of it."""
    mine, published = student_values(options, begin)
    found = find_config(family_named("bert"), place, options["teacher_config"])
    theirs = dict(found.values) if found.path is not None else None if published else mine.get("teacher")
    if theirs is None:
        raise UsageError(f"{place}: no config beside it, and none in the student's: pass --teacher-config")
    notes: tuple[str, ...] = ()
    if published:
        changed = {key: theirs[key] for key in _SHARED if theirs.get(key, mine[key]) != mine[key]}
        most = min(mine["max_position_embeddings"], theirs.get("max_position_embeddings", 512))
        changed |= {"max_position_embeddings": most} if most != mine["max_position_embeddings"] else {}
        mine |= changed
        notes = tuple(f"student {options['student']}: {key} {value}, as the teacher" for key, value in changed.items())
    chosen = layers("layer_map", options["layer_map"])
    more = {"layer_map": chosen, "temperature": options.get("temperature") if _told(options, "temperature") else None}
    config: Any = model_named(MODEL).configure(with_teacher(mine, theirs, **more))
    learnt = ", ".join(map(str, config.teacher_layers))
    notes += (f"student: {_arithmetic(config)}; teacher: {_arithmetic(config.taught())}",)
    return config, (*notes, f"layers of the teacher that the student's learn from: {learnt}")


def _arithmetic(config: Any) -> str:
    """What config files of different origins mean by the same words."""
    before = f"{config.pooled_activation} before a classifier"
    return f"{config.hidden_act}, layer_norm_eps {config.layer_norm_eps:g}, {before}"


def _told(options: Mapping[str, Any], name: str) -> bool:
    return name in options["given"]


def _labels(options: Mapping[str, Any], place: Path, there: int | None) -> int:
    """Classes of task distillation: those of the teacher's head. Raises: UsageError for others, or no head."""
    if options["task_type"] == "ner" and options["task_name"] is not None:
        raise UsageError(f"task_name {options['task_name']}: is a task of sentences; without it --num-labels tells ner")
    if there is None:
        raise UsageError(f"{place}: has no classifier: a teacher is fine-tuned on the task first (port finetune)")
    told = {"num_labels": options["num_labels"]}
    if options["task_name"] is not None:
        task = task_named(options["task_name"])
        if task.regression:
            raise UsageError(f"task_name {options['task_name']}: is a regression, and classes are distilled")
        told["task_name"] = len(task.labels)
    for name, count in told.items():
        if count is not None and count != there:
            raise UsageError(f"{name} {options[name]}: wanted {count} classes, the teacher's classifier has {there}")
    return there
