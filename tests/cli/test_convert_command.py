"""`port convert` and `port verify` as a user meets them: words, exit codes, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made import as_hf, as_modelzoo, configure, differences, google_bert, load, save

Port = Callable[..., Any]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Google's BERT as a TensorFlow bundle."""
    return save(tmp_path / "bert.ckpt", google_bert(), "tf-bundle")


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_main_job(source: Path, port: Port) -> None:
    ran = port("convert", "tf2ms", source)
    assert (ran.code, ran.err) == (0, "")
    first, second = ran.out.splitlines()
    assert first == (
        f"bert: google -> modelzoo  46 tensors, 1.67 k parameters, 6.69 kB, 14 transposed; verified: "
        f"{source.parent}/bert.modelzoo.ckpt"
    )
    assert second == "  not in the source: classifier, squad"
    assert differences(load(source.parent / "bert.modelzoo.ckpt"), as_modelzoo(google_bert())) == []
    ran = port("verify", f"{source.parent}/bert.modelzoo.ckpt.port.json")
    assert (ran.code, ran.out) == (0, "holds: 92 tensors compared, 0 without a hash\n")


@pytest.mark.parametrize("direction", ["tf2ms", "tf2pt", "ms2tf", "ms2pt", "pt2tf", "pt2ms"])
def test_directions(direction: str, tmp_path: Path, port: Port) -> None:
    kinds = {"tf": ("tf-bundle", dict), "ms": ("mindspore-ckpt", as_modelzoo), "pt": ("torch", as_hf)}
    here, there = direction.split("2")
    kind, rule = kinds[here]
    save(tmp_path / "in.bin", rule(google_bert()), kind)
    assert port("convert", direction, tmp_path / "in.bin", "-o", tmp_path / "out").code == 0
    assert differences(load(tmp_path / "out"), kinds[there][1](google_bert())) == []


