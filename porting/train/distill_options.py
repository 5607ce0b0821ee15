"""The options of `port distill`, in one table: flags, keys of its config file, and rows of the documentation.

Their names are those of ModelZoo's TinyBERT guide (mindspore-ai/models at 31e9149, research/nlp/tinybert/README.md,
td_config/*.yaml), where it has them; defaults are its too, but for the device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from porting.errors import UsageError
from porting.train.options import read_options

Command = Literal["general", "task"]


_FROM_ONE = (
    *("epoch_size", "td_phase1_epoch_size", "td_phase2_epoch_size", "batch_size", "eval_batch_size", "num_labels"),
    *("scale_window", "max_ckpt_num", "data_sink_steps"),
)
"""Numbers that make no sense as 0."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option. kind: of its value. default: None where it has none, or one that `what` tells.

    command: which of the two has it, or both. choices: of a word.
    """

    name: str
    kind: type
    default: Any
    what: str
    command: Command | Literal["both"] = "both"
    choices: tuple[str, ...] = ()

    @property
    def least(self) -> int:
        """Of a number."""
        return int(self.name in _FROM_ONE)

    @property
    def help(self) -> str:
        """What it is, with its default where `what` does not say that."""
        told = self.default in (None, "") or "default" in self.what
        value = str(self.default).lower() if self.kind is bool else self.default
        return self.what if told else f"{self.what} Default: {value}."


OPTIONS: tuple[Option, ...] = (
    Option("output", Path, None, "Folder of the run; one that holds a state of it is gone on with. save_ckpt_path."),
    Option("phase", str, "both", "1: representations and scores; 2: logits; both: one after the other.", "task",
           ("1", "2", "both")),
    Option("load_teacher_ckpt_path", Path, None, "The teacher: any checkpoint that `port convert` reads."),
    Option("teacher_config", Path, None, "Its config; default: the one beside it, else `teacher` in the student's."),
    Option("student", str, None, "The student's size by name (tinybert-4-312), or a config file; default: the config "
           "beside its checkpoint."),
    Option("load_gd_ckpt_path", Path, None, "The student to begin with: a checkpoint, or the folder of a run; without "
           "one it is drawn."),
    Option("load_td1_ckpt_path", Path, None, "The student of phase 1, with which phase 2 begins; with --phase both "
           "that of phase 1 itself.", "task"),
    Option("layer_map", str, "", "The teacher's layers, from 0, that the student's learn from: 2,5,8,11; default: "
           "uniform."),
    Option("init_layers", str, "", "The teacher's layers, from 0, that a new student's are copies of, embeddings and "
           "pooler included; widths must be equal.", "general"),
    Option("temperature", float, 1.0, "Divides the logits of both in phase 2.", "task"),
    Option("data_dir", Path, None, "Records: a file, or a folder of files with `record` in their names.", "general"),
    Option("train_data_dir", Path, None, "Records to train on: a file, or a folder as above.", "task"),
    Option("eval_data_dir", Path, None, "Records to evaluate on in phase 2.", "task"),
    Option("schema_dir", Path, None, "The schema.json of TFRecords, or its folder; default: beside the records."),
    Option("dataset_type", str, "tfrecord", "tfrecord or mindrecord.", choices=("tfrecord", "mindrecord")),
    Option("task_name", str, None, "SST-2, MNLI, QNLI, TNEWS …: labels, and the metric of the best; not of ner.",
           "task"),
    Option("task_type", str, "classification", "classification, or ner: a class for each token.", "task",
           ("classification", "ner")),
    Option("num_labels", int, None, "Classes; default: those of the teacher's head.", "task"),
    Option("assessment_method", str, None, "Metric of the best: accuracy, f1, matthews …; default: the task's.",
           "task"),
    Option("do_train", bool, True, "false: only evaluate the student of --load-td1-ckpt-path.", "task"),
    Option("do_eval", bool, True, "false: no evaluation in phase 2; the last state is exported.", "task"),
    Option("epoch_size", int, 1, "Epochs.", "general"),
    Option("td_phase1_epoch_size", int, 10, "Epochs of phase 1.", "task"),
    Option("td_phase2_epoch_size", int, 3, "Epochs of phase 2.", "task"),
    Option("train_steps", int, 0, "Steps of a phase; 0: all of its epochs."),
    Option("batch_size", int, None, "Examples of a step on each device; default: 16, of task distillation 32."),
    Option("eval_batch_size", int, 32, "Examples of a batch of the evaluation.", "task"),
    Option("eval_steps", int, 0, "Steps between evaluations in phase 2; 0: at each epoch's end.", "task"),
    Option("do_shuffle", bool, True, "false: the order of the files, in every epoch."),
    Option("seed", int, 0, "Of the order, of dropout, and of what is drawn of a student."),
    Option("backend", str, "torch", "torch or mindspore (or tensorflow), with a device or without: mindspore:ascend."),
    Option("device_target", str, None, "Ascend, GPU or CPU; default: CPU, or what --backend says.",
           choices=("Ascend", "GPU", "CPU")),
    Option("device_id", int, 0, "Of several devices: only 0 is taken, which the system's variables choose."),
    Option("mode", str, None, "eager or graph; default: graph in MindSpore, eager in the others.",
           choices=("eager", "graph")),
    Option("dtype", str, "float32", "Of activations (compute_type): weights stay float32.",
           choices=("float32", "float16", "bfloat16")),
    Option("dropout", str, "shared", "Masks drawn by step on the host, or by the framework (own), or none (off).",
           choices=("shared", "own", "off")),
    Option("recipe", str, "modelzoo", "modelzoo: MindSpore's AdamWeightDecay; huawei: BertAdam of the PyTorch code.",
           choices=("modelzoo", "huawei")),
    Option("learning_rate", float, None, "Default: 5e-5; in phase 2 2e-5, of huawei 3e-5."),
    Option("end_learning_rate", float, 1e-14, "That the decay ends at (modelzoo)."),
    Option("power", float, 1.0, "Of the polynomial decay (modelzoo)."),
    Option("warmup_steps", int, None, "Default: a tenth of the steps; in phase 1 of modelzoo of an epoch's."),
    Option("decay_steps", int, 0, "Steps of the schedule; 0: those of the run."),
    Option("weight_decay", float, None, "Default: 1e-4, of huawei 0.01."),
    Option("loss_scale", str, None, "none, static or dynamic; default: dynamic with float16 or where a value is given, "
           "else none.", choices=("none", "static", "dynamic")),
    Option("loss_scale_value", float, None, "The scale that it begins with; default: 65536, in phase 1 256."),
    Option("scale_factor", float, 2.0, "By which an overflow divides it, and a window without one multiplies it."),
    Option("scale_window", int, None, "Steps without overflow after which it grows; default: 50, in general 1000."),
    Option("save_ckpt_step", int, 1000, "Steps between training states; 0: at the end only."),
    Option("max_ckpt_num", int, 1, "States that are kept."),
    Option("enable_data_sink", bool, True, "With it the log has a line per data_sink_steps; nothing is sunk."),
    Option("data_sink_steps", int, 1, "Steps between lines of the log."),
    Option("export", str, "safetensors,ckpt", "Formats of the student at the end: safetensors, ckpt, onnx, mindir."),
)  # fmt: skip


def options_of(command: Command) -> tuple[Option, ...]:
    """Those that a command has."""
    return tuple(option for option in OPTIONS if option.command in ("both", command))


def chosen(command: Command, file: Path | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Every option's value: that of the flag, else of the file, else the default.

    flags: by name; None is not given. Raises: UsageError for a value that makes no sense; FormatError for the file.
    """
    table = {option.name: option for option in options_of(command)}
    told = read_options(file, table.keys()) if file is not None else {}
    told |= {name: value for name, value in flags.items() if value is not None}
    found = {name: option.default for name, option in table.items()}
    found |= {name: _valued(table[name], value) for name, value in told.items()}
    return found | {"given": frozenset(told)}


