# ruff: noqa: RUF001 - Chinese sentences have Chinese marks
"""Pre-training data: the very instances of BERT's script, and the same bytes from any number of workers."""

from __future__ import annotations

import bz2
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import GOLDEN, VOCAB, account, golden, same, stacked

from porting.data.documents import corpus_files, documents, sentences
from porting.data.instances import Instance, Plan, Special, document_instances
from porting.data.pretraining import BLOCK, NEIGHBOURS, blocks
from porting.data.vocabulary import read_vocabulary
from porting.errors import FormatError, UsageError

Port = Callable[..., Any]
CASES: list[dict[str, Any]] = json.loads((GOLDEN / "pretraining.json").read_text())
TEXTS = (GOLDEN / "text.txt", GOLDEN / "more.txt")


def options(case: dict[str, Any], folder: Path) -> list[object]:
    words: list[object] = ["--vocab", VOCAB]
    names = {"max_predictions": "max-predictions", "seed": "seed", "dupe_factor": "dupe-factor"}
    names |= {
        "max_seq_length": "max-seq-length",
        "masked_lm_prob": "masked-lm-prob",
        "short_seq_prob": "short-seq-prob",
    }
    for key, name in names.items():
        words += [f"--{name}", case[key]]
    for number in range(case["outputs"]):
        words += ["-o", folder / f"{number}.tfrecord"]
    return [*words, "--whole-word"] if case["whole_word"] else words


@pytest.mark.parametrize("number", range(len(CASES)))
def test_compat_gives_the_instances_of_the_original(number: int, port: Port, tmp_path: Path) -> None:
    case = CASES[number]
    ran = port("data", "pretraining", *TEXTS, *options(case, tmp_path), "--compat")
    assert (ran.code, ran.err) == (0, "")
    for output in range(case["outputs"]):
        same(stacked(tmp_path / f"{output}.tfrecord"), golden(f"pretraining/{number}/{output}"))
    assert port("data", "inspect", tmp_path / "0.tfrecord", "--schema", tmp_path / "schema.json").code == 0


def prose(path: Path, count: int, seed: int = 0) -> Path:
    """Documents of the vocabulary's words, large enough for several blocks."""
    words = [line for line in VOCAB.read_text().split("\n") if line.isalpha()]
    choose = random.Random(seed)
    lines = []
    for _ in range(count):
        lines += [" ".join(choose.choices(words, k=choose.randint(3, 25))) for _ in range(choose.randint(1, 30))] + [""]
    path.write_text("\n".join(lines))
    return path


def test_the_bytes_do_not_depend_on_workers(port: Port, tmp_path: Path) -> None:
    source = prose(tmp_path / "text.txt", 2500)
    assert source.stat().st_size > 2 * BLOCK
    made = []
    for workers in (1, 2, 3):
        out = [tmp_path / f"{workers}-{k}.tfrecord" for k in (0, 1)]
        words = ["--vocab", VOCAB, "--dupe-factor", 1, "--workers", workers, "-o", out[0], "-o", out[1]]
        ran = port("data", "pretraining", source, *words)
        assert (ran.code, ran.err) == (0, "")
        made.append([path.read_bytes() for path in out])
    assert made[0] == made[1] == made[2]
    told = account(tmp_path / "1-0.tfrecord")
    records = [len(stacked(tmp_path / f"1-{k}.tfrecord")["input_ids"]) for k in (0, 1)]
    assert sum(records) == told["instances"]
    assert abs(records[0] - records[1]) <= 1
    assert told["documents"] == 2500


def test_another_seed_gives_other_masks_of_the_same_text(port: Port, tmp_path: Path) -> None:
    made = []
    for seed in (1, 1, 2):
        out = tmp_path / "o.tfrecord"
        words = ["--vocab", VOCAB, "--seed", seed, "--dupe-factor", 1, "-o", out, "--overwrite"]
        assert port("data", "pretraining", *TEXTS, *words).code == 0
        made.append(stacked(out)["input_ids"])
    np.testing.assert_array_equal(made[0], made[1])
    assert made[0].shape != made[2].shape or (made[0] != made[2]).any()