def test_any_direction(source: Path, port: Port) -> None:
    assert port("convert", "any", source, "--to", "mindnlp", "-o", source.parent / "out").code == 0
    assert "bert.embeddings.LayerNorm.gamma" in load(source.parent / "out")
    ran = port("convert", "tf2ms", source, "--to", "mindnlp", "-o", source.parent / "named")
    assert ran.code == 0
    assert set(load(source.parent / "named")) == set(load(source.parent / "out"))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["tf2tf"], "direction tf2tf: wanted one of tf2pt"),
        (["tensorflow"], "direction tensorflow"),
        (["any"], "any: wanted --to DIALECT"),
        (["any", "--to", "keras"], "bert has no dialect for keras; there are google (tensorflow)"),
        (["ms2tf"], "no family fits these names"),
        (["tf2ms", "--layers", "5-3"], "--layers 5-3"),
        (["tf2ms", "--layers", "4"], "--layers 4: the checkpoint has layers 0-1"),
        (["tf2ms", "--shard-size", "big"], "--shard-size big: wanted a size"),
        (["tf2ms", "--shard-size", "0"], "--shard-size 0"),
        (["tf2ms", "--set", "task"], "--set task: wanted KEY=VALUE"),
        (["tf2ms", "--set", "task=x"], "field task: not known"),
        (["tf2ms", "--dtype", "half"], "--dtype half: wanted one of"),
        (["tf2ms", "--hash", "md5"], "md5"),
        (["tf2ms", "--format", "pickle"], "format pickle: not known"),
        (["tf2ms", "--like", "nothing.ckpt"], "nothing.ckpt: no such file"),
        (["tf2ms", "--config", "nothing.json"], "nothing.json: cannot be read"),
        (["tf2ms", "--require", "squad"], "group squad: required"),
        (["tf2ms", "-o", "nowhere/out"], "there is no folder nowhere"),
        (["tf2pt", "--format", "safetensors", "--with-optimizer"], "--with-optimizer"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_place(words: list[str], why: str, source: Path, port: Port) -> None:
    before = listing(source.parent)
    ran = port("convert", words[0], source, *words[1:])
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("port: error: ")
    assert why in ran.err
    assert "Traceback" not in ran.err
    assert listing(source.parent) == before


def test_usage_errors_exit_with_two(port: Port, tmp_path: Path) -> None:
    assert port("convert").code == 2
    assert port("convert", "tf2ms", tmp_path / "x", "--nope").code == 2
    assert port("nope").code == 2
    ran = port("convert", "tf2ms", tmp_path / "x")
    assert (ran.code, ran.err) == (2, f"port: error: {tmp_path}/x: no such file, folder or TensorFlow prefix\n")


def test_mismatches_are_listed_below_their_title(source: Path, port: Port) -> None:
    configure(source.parent, vocab_size=21128, num_hidden_layers=3)
    ran = port("convert", "tf2ms", source)
    title, *lines = ran.err.splitlines()
    assert title == f"port: error: {source}: bert google does not convert to modelzoo"
    assert lines[:2] == [
        "  layer: bert_config.json says 3, the checkpoint has 2",
        "  vocab: bert_config.json says 21128, the checkpoint has 30 (bert/embeddings/word_embeddings (30, 8))",
    ]
    assert len(lines) == 18
    assert "  bert/encoder/layer_2/output/dense/bias  missing" in lines


def test_the_output_is_the_source(tmp_path: Path, port: Port) -> None:
    source = save(tmp_path / "a.npz", google_bert(), "npz")
    before = source.read_bytes()
    ran = port("convert", "tf2pt", source, "-o", source, "--format", "npz", "--overwrite")
    assert (ran.code, ran.err) == (2, f"port: error: {source}: is the source itself\n")
    assert source.read_bytes() == before


def test_existing_outputs(source: Path, port: Port) -> None:
    out = source.parent / "out.ckpt"
    out.write_text("old")
    ran = port("convert", "tf2ms", source, "-o", out)
    assert (ran.code, ran.err) == (2, f"port: error: {out}: exists already; --overwrite replaces it\n")
    assert out.read_text() == "old"
    assert port("convert", "tf2ms", source, "-o", out, "--overwrite").code == 0
    assert differences(load(out), as_modelzoo(google_bert())) == []


def test_dry_run_shows_the_ledger_and_writes_nothing(source: Path, port: Port) -> None:
    before = listing(source.parent)
    ran = port("convert", "tf2ms", source, "--dry-run")
    assert ran.code == 0
    assert listing(source.parent) == before
    lines = ran.out.splitlines()
    assert any(
        "bert/encoder/layer_{0-1}/output/dense/kernel" in line
        and "transpose" in line
        and "bert.bert.bert_encoder.layers.{0-1}.output.dense.weight" in line
        and line.endswith("float32 (8, 12)")
        for line in lines
    )
    assert "would write" in lines[-2]
    assert len(lines) < 40, "layers are collapsed"
    data = json.loads(port("convert", "tf2ms", source, "--dry-run", "--json").out)
    assert data["target"]["content"] is None
    assert listing(source.parent) == before


def test_json_is_the_ledger(source: Path, port: Port) -> None:
    ran = port("convert", "tf2ms", source, "--json")
    data = json.loads(ran.out)
    assert data == json.loads((source.parent / "bert.modelzoo.ckpt.port.json").read_text())
    assert (data["family"], data["source"]["dialect"], data["target"]["dialect"]) == ("bert", "google", "modelzoo")
    assert data["absent_groups"] == ["classifier", "squad"]
    result = json.loads(port("verify", source.parent / "bert.modelzoo.ckpt.port.json", "--json").out)
    assert result["holds"] is True
    assert result["problems"] == []


def test_quiet_is_silent(source: Path, port: Port) -> None:
    ran = port("convert", "tf2ms", source, "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    ledger = source.parent / "bert.modelzoo.ckpt.port.json"
    assert port("verify", ledger, "-q").out == ""
    ran = port("convert", "tf2ms", source, "--quiet")
    assert ran.code == 2
    assert "exists already" in ran.err, "errors are shown all the same"


def test_options_reach_the_conversion(source: Path, port: Port) -> None:
    folder = source.parent
    like = save(folder / "like.npz", as_hf(google_bert(layers=1)), "npz")
    ran = port(
        "convert", "tf2pt", source, "-o", folder / "out.npz", "--layers", "1", "--like", like, "--dtype", "float16"
    )
    assert ran.code == 0, ran.err
    assert list(load(folder / "out.npz")) == list(load(like))
    assert {str(value.dtype) for value in load(folder / "out.npz").values()} == {"float16"}
    assert "cast float32 -> float16" in ran.out
    ran = port(
        "convert", "tf2pt", source, "-o", folder / "p.npz", "--prefix", "net.bert.", "--no-verify", "--hash", "sha256"
    )
    assert "written, not read back" in ran.out
    assert "net.bert.embeddings.word_embeddings.weight" in load(folder / "p.npz")
    assert '"sha256:' in (folder / "p.npz.port.json").read_text()


def test_patterns_of_names(tmp_path: Path, port: Port) -> None:
    arrays = google_bert() | {"extra/a": google_bert()["bert/pooler/dense/bias"]}
    del arrays["bert/pooler/dense/bias"]
    source = save(tmp_path / "a.npz", arrays, "npz")
    assert port("convert", "tf2ms", source).code == 2
    ran = port("convert", "tf2ms", source, "--allow-missing", "bert/pooler/*", "--allow-unexpected", "extra/*")
    assert ran.code == 0
    assert "  missing, as allowed: bert/pooler/dense/bias" in ran.out
    assert "  left out, as allowed: extra/a" in ran.out


def test_verify_says_what_is_not_as_it_was(source: Path, port: Port) -> None:
    port("convert", "tf2pt", source, "-o", source.parent / "out.safetensors")
    ledger = source.parent / "out.safetensors.port.json"
    data = bytearray((source.parent / "out.safetensors").read_bytes())
    data[-1] ^= 1
    (source.parent / "out.safetensors").write_bytes(data)
    ran = port("verify", ledger)
    assert ran.code == 1
    assert "its bytes are not those of the conversion" in ran.out
    assert ran.out.splitlines()[-1].startswith("does not hold: ")
    (source.parent / "out.safetensors").unlink()
    ran = port("verify", ledger)
    assert (ran.code, ran.out) == (2, "")
    assert "no such file" in ran.err
    ran = port("verify", source.parent / "none.port.json")
    assert ran.code == 2
    assert "cannot be read" in ran.err


def piped(*words: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, its output in pipes."""
    return subprocess.run(
        [sys.executable, "-m", "porting.cli", *map(str, words)],
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_in_a_pipe_there_are_no_escapes_and_no_progress(source: Path) -> None:
    for words, code in (
        (["convert", "tf2ms", source], 0),
        (["convert", "tf2ms", source], 2),
        (["convert", "--help"], 0),
    ):
        ran = piped(*words, TERM="xterm-256color", COLUMNS="80")
        assert ran.returncode == code
        assert b"\033" not in ran.stdout + ran.stderr
        assert b"\r" not in ran.stdout + ran.stderr
        assert (ran.stderr == b"") is (code == 0)


def test_a_reader_that_goes_away_is_no_traceback(source: Path) -> None:
    code = f"{sys.executable} -m porting.cli convert tf2ms {source} --dry-run | head -c 10"
    ran = subprocess.run(["bash", "-c", code], capture_output=True, check=False)
    assert len(ran.stdout) == 10
    assert b"Traceback" not in ran.stderr
    assert b"Exception" not in ran.stderr


def test_a_terminal_that_knows_no_unicode(tmp_path: Path) -> None:
    source = save(tmp_path / "größe.npz", google_bert(), "npz")
    ran = piped("convert", "tf2ms", source, PYTHONUTF8="0", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert ran.returncode == 0, ran.stderr
    assert b"Traceback" not in ran.stderr