def layers(name: str, text: str) -> tuple[int, ...] | None:
    """Numbers of layers with commas between them; None of nothing. Raises: UsageError."""
    if not text:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{name}: wanted the teacher's layers from 0, as 2,5,8,11, got {text}") from None


def _valued(option: Option, value: Any) -> Any:
    """A value as the option's kind. Raises: UsageError."""
    wrong = UsageError(f"{option.name}: wanted {_wanted(option)}, got {value}")
    if option.kind is bool:
        words = {"true": True, "false": False}
        if str(value).lower() not in words:
            raise wrong
        return words[str(value).lower()]
    if isinstance(value, bool):
        raise wrong
    if option.name in ("layer_map", "init_layers") and isinstance(value, list):
        value = ",".join(map(str, value))
    try:
        found = option.kind(value)
    except (TypeError, ValueError):
        raise wrong from None
    if option.kind is int and found != float(value):
        raise wrong
    if isinstance(found, int | float) and not (found >= option.least and math.isfinite(found)):
        raise wrong
    words_of = {word.lower(): word for word in option.choices}
    if option.choices and found.lower() not in words_of:
        raise wrong
    return words_of[found.lower()] if option.choices else found


def _wanted(option: Option) -> str:
    if option.choices:
        return ", ".join(option.choices[:-1]) + " or " + option.choices[-1]
    numbers = {int: f"a whole number, at least {option.least}", float: "a number, at least 0"}
    return {bool: "true or false", **numbers}.get(option.kind, "text")