def instances(plan: Plan, seed: int = 0) -> tuple[list[Instance], Special, list[list[list[int]]]]:
    special = Special(read_vocabulary(VOCAB))
    choose = random.Random(seed)
    ids = special.every[60:]
    texts = [[choose.choices(ids, k=choose.randint(1, 40)) for _ in range(choose.randint(1, 12))] for _ in range(30)]
    generator = random.Random(seed)
    found = [i for index in range(30) for i in document_instances(texts, index, plan, special, generator)]
    return found, special, texts


@pytest.mark.parametrize("whole_word", [False, True])
@pytest.mark.parametrize("length", [5, 16, 64])
def test_every_instance_is_well_formed(length: int, whole_word: bool) -> None:
    plan = Plan(max_seq_length=length, max_predictions=6, whole_word=whole_word)
    found, special, _ = instances(plan)
    assert len(found) > 60
    for instance in found:
        ids, places = instance.ids, instance.positions
        assert len(ids) <= length
        assert (ids[0], ids[instance.first - 1], ids[-1]) == (special.cls, special.sep, special.sep)
        assert places == sorted(set(places))
        assert len(places) <= min(6, max(1, round(len(ids) * 0.15)))
        assert not {0, instance.first - 1, len(ids) - 1} & set(places)
        if not whole_word:
            continue
        whole = list(ids)
        for place, label in zip(places, instance.labels, strict=True):
            whole[place] = label
        inside = [p for p in range(1, len(ids)) if whole[p] in special.inner and whole[p - 1] != special.sep and p > 1]
        assert all((p in places) == (p - 1 in places) for p in inside)


def test_the_shares_are_those_of_bert() -> None:
    """8 of 10 masks, one the token itself, one any token; half of the second texts random. Binomial bounds, 5 sigma."""
    plan = Plan(max_seq_length=128, short_seq_prob=0.0)
    found = [instance for seed in range(20) for instance in instances(plan, seed)[0]]
    special = Special(read_vocabulary(VOCAB))
    masks = [(i.ids[p], label) for i in found for p, label in zip(i.positions, i.labels, strict=True)]
    shares = {"mask": 0.8, "same": 0.1 + 0.1 / len(special.every)}
    counts = {"mask": sum(a == special.mask for a, _ in masks), "same": sum(a == b for a, b in masks)}
    for name, share in shares.items():
        assert abs(counts[name] - share * len(masks)) < 5 * (len(masks) * share * (1 - share)) ** 0.5
    assert 0.4 < sum(i.random_next for i in found) / len(found) < 0.75  # single sentences always draw


WIKI = """<doc id="1" url="https://x/?curid=1" title="Anarchism">
Anarchism

The word is old. Was it? Mr. A. Smith says so. Version 2.0 is out.
Anarchism

</doc>
<doc id="2" url="u" title="Empty">
Empty

</doc>
<doc id="3" url="u" title="中">
模型。文字！字
</doc>
"""
ARTICLES = [
    ["The word is old.", "Was it?", "Mr. A. Smith says so.", "Version 2.0 is out.", "Anarchism"],
    ["模型。", "文字！", "字"],
]


def test_wikiextractor_in_all_its_forms(tmp_path: Path) -> None:
    folder = tmp_path / "extracted" / "AA"
    folder.mkdir(parents=True)
    (folder / "wiki_00").write_text(WIKI)
    packed = folder / "wiki_01.bz2"
    packed.write_bytes(bz2.compress(WIKI.encode()))
    texts = [
        "Anarchism\n\nThe word is old. Was it? Mr. A. Smith says so. Version 2.0 is out.\nAnarchism",
        "",
        "模型。文字！字",
    ]
    titles = ["Anarchism", "Empty", "中"]
    lines = [json.dumps({"id": "1", "url": "u", "title": t, "text": x}) for t, x in zip(titles, texts, strict=True)]
    (folder / "wiki_02").write_text("\n".join(lines) + "\n")
    (folder / ".hidden").write_text("secret")
    files = corpus_files([tmp_path / "extracted"])
    assert [path.name for path in files] == ["wiki_00", "wiki_01.bz2", "wiki_02"]
    read = list(documents(files))
    assert [document.sentences for document in read] == ARTICLES * 3
    upto = [document.upto for document in read]
    assert upto == sorted(upto)
    assert upto[-1] <= sum(path.stat().st_size for path in files)


