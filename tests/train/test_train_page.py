"""The commands of the page on fine-tuning, as they stand there, on small models and data."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import porting
from porting.cli_train import commands
from porting.model.registry import model_named
from porting.parity.subject import subject
from porting.testing.tiny import tiny
from porting.train.finetune_recipe import ORIGINALS

PAGE = (Path(__file__).parents[2] / "docs" / "train.md").read_text()
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", *(f"w{number}" for number in range(43))]
FEWER = {
    "tiny mini small medium base": "tiny mini",
    "2 4 8 16 32 64": "8 16",
    "--max-seq-length 128": "--max-seq-length 16",
    "--task tnews": "--task cola",
}


def test_the_page_has_every_recipe_with_its_defaults():
    rows = {line.split("`")[1]: line.split("|") for line in PAGE.splitlines() if line.startswith("| `")}
    for name, original in ORIGINALS.items():
        share = f"{original.warmup:.0%}".replace("%", " %") if original.warmup else "0"
        peak = f"{original.learning_rate:.0e}".replace("e-0", "e-")
        assert rows[name][3].strip() == f"{peak}, {share}, {original.batch_size}, {original.epochs}", name


def test_every_flag_of_the_page_is_one():
    shown = CliRunner().invoke(commands, ["--help"], terminal_width=200).output
    names = set(re.findall(r"--[a-z][a-z-]+", shown))
    text = re.sub(r"port (data|bench)(.|\\\n)*?\n", "", PAGE)
    said = set(re.findall(r"--[a-z][a-z-]+", text))
    assert said - names == set()


def make(place):
    """Checkpoints, configs and data under the names that the page has."""
    spec = model_named("bert")
    one = subject("bert", task="encoder")
    for number, name in enumerate(("bert", "bert-tiny", "bert-mini", "bert-large", "roberta-3-large-ext")):
        folder = place / name
        folder.mkdir()
        config = tiny(spec, num_hidden_layers=1 + number % 2)
        (folder / "config.json").write_text(json.dumps(config.to_dict()))
        write_checkpoint(folder, spec, config, one)
    (place / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    draw = random.Random(0)
    (place / "GLUE" / "CoLA").mkdir(parents=True)
    for split, count in (("train", 64), ("dev", 16)):
        rows = [f"s\t{n % 2}\t\t{WORDS[5 + n % 2]} {' '.join(draw.choices(WORDS[7:], k=5))}" for n in range(count)]
        (place / "GLUE" / "CoLA" / f"{split}.tsv").write_text("\n".join(rows) + "\n")


def write_checkpoint(folder, spec, config, one):
    """The encoder's weights for TensorFlow and for PyTorch."""
    from dataclasses import replace

    from porting.backends.found import Resolved
    from porting.backends.names import BackendName
    from porting.train.start import open_trainee

    trainee = open_trainee(replace(one, config=config.to_dict()), Resolved(BackendName.parse("torch:cpu")))
    porting.write(folder / "model.safetensors", trainee.session.weights(), format="safetensors")
    porting.convert(folder / "model.safetensors", folder / "bert_model.ckpt", to="google", config="none")


@pytest.mark.slow
@pytest.mark.torch
def test_the_commands_of_the_page_run(tmp_path):
    pytest.importorskip("torch")
    make(tmp_path)
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    bench = next(block for block in blocks if block.startswith("port bench"))
    tools = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    shown = ""
    for block in blocks:
        if block is bench:  # published sizes with a vocabulary of their own: tests of the matrix run that
            continue
        text = block
        for long, short in FEWER.items():
            text = text.replace(long, short)
        ran = subprocess.run(
            ["bash", "-euc", text], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        shown += ran.stdout
    table = [line.split()[0] for line in shown.splitlines() if re.match(r"(tiny|mini)-\d+ ", line)]
    assert table == ["mini-16", "mini-8", "tiny-16", "tiny-8"]
    compared = [
        json.loads((tmp_path / "compared" / name / "result.json").read_text())
        for name in ("bert-large", "roberta-3-large-ext")
    ]
    assert all(one["metric"] == "matthews" and one["steps"] == 12 for one in compared)
    assert {one["recipe"] for one in compared} == {"bert_finetune"}
