"""`port distill` on the golden case: its trajectories and weights, its phases, what it refuses, what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from golden_distillation import GOLDEN, STEPS, arrays, checkpoint, options, write_records

from porting.backends import ascend
from porting.backends.system import this_machine
from porting.checkpoint.registry import read
from porting.convert.convert import convert
from porting.errors import FormatError, MismatchError, PortError, UsageError
from porting.logs.read import read_log
from porting.model.names import names_in
from porting.train.distill import distill_general, distill_task
from porting.train.distill_judge import evaluate_student
from porting.train.parallel import alone_in
from porting.train.state import read_state, states

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TRAJECTORY, WEIGHT = 2e-5, 3e-5  # the project's aims for distillation
PACKAGES = {"torch": "torch", "mindspore": "mindspore", "tensorflow": "tensorflow"}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("mindspore", "tensorflow")]


def run(phase, opts):
    """A run, and the lines that it told."""
    told = []
    done = distill_general(opts, told.append) if phase == "gd" else distill_task(opts, told.append)[-1]
    return done, told


def losses(folder):
    """By step; of a step that was made twice the last."""
    rows = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows}


def flags_of(made, **more):
    """The options that were given, as words of the command line, spelled as in ModelZoo's guide."""
    told = {name: made[name] for name in sorted(made["given"])} | more
    plain = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in told.items()}
    return [word for name, value in plain.items() for word in (f"--{name}", value)]


def student(path):
    found = read(path)
    return {name: np.asarray(found[name].read()) for name in found}


def as_hf(tensors):
    return {named.name: tensors[name] for name, named in names_in("tinybert", "modelzoo", "hf", tuple(tensors)).items()}


def changed(folder, role, **values):
    """A config beside a golden checkpoint, with other values."""
    path = folder / role / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("phase", ["gd", "td1", "td2"])
@pytest.mark.parametrize("backend", ["torch", *SLOW])
def test_the_golden_trajectories_and_weights(backend, phase, tmp_path, record_property):
    pytest.importorskip(PACKAGES[backend])
    done, told = run(phase, options(tmp_path, phase, backend=backend))
    found = np.array(list(losses(done.folder).values()))
    off = np.abs(found - arrays("trajectory")[f"{phase}/loss"]).max()
    record_property("trajectory", f"{off:.1e}")
    assert off <= TRAJECTORY
    wanted = as_hf(checkpoint(f"student_after_{phase}"))
    state = arrays(f"optimizer_after_{phase}")
    wanted |= {name: tensor for name, tensor in state.items() if name.startswith("fit_dense")}
    made = student(done.student)
    assert made.keys() == wanted.keys()
    far = max(float(np.abs(made[name] - wanted[name]).max()) for name in wanted)
    record_property("weights", f"{far:.1e}")
    assert far <= WEIGHT
    assert any(line.startswith("teacher: as it was, sha256:") for line in told)
    assert np.allclose(read_log(done.folder / "train.log").series["loss"].values, found, rtol=1e-7)
    assert [path.name for path in states(done.folder)] == [f"state-{STEPS:08d}.safetensors"]


@pytest.mark.parametrize("phase", ["gd", "td1", "td2"])
def test_the_pytorch_originals_trajectories_and_weights(phase, tmp_path):
    pytest.importorskip("torch")
    done, _ = run(phase, options(tmp_path, phase, recipe="huawei", decay_steps=10, warmup_steps=2))
    original = arrays("original_pytorch")
    off = np.abs(np.array(list(losses(done.folder).values())) - original[f"trajectory/{phase}_loss"]).max()
    assert off <= TRAJECTORY
    prefix = f"final_{phase}/"
    made = student(done.student)
    final = {name.removeprefix(prefix): value for name, value in original.items() if name.startswith(prefix)}
    assert final or phase != "gd"
    assert all(np.abs(made[name] - value).max() <= WEIGHT for name, value in final.items())


def test_overflows_skip_their_update_and_are_logged(tmp_path):
    pytest.importorskip("torch")
    scale = {"loss_scale_value": 1e38, "scale_factor": 4, "scale_window": 3}
    done, told = run("gd", options(tmp_path, "gd", **scale))
    rows = [json.loads(line) for line in (done.folder / "steps.jsonl").read_text().splitlines()]
    skipped = [row["step"] for row in rows if row["overflow"]]
    assert skipped
    assert done.overflows == len(skipped)
    for step in skipped:
        at = rows[step - 1]
        assert f"step {step}: gradients overflow at loss scale {at['loss_scale']:g}: no update" in told
        assert rows[step]["loss_scale"] == at["loss_scale"] / 4
        assert rows[step]["lr"] == at["lr"]
    log = read_log(done.folder / "train.log")
    assert log.series["overflow"].values.sum() == len(skipped)
    assert log.series["loss_scale"].values[0] == 1e38
    counters = read_state(states(done.folder)[-1]).mark.counters
    assert counters.updates == STEPS - len(skipped)


