"""The golden case of TinyBERT as files that `port distill` reads: records, checkpoints, configs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from porting.checkpoint.registry import read
from porting.checkpoint.write import write
from porting.data.features import encode_example
from porting.data.schema import integers, to_json
from porting.data.tfrecord import frame
from porting.train.distill_options import chosen

GOLDEN = Path(__file__).parents[1] / "golden" / "tinybert_c1"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
STAGES = {"gd": ("general", "teacher_pretrained", "student_gd"), "td1": ("1", "teacher_cls", "student_td1")}
STAGES |= {"td2": ("2", "teacher_cls", "student_td1")}
BATCH, STEPS, RATE, SCHEDULE, WARMUP = 4, 10, 1e-3, 12, 2
"""Of the golden trajectories."""


def arrays(file):
    """Arrays of a golden .npz."""
    return dict(np.load(GOLDEN / f"{file}.npz", allow_pickle=False))


def checkpoint(file):
    """A golden .ckpt by ModelZoo's names."""
    found = read(GOLDEN / f"{file}.ckpt")
    return {name: np.asarray(found[name].read()) for name in found}


def write_records(folder, *, mindrecord=False, label_ids=None):
    """The 40 golden examples in their order, with a schema. label_ids: in place of theirs. Returns the file."""
    inputs = {name: array.reshape(STEPS * BATCH, -1) for name, array in arrays("train_inputs").items()}
    if label_ids is not None:
        shape = np.shape(label_ids) or inputs["label_ids"].shape
        inputs["label_ids"] = np.broadcast_to(label_ids, shape)
    rows = [{name: array[i].tolist() for name, array in inputs.items()} for i in range(STEPS * BATCH)]
    if mindrecord:
        from porting.backends.mindspore.mindrecord import MindRecordWriter

        path = folder / "train.mindrecord"
        with MindRecordWriter(path, dict.fromkeys(inputs, "int32")) as writer:
            writer.write(rows)
            writer.commit()
        return path
    columns = (
        *integers(("input_ids", "input_mask", "segment_ids"), 16),
        *integers(("label_ids",), inputs["label_ids"].shape[1]),
    )
    (folder / "schema.json").write_text(to_json(columns))
    path = folder / "train.tfrecord"
    path.write_bytes(b"".join(frame(encode_example(row)) for row in rows))
    return path


def write_pair(folder, phase, *, huawei=False):
    """Teacher and student as ModelZoo saves them, the student with its fit_dense; configs beside them."""
    _, teacher, student = STAGES[phase]
    made = {}
    for role, tensors in (
        ("teacher", checkpoint(teacher)),
        ("student", {**checkpoint(student), **checkpoint("fit_dense")}),
    ):
        place = folder / role
        place.mkdir()
        write(place / f"{role}.ckpt", tensors, format="mindspore-ckpt")
        values = dict(MANIFEST[f"{role}_config"])
        if huawei:
            kept = ("compute_type", "dtype", "seq_length", "use_relative_positions")
            values = {**{key: value for key, value in values.items() if key not in kept}, "pre_trained": ""}
        (place / "config.json").write_text(json.dumps(values))
        made[role] = place / f"{role}.ckpt"
    return made["teacher"], made["student"]


def options(folder, phase, **more):
    """Options of a golden run, all files in `folder`, which goes to `folder / run`."""
    command = "general" if phase == "gd" else "task"
    teacher, student = write_pair(folder, phase, huawei=more.get("recipe") == "huawei")
    data = write_records(folder, mindrecord=more.get("dataset_type") == "mindrecord")
    flags = {"load_teacher_ckpt_path": teacher, "output": folder / "run", "do_shuffle": False, "batch_size": BATCH}
    flags |= {"train_steps": STEPS, "learning_rate": RATE, "decay_steps": SCHEDULE, "warmup_steps": WARMUP}
    flags |= {"save_ckpt_step": 2, "export": "", "data_dir" if phase == "gd" else "train_data_dir": data}
    flags |= {"load_td1_ckpt_path" if phase == "td2" else "load_gd_ckpt_path": student}
    flags |= {"phase": STAGES[phase][0]} if phase != "gd" else {}
    flags |= {"do_eval": False} if phase == "td2" else {}
    return chosen(
        command,
        None,
        {name: value if isinstance(value, bool) else str(value) for name, value in (flags | more).items()},
    )
