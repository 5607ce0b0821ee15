"""The commands of the page on distillation, as they stand there, with a small teacher on a CPU."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import porting
from porting.backends.found import Resolved
from porting.backends.names import BackendName
from porting.checkpoint.registry import read
from porting.model.registry import model_named
from porting.parity.subject import subject
from porting.testing.tiny import tiny

PAGE = (Path(__file__).parents[2] / "docs" / "distill.md").read_text()
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", *(f"w{number}" for number in range(43))]


def write_teacher(folder, task):
    """A BERT of twelve small layers, as transformers saves it."""
    from porting.train.start import open_trainee

    sizes = {"hidden_size": 24, "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 128}
    config = tiny(model_named("bert"), **sizes)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    one = replace(subject("bert", task=task), config=config.to_dict())
    trainee = open_trainee(one, Resolved(BackendName.parse("torch:cpu")))
    porting.write(folder / "model.safetensors", trainee.session.weights(), format="safetensors")


def write_text(place):
    """A vocabulary, text to learn from, and sentences with labels."""
    draw = random.Random(0)
    (place / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    lines = [" ".join(draw.choices(WORDS[7:], k=12)) for _ in range(12)]
    (place / "wiki.txt").write_text("\n".join(lines[:6]) + "\n\n" + "\n".join(lines[6:]) + "\n")
    (place / "wiki").mkdir()
    (place / "GLUE" / "SST-2").mkdir(parents=True)
    for split, count in (("train", 32), ("dev", 12)):
        rows = [f"{WORDS[5 + n % 2]} {' '.join(draw.choices(WORDS[7:], k=5))}\t{n % 2}" for n in range(count)]
        (place / "GLUE" / "SST-2" / f"{split}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")


@pytest.mark.slow
def test_the_commands_of_the_page_run(tmp_path):
    pytest.importorskip("torch")
    write_text(tmp_path)
    write_teacher(tmp_path / "bert-base-uncased", "encoder")
    write_teacher(tmp_path / "sst2-teacher", "classification")
    block = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)[0]
    block = block.replace("--backend mindspore --device_target GPU", "--backend torch")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        ["bash", "-euc", block], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = {phase: json.loads((tmp_path / "td" / phase / "run.json").read_text()) for phase in ("phase1", "phase2")}
    assert said["phase2"]["result"]["steps"] == 3
    assert said["phase1"]["result"]["teacher"] == said["phase2"]["result"]["teacher"]
    evaluated = f"accuracy {said['phase2']['result']['best']['value']:.6f}"
    assert ran.stdout.splitlines()[-1] == evaluated
    words = read(tmp_path / "gd" / "student.safetensors")["bert.embeddings.word_embeddings.weight"]
    assert words.shape == (len(WORDS), 384)