def test_both_phases_in_a_row_with_the_best_kept_and_exported(tmp_path):
    pytest.importorskip("torch")
    made = options(tmp_path, "td1", learning_rate=5e-3, export="ckpt", task_name="MNLI", train_steps=5)
    made |= {"phase": "both", "eval_data_dir": made["train_data_dir"], "eval_steps": 2, "do_eval": True}
    lines = []
    one, two = distill_task(made, lines.append)
    assert (one.folder, two.folder) == (tmp_path / "run/phase1", tmp_path / "run/phase2")
    assert f"student: begins as {one.student}" in lines
    judged = [json.loads(line) for line in (two.folder / "evaluations.jsonl").read_text().splitlines()]
    assert [row["step"] for row in judged] == [2, 4, 5]
    assert two.best == ("accuracy", max(row["metrics"]["accuracy"] for row in judged))
    log = read_log(two.folder / "train.log")
    assert log.series["best_accuracy"].values[-1] == pytest.approx(two.best[1], abs=1e-6)
    best, mine = read(two.folder / "best.safetensors"), student(two.student)
    assert all(np.array_equal(best[name].read(), tensor) for name, tensor in mine.items())
    ckpt = read(two.folder / "student.ckpt")
    assert as_hf({name: ckpt[name].read() for name in ckpt}).keys() == {
        n for n in mine if not n.startswith("fit_dense")
    }
    before = (two.folder / "steps.jsonl").read_bytes()
    assert distill_task(made, lines.append) == [one, two]
    assert (two.folder / "steps.jsonl").read_bytes() == before
    alone = made | {"load_td1_ckpt_path": two.folder}
    assert evaluate_student(alone, lines.append)["accuracy"] == two.best[1]


def test_a_teacher_of_any_format_and_dialect_teaches_the_same(tmp_path):
    pytest.importorskip("torch")
    made = options(tmp_path, "td2", train_steps=2)
    first = losses(run("td2", made)[0].folder)
    for dialect, source in (("hf", "model.safetensors"), ("google", "model.ckpt")):
        place = tmp_path / dialect
        place.mkdir()
        (place / "config.json").write_text((tmp_path / "teacher/config.json").read_text())
        convert(made["load_teacher_ckpt_path"], place / source, to=dialect, family="bert")
        other = made | {"load_teacher_ckpt_path": place / source, "output": tmp_path / f"run-{dialect}"}
        assert losses(run("td2", other)[0].folder) == first


def test_a_layer_map_and_a_student_of_the_teachers_layers(tmp_path):
    pytest.importorskip("torch")
    made = options(tmp_path, "gd", train_steps=1, layer_map="0,3")
    done, told = run("gd", made)
    assert "layers of the teacher that the student's learn from: 0, 3" in told
    assert abs(losses(done.folder)[1] - arrays("trajectory")["gd/loss"][0]) > 1e-2
    values = json.loads((tmp_path / "teacher/config.json").read_text()) | {"num_hidden_layers": 2}
    (tmp_path / "wide.json").write_text(json.dumps(values))
    wide = {"student": str(tmp_path / "wide.json"), "load_gd_ckpt_path": None, "init_layers": "1,3", "layer_map": ""}
    done, told = run("gd", made | wide | {"output": tmp_path / "wide", "warmup_steps": 1})  # whose first rate is 0
    assert "student: begins as the teacher's layers 1, 3" in told
    found, teacher = student(done.student), as_hf(checkpoint("teacher_pretrained"))
    for mine, theirs in ((0, 1), (1, 3)):
        name = "bert.encoder.layer.{}.attention.self.query.weight"
        assert np.array_equal(found[name.format(mine)], teacher[name.format(theirs)])
    words = "bert.embeddings.word_embeddings.weight"
    assert np.array_equal(found[words], teacher[words])


def test_a_student_of_a_published_size_is_drawn_by_the_seed(tmp_path):
    made = options(tmp_path, "gd", train_steps=1) | {"load_gd_ckpt_path": None, "layer_map": "0,1,2,3"}
    made |= {"student": "tinybert-4-312", "given": made["given"] - {"load_gd_ckpt_path"}}
    with pytest.raises(UsageError, match=r"teacher.num_attention_heads: wanted 12 as the student, got 4"):
        run("gd", made)
    changed(tmp_path, "teacher", num_attention_heads=12, hidden_size=24)
    with pytest.raises(MismatchError, match=r"bert\.embeddings\.word_embeddings\.weight: the model wants"):
        run("gd", made)


def cut(folder):
    path = folder / "train.tfrecord"
    path.write_bytes(path.read_bytes()[:-7])