def test_plain_text_goes_on_over_files(tmp_path: Path) -> None:
    texts = ["a\n\nb", "c\n", "\n \nd\n", ""]
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / str(number))
        files[-1].write_text(text)
    assert [document.sentences for document in documents(files)] == [["a"], ["b", "c"], ["d"]]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("One. Two! Three? four.", ["One.", "Two!", "Three? four."]),
        ('He said "No." Then (so it goes) he went.', ['He said "No."', "Then (so it goes) he went."]),
        ("J. R. R. Tolkien vs. Dr. No", ["J. R. R. Tolkien vs. Dr. No"]),
        ("3.14 is. 22 too.", ["3.14 is.", "22 too."]),
        ("他说：“好。”再见。走", ["他说：“好。”", "再见。", "走"]),
        ("", []),
    ],
)
def test_sentences(text: str, cut: list[str]) -> None:
    assert sentences(text) == cut


def test_blocks_depend_on_the_text_alone(tmp_path: Path) -> None:
    source = prose(tmp_path / "text.txt", 4000)
    found = list(blocks(documents([source])))
    assert len(found) > 2
    assert [block.first for block in found] == [sum(len(b.documents) for b in found[:k]) for k in range(len(found))]
    assert sum(len(block.documents) for block in found) == 4000
    assert min(len(block.documents) for block in found) >= NEIGHBOURS
    # a few documents more than fill a block join it
    few = tmp_path / "few.txt"
    few.write_text("\n\n".join([*(["a" * (BLOCK // 16)] * 16), "b", "c"]))
    (block,) = blocks(documents([few]))
    assert len(block.documents) == 18


BROKEN = {
    "not utf-8": (b"good\nb\xffd\n", "line 2, byte 1: wanted UTF-8 text"),
    "no text": (b" \n\n", "no text in 1 files"),
    "no tokens": ("\u00ad\n".encode(), "no text in 1 files"),
    "cut off": (b'<doc id="1" title="t">\nText\n', "end: wanted </doc>, got the end of the file: it is cut off"),
    "two begun": (b'<doc id="1">\nText\n<doc id="2">\n', "a <doc> begins before the last one ended"),
    "outside": (b'<doc id="1">\nA.\n</doc>\nlost words\n', "lost words: wanted <doc"),
    "bad json": (b'{"text": "a"}\n{"text": \n', 'line 2: wanted a JSON object with a "text"'),
    "no string": (b'{"text": 5}\n', 'line 1: wanted a JSON object with a "text"'),
    "half a bz2": (bz2.compress(b"Some words here.\n" * 5000)[:60], "cannot be read: Compressed file ended"),
    "a broken bz2": (b"BZh9" + b"x" * 100, "cannot be read: Invalid data stream"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("compat", [False, True])
def test_broken_text_is_one_line(case: str, compat: bool, port: Port, tmp_path: Path) -> None:
    data, why = BROKEN[case]
    (tmp_path / "text").write_bytes(data)
    out = ["-o", tmp_path / "out.tfrecord", "--vocab", VOCAB, *(["--compat"] if compat else [])]
    ran = port("data", "pretraining", tmp_path / "text", *out)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert why in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


WRONG = {
    "--max-seq-length": ("4", "wanted 5 or more"),
    "--dupe-factor": ("0", "wanted 1 or more"),
    "--max-predictions": ("0", "wanted 1 or more"),
    "--masked-lm-prob": ("1.5", "wanted a share"),
    "--short-seq-prob": ("-1", "wanted a share"),
}


@pytest.mark.parametrize("option", WRONG)
def test_wrong_options(option: str, port: Port, tmp_path: Path) -> None:
    value, why = WRONG[option]
    ran = port("data", "pretraining", *TEXTS, "-o", tmp_path / "o.tfrecord", "--vocab", VOCAB, option, value)
    assert (ran.code, ran.out) == (2, "")
    assert f"{option}: {why}" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_what_is_asked_wrongly(port: Port, tmp_path: Path) -> None:
    out = tmp_path / "o.tfrecord"
    words = ["--vocab", VOCAB, "-o", out]
    assert "there is no such file" in port("data", "pretraining", tmp_path / "none", *words).err
    assert "wanted different names in one folder" in port("data", "pretraining", *TEXTS, *words, "-o", out).err
    (tmp_path / "folder").mkdir()
    assert "wanted text, got no file" in port("data", "pretraining", tmp_path / "folder", *words).err
    with pytest.raises(UsageError):
        corpus_files([])
    with pytest.raises(FormatError, match="cannot be read"):
        list(documents([tmp_path]))