def schema(folder, text):
    (folder / "schema.json").write_text(text)


def without_labels(folder):
    said = json.loads((folder / "schema.json").read_text())
    del said["columns"]["label_ids"]
    return json.dumps(said)


BROKEN = {
    "a truncated TFRecord": (cut, {}, FormatError, r"train\.tfrecord: record 39 at byte "),
    "a schema that lacks a column": (
        lambda folder: schema(folder, '{"columns": {"input_ids": {"type": "int64", "shape": [16]}}}'),
        {}, UsageError, "schema: wanted columns input_mask, segment_ids; it has input_ids",
    ),
    "a schema of longer sequences": (
        lambda folder: schema(folder, (folder / "schema.json").read_text().replace("16", "32")),
        {}, FormatError, "record 0 at byte 0: input_ids: wanted 32 values, as the schema says, got 16",
    ),
    "no schema": (lambda folder: (folder / "schema.json").unlink(), {}, UsageError, "no such schema: --schema-dir"),
    "labels that the teacher does not know": (
        lambda folder: write_records(folder, label_ids=7),
        {}, FormatError, "record 0 at byte 0: label_ids: wanted 0 to 2, got 7",
    ),
    "examples to evaluate on without labels": (
        lambda folder: schema(folder, without_labels(folder)), {"phase": "2"}, UsageError, "wanted columns label_ids",
    ),
    "a vocabulary that does not fit": (
        lambda folder: [changed(folder, role, vocab_size=50) for role in ("teacher", "student")],
        {}, FormatError, r"record 0 at byte 0: input_ids: wanted 0 to 49, got \d+",
    ),
    "other vocabularies": (
        lambda folder: changed(folder, "student", vocab_size=21128),
        {}, UsageError, "teacher.vocab_size: wanted 21128 as the student, got 97",
    ),
    "no config of the teacher": (
        lambda folder: (folder / "teacher/config.json").unlink(), {}, UsageError, "pass --teacher-config",
    ),
    "a teacher without a classifier": (
        lambda folder: (folder / "teacher/teacher.ckpt").write_bytes((GOLDEN / "teacher_pretrained.ckpt").read_bytes()),
        {}, UsageError, "has no classifier: a teacher is fine-tuned on the task first",
    ),
    "a task of other classes": (None, {"task_name": "SST-2"}, UsageError, "wanted 2 classes, the teacher's classifier"),
    "a regression": (None, {"task_name": "STS-B"}, UsageError, "is a regression, and classes are distilled"),
    "classes of sentences for tokens": (
        None, {"task_type": "ner"}, UsageError, r"label_ids: wanted shape \(40, 16\), got \(40,\)",
    ),
    "MindRecord by a TFRecord's name": (
        None, {"dataset_type": "mindrecord"}, UsageError, "is no MindRecord by its name; --dataset-type tfrecord reads",
    ),
    "a batch larger than the data": (None, {"batch_size": 41}, UsageError, "wanted 1 to the 40 examples, got 41"),
    "another format": (None, {"export": "pth"}, UsageError, "export pth: wanted some of"),
    "layers of another teacher": (None, {"layer_map": "3,4"}, UsageError, "layer_map: wanted 2 layers of the teach"),
    "a device of another kind": (None, {"backend": "torch:cpu", "device_target": "GPU"}, UsageError, "is a cpu"),
    "a metric of another task": (
        None, {"task_name": "MNLI", "assessment_method": "f1", "phase": "2"}, UsageError, "wanted one of accuracy",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_is_told_before_the_first_step(what, tmp_path):
    spoil, more, kind, message = BROKEN[what]
    made = options(tmp_path, "td1")
    data = made["train_data_dir"]
    made |= more | {"eval_data_dir": data, "do_eval": True}
    if made["phase"] == "2":
        made |= {"load_td1_ckpt_path": made["load_gd_ckpt_path"]}
    if spoil is not None:
        spoil(tmp_path)
    with pytest.raises(kind, match=message) as caught:
        run("td1", made)
    assert issubclass(kind, PortError)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run/steps.jsonl").exists()


def test_a_state_of_another_run_is_refused_and_stays(tmp_path):
    pytest.importorskip("torch")
    made = options(tmp_path, "gd")
    done, _ = run("gd", made)
    before = states(done.folder)[0].read_bytes()
    with pytest.raises(UsageError, match="is of another run: recipe: "):
        run("gd", made | {"learning_rate": 5e-4, "train_steps": 12})
    assert states(done.folder)[0].read_bytes() == before


@pytest.mark.parametrize(("phase", "kept"), [("gd", "run"), ("td1", "run"), ("both", "run"), ("both", "run/phase1")])
def test_two_runs_in_one_folder_are_refused(phase, kept, tmp_path, port):
    made = options(tmp_path, "td1" if phase == "both" else phase)
    more = {"phase": "both", "do_eval": False} if phase == "both" else {}
    with alone_in(tmp_path / kept):
        ran = port("distill", "general" if phase == "gd" else "task", *flags_of(made, **more))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"port: error: {tmp_path / kept}: another run trains there now\n"
    assert {path.name for path in (tmp_path / kept).iterdir()} <= {"run.lock", "phase1"}


@pytest.mark.usefixtures("one_thread")
def test_a_run_that_was_killed_goes_on_to_the_same_trajectory(tmp_path):
    made = options(tmp_path, "gd", decay_steps=100_000, max_ckpt_num=2, do_shuffle=True, seed=5)
    changed(tmp_path, "student", hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    command = [
        sys.executable,
        "-c",
        "from porting.cli import main; main()",
        "distill",
        "general",
        *flags_of(made, train_steps=90_000),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        end = time.monotonic() + 60
        while not states(tmp_path / "run") and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        output = process.stdout.read().decode()
    assert process.returncode == -signal.SIGKILL, output
    reached = read_state(states(tmp_path / "run")[-1]).mark.counters.steps
    rest = {"train_steps": reached + 6}
    resumed, _ = run("gd", made | rest)
    whole, _ = run("gd", made | rest | {"output": tmp_path / "whole"})
    assert reached < 90_000
    assert losses(resumed.folder) == losses(whole.folder)
    assert resumed.student.read_bytes() == whole.student.read_bytes()


def test_the_metric_and_the_examples_of_phase_2_are_checked_before_phase_1(tmp_path):
    made = options(tmp_path, "td1") | {"phase": "both", "do_eval": True, "eval_data_dir": tmp_path / "nowhere"}
    with pytest.raises(UsageError, match="nowhere: no TFRecord file there"):
        run("td1", made)
    with pytest.raises(UsageError, match=r"--eval-data-dir: wanted, as a flag or in the file of --config"):
        run("td1", made | {"eval_data_dir": None})


def test_examples_without_labels_teach_the_same(tmp_path):
    pytest.importorskip("torch")
    made = options(tmp_path, "td2", train_steps=2)
    first = losses(run("td2", made)[0].folder)
    schema(tmp_path, without_labels(tmp_path))
    assert losses(run("td2", made | {"output": tmp_path / "again"})[0].folder) == first


def test_mindrecords_teach_the_same(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("mindspore")
    done, told = run("gd", options(tmp_path, "gd", dataset_type="mindrecord", schema_dir=tmp_path, train_steps=2))
    assert (
        np.abs(np.array(list(losses(done.folder).values())) - arrays("trajectory")["gd/loss"][:2]).max() <= TRAJECTORY
    )
    assert "schema_dir: means nothing to MindRecord, whose files say what they hold" in told


def test_an_emulated_npu_is_told(tmp_path):
    pytest.importorskip("torch")
    if ascend.signs(this_machine()):
        pytest.skip("here are signs of an Ascend, and then nothing is emulated")
    done, told = run("gd", options(tmp_path, "gd", device_target="Ascend", train_steps=2))
    assert any("EMULATED: no sign of an Ascend" in line for line in told)
    off = np.abs(np.array(list(losses(done.folder).values())) - arrays("trajectory")["gd/loss"][:2])
    assert 1e-5 < off.max() < 1e-1  # float16 products


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    pytest.importorskip("torch")
    made = options(tmp_path, "gd", batch_size=2)
    words = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "-m",
        "porting",
        "distill",
        "general",
    ]
    done = subprocess.run(
        [*words, *flags_of(made)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.array(list(losses(tmp_path / "run").values()))
    assert np.abs(found - arrays("trajectory")["gd/loss"]).max() <= TRAJECTORY
    assert done.stdout.count("teacher: as it was") == 1


def test_tokens_are_distilled_and_evaluated(tmp_path):
    pytest.importorskip("torch")
    made = options(tmp_path, "td1", train_steps=4, export="ckpt", task_type="ner")
    data = write_records(tmp_path, label_ids=np.arange(40 * 16).reshape(40, 16) % 3)
    made |= {"phase": "both", "do_eval": True, "eval_data_dir": data}
    lines = []
    _, two = distill_task(made, lines.append)
    found = student(two.student)
    assert two.best is not None
    assert json.loads((two.folder / "run.json").read_text())["identity"]["task"] == "task_distill_2_tokens"
    assert losses(two.folder)[1] != pytest.approx(arrays("trajectory")["td2/loss"][0], abs=1e-4)
    alone = made | {"load_td1_ckpt_path": two.folder / "student.ckpt"}
    assert evaluate_student(alone, lines.append)["accuracy"] == two.best[1]
    assert "fit_dense.weight" in found
