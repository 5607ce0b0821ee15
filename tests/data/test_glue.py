"""GLUE's files to records: the features of BERT's run_classifier; nothing is lost without a word."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import FEATURES, GOLDEN, VOCAB, account, golden, rows, same, stacked

from porting.data.tasks import TASKS
from porting.errors import UsageError

Port = Callable[..., Any]
HEADER = ["index", "sentence1", "sentence2", "label"]


@pytest.mark.parametrize(
    ("task", "file"),
    [(t, f) for t in ("cola", "mrpc") for f in ("train", "dev", "test")]
    + [("mnli", f) for f in ("train", "dev_matched", "test_matched")],
)
def test_the_features_are_those_of_run_classifier(task: str, file: str, port: Port, tmp_path: Path) -> None:
    """The originals' eight padding examples follow 24 rows: --pad-to 32 makes the same."""
    out = tmp_path / "out.tfrecord"
    options = ["--vocab", VOCAB, "--max-seq-length", 32, "--pad-to", 32]
    ran = port("data", "glue", task, GOLDEN / task / f"{file}.tsv", "-o", out, *options)
    assert (ran.code, ran.err) == (0, "")
    assert "32 records, 8 of them padding from 24 rows" in ran.out
    same(stacked(out), golden(f"{task}/{file}"))
    told = account(out)
    assert (told["rows"], told["records"], told["left_out"]) == (24, 32, {})
    assert port("data", "inspect", out, "--schema", tmp_path / "schema.json").code == 0


def test_a_folder_on_one_core_or_two(port: Port, tmp_path: Path) -> None:
    for workers in (1, 2):
        ran = port(
            "data",
            "glue",
            "MNLI",
            GOLDEN / "mnli",
            "-o",
            tmp_path / str(workers),
            "--vocab",
            VOCAB,
            "--workers",
            workers,
        )
        assert (ran.code, ran.err) == (0, "")
    for name in ("train", "dev_matched", "test_matched"):
        one, two = (tmp_path / str(workers) / f"{name}.tfrecord" for workers in (1, 2))
        assert one.read_bytes() == two.read_bytes()
        assert len(stacked(one)["label_ids"]) == 24


EXAMPLES = {
    "cola": ([["gj04", "0", "*", "the a"], ["x", "1", "", "of"]], [0, 1]),
    "sst-2": ([["sentence", "label"], ["the a", "1"], ["of", "0"]], [1, 0]),
    "mrpc": ([["\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String"], ["1", "7", "8", "the", "a"]], [1]),
    "qqp": ([["id", "qid1", "qid2", "question1", "question2", "is_duplicate"], ["1", "2", "3", "the", "a", "0"]], [0]),
    "qnli": ([["index", "question", "sentence", "label"], ["0", "the", "a", "not_entailment"]], [1]),
    "rte": ([HEADER, ["0", "the", "a", "entailment"]], [0]),
    "wnli": ([HEADER, ["0", "the", "a", "1"]], [1]),
    "sts-b": (
        [
            [
                "index",
                "genre",
                "filename",
                "year",
                "old_index",
                "source1",
                "source2",
                "sentence1",
                "sentence2",
                "score",
            ],
            [*"0123456", "the", "a", "3.750"],
        ],
        [3.75],
    ),
    "mnli": ([["index", "sentence1", "sentence2", "gold_label"], ["0", "the", "a", "neutral"]], [2]),
    "tnews": ([["label", "sentence"], ["104", "中文"], ["116", "the"]], [4, 14]),
}


@pytest.mark.parametrize("task", TASKS)
def test_every_task(task: str, port: Port, tmp_path: Path) -> None:
    lines, labels = EXAMPLES[task]
    source = rows(tmp_path / "train.tsv", lines)
    ran = port("data", "glue", task, source, "-o", tmp_path / "out", "--vocab", VOCAB, "--max-seq-length", 16)
    assert (ran.code, ran.err) == (0, "")
    found = stacked(tmp_path / "out" / "train.tfrecord")
    assert list(found) == list(FEATURES)
    assert found["label_ids"].ravel().tolist() == labels
    assert found["label_ids"].dtype == (np.float32 if task == "sts-b" else np.int64)
    assert found["segment_ids"].any() == bool(TASKS[task].b)


VARIANTS = {
    "names": [["Sentence2", '"sentence1"', "Label", "idx"], ["a", "the", "entailment", "0"]],
    "premise": [["premise", "hypothesis", "label"], ["the", "a", "entailment"]],
    "no header": [["0", "the", "a", "entailment"]],
    "carriage return": [[*HEADER[:-1], "label\r"], ["0", "the", "a", "entailment\r"]],
    "byte order mark": [["\ufeffindex", *HEADER[1:]], ["0", "the", "a", "entailment"]],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_header_variants_give_the_same_record(variant: str, port: Port, tmp_path: Path) -> None:
    source = rows(tmp_path / "train.tsv", VARIANTS[variant])
    assert port("data", "glue", "rte", source, "-o", tmp_path, "--vocab", VOCAB, "--max-seq-length", 8).code == 0
    found = stacked(tmp_path / "train.tfrecord")
    ids = {line: number for number, line in enumerate(VOCAB.read_text().split("\n"))}
    wanted = [ids[token] for token in ("[CLS]", "the", "[SEP]", "a", "[SEP]")]
    assert found["input_ids"].tolist() == [[*wanted, 0, 0, 0]]
    assert found["label_ids"].tolist() == [[0]]


def test_bad_rows_are_counted_and_named(port: Port, tmp_path: Path) -> None:
    source = rows(
        tmp_path / "train.tsv",
        [
            HEADER,
            ["0", "the", "a", "entailment"],
            ["1", "the", "a", ""],
            ["2", "the", "a"],
            ["3", "the", "a", "maybe"],
            ["4", '"a', 'b" c', "entailment"],
            ["5", '"the"', "a", "not_entailment"],
            [],
            ["6", "the", "a", "x", "entailment"],
            ["7", "", "a", "entailment"],
        ],
    )
    with source.open("ab") as file:
        file.write(b"8\tth\xffe\ta\tentailment\n")
    ran = port("data", "glue", "rte", source, "-o", tmp_path / "out.tfrecord", "--vocab", VOCAB)
    assert (ran.code, ran.err) == (0, "")
    for line in (
        "5 records from 9 rows",
        "1 blank lines",
        "left out: 1 rows, no label",
        "line 4: columns are missing: wanted 4, got 3",
        "line 5: unknown label: 'maybe'",
        "line 11: not UTF-8: byte 4 of the line",
        "kept: 1 with more columns than the header",
        "kept: 1 with an empty text",
        "kept: 1 with a text wrapped in quotation marks, which were kept",
    ):
        assert line in ran.out
    told = account(tmp_path / "out.tfrecord")
    assert sum(told["left_out"].values()) + told["records"] == told["rows"] == 9
    ran = port("data", "glue", "rte", source, "-o", tmp_path / "strict.tfrecord", "--vocab", VOCAB, "--strict")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith("train.tsv: line 3: no label: it is empty; 4 of 9 rows cannot be used\n")
    assert not (tmp_path / "strict.tfrecord").exists()


def test_quoted_fields(port: Port, tmp_path: Path) -> None:
    """As pandas writes them; taken as they stand they would be other texts."""
    source = tmp_path / "train.tsv"
    with source.open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([HEADER, ["0", 'the "a"', "two\nlines\tand", "entailment"]])
    plain = rows(tmp_path / "plain" / "train.tsv", [HEADER, ["0", 'the "a"', "two lines and", "entailment"]])
    for path, more in ((source, ["--quoted"]), (plain, [])):
        ran = port("data", "glue", "rte", path, "-o", path.with_suffix(".tfrecord"), "--vocab", VOCAB, *more)
        assert (ran.code, ran.err) == (0, "")
    same(stacked(source.with_suffix(".tfrecord")), stacked(plain.with_suffix(".tfrecord")))
    assert account(source.with_suffix(".tfrecord"))["rows"] == 1


def test_news_in_json_and_in_their_own_form(port: Port, tmp_path: Path) -> None:
    news = [("100", "中文 the"), ("116", "模型"), ("109", "a")]
    forms = {
        "lines.json": "\n".join(json.dumps({"label": c, "sentence": t, "keywords": ""}) for c, t in news),
        "list.json": json.dumps([{"sentence": t, "label": int(c)} for c, t in news], ensure_ascii=False),
        "news.txt": "\n".join(f"65_!_{c}_!_news_x_!_{t}_!_keys" for c, t in news) + "\n",
        "two.tsv": "".join(f"{t}\t{c}\n" for c, t in news),
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        ran = port("data", "glue", "tnews", tmp_path / name, "-o", tmp_path / f"{name}.tfrecord", "--vocab", VOCAB)
        assert (ran.code, ran.err) == (0, ""), name
    found = [stacked(tmp_path / f"{name}.tfrecord") for name in forms]
    assert found[0]["label_ids"].ravel().tolist() == [0, 14, 8]
    for other in found[1:]:
        same(other, found[0])


def test_labels_of_ones_own(port: Port, tmp_path: Path) -> None:
    source = rows(tmp_path / "train.tsv", [["text", "label"], ["the", "good"], ["a", "bad"]])
    options = ["-o", tmp_path / "o.tfrecord", "--vocab", VOCAB]
    assert port("data", "glue", "tnews", source, *options, "--labels", "bad,good").code == 0
    assert stacked(tmp_path / "o.tfrecord")["label_ids"].ravel().tolist() == [1, 0]


def test_integer_labels_of_mnli_are_not_guessed(port: Port, tmp_path: Path) -> None:
    """Exports of the same data number the labels in another order than BERT does."""
    source = tmp_path / "train.json"
    source.write_text('{"premise": "the", "hypothesis": "a", "label": 0}\n')
    ran = port("data", "glue", "mnli", source, "-o", tmp_path / "o.tfrecord", "--vocab", VOCAB)
    assert ran.code == 2
    assert ran.err.endswith("train.json: line 1: unknown label: '0'; no row can be used\n")


REFUSED = {
    "another task": (["glue", "cups"], "cups: wanted a task among cola"),
    "two labels": (["glue", "rte", "--labels", "a,a"], "--labels: wanted different names"),
    "regression": (["glue", "sts-b", "--labels", "a,b"], "sts-b is a regression"),
    "split": (["glue", "rte", "--split", "best"], "--split: wanted train, dev or test, got best"),
    "format": (["glue", "rte", "--format", "csv"], "--format: wanted tfrecord or mindrecord, got csv"),
    "length": (["glue", "rte", "--max-seq-length", "2"], "--max-seq-length: wanted 4 or more, got 2"),
    "no vocabulary": (["glue", "rte", "--no-vocab"], "wanted --vocab (BERT's vocab.txt, RoBERTa's vocab.json) or"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, port: Port, tmp_path: Path) -> None:
    words, why = REFUSED[case]
    source = rows(tmp_path / "train.tsv", VARIANTS["premise"])
    vocab = [] if "--no-vocab" in words else ["--vocab", VOCAB]
    words = [word for word in words if word != "--no-vocab"]
    ran = port("data", *words[:2], source, "-o", tmp_path / "o.tfrecord", *vocab, *words[2:])
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert why in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["train.tsv"]


FILES = {
    "missing": (None, "cannot be read: No such file"),
    "empty": (b"\n \n", "is empty"),
    "utf-16": ("a\tb".encode("utf-16"), "wanted UTF-8 text, got UTF-16"),
    "only a header": ("\t".join(HEADER).encode(), "holds no rows"),
    "no label column": (b"sentence1\tsentence2\nthe\ta\n", "header: wanted a column label, got sentence1, sentence2"),
    "no second text": (b"sentence1\tlabel\nthe\tentailment\n", "wanted a column sentence2 or hypothesis"),
    "not json": (b"{broken\n", "line 1: wanted a JSON object per line"),
    "other keys": (b'{"x": 1}\n', "line 1: wanted a key sentence1"),
    "no columns": (b"nothing\nhere\n", "line 1: columns are missing: wanted 3, got 1; no row can be used"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_refused(case: str, port: Port, tmp_path: Path) -> None:
    data, why = FILES[case]
    source = tmp_path / "train.tsv"
    if data is not None:
        source.write_bytes(data)
    (tmp_path / "out").mkdir()
    ran = port("data", "glue", "rte", source, "-o", tmp_path / "out" / "x.tfrecord", "--vocab", VOCAB)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert why in ran.err
    assert list((tmp_path / "out").iterdir()) == []


def vocabulary(path: Path, size: int, *, cased: bool = False) -> Path:
    tokens = VOCAB.read_text().split("\n")[:-1]
    more = (f"{'Wort' if cased else 'wort'}{number}" for number in range(size - len(tokens)))
    path.write_text("\n".join([*tokens, *more]) + "\n")
    return path


def test_a_vocabulary_that_is_not_the_models(port: Port, tmp_path: Path) -> None:
    source = rows(tmp_path / "train.tsv", VARIANTS["premise"])
    vocab = vocabulary(tmp_path / "vocab.txt", 28996)
    config = tmp_path / "bert_config.json"
    out = ["-o", tmp_path / "o.tfrecord", "--vocab", vocab, "--config", config]
    for wanted, name in ((30522, "uncased English"), (21128, "Chinese")):
        config.write_text(json.dumps({"vocab_size": wanted}))
        ran = port("data", "glue", "rte", source, *out)
        assert (ran.code, ran.out) == (2, "")
        assert f"vocab.txt: holds 28996 tokens (BERT's cased English vocabulary), the model of {config}" in ran.err
        assert f"wants {wanted} tokens (BERT's {name} vocabulary)" in ran.err
    config.write_text('{"vocab_size": 28996}')
    assert port("data", "glue", "rte", source, *out).code == 0
    for wrong in ("", "{}", '{"vocab_size": "many"}'):
        config.write_text(wrong)
        assert "vocab_size: wanted a model's config" in port("data", "glue", "rte", source, *out).err


def test_a_file_that_is_no_vocabulary(port: Port, tmp_path: Path) -> None:
    source = rows(tmp_path / "train.tsv", VARIANTS["premise"])
    vocab = tmp_path / "vocab.txt"
    for data, why in (
        (b"the\na\n", "[UNK], [CLS], [SEP], [MASK] not among its 2 lines"),
        (b"\xff", "wanted UTF-8 text"),
    ):
        vocab.write_bytes(data)
        assert why in port("data", "glue", "rte", source, "-o", tmp_path / "o.tfrecord", "--vocab", vocab).err


def test_case_follows_the_vocabulary(port: Port, tmp_path: Path) -> None:
    source = rows(tmp_path / "train.tsv", [["sentence", "label"], ["The", "1"]])
    tokens = VOCAB.read_text().split("\n")
    the, unknown = tokens.index("the"), tokens.index("[UNK]")
    for cased, more, first in (
        (False, [], the),
        (True, [], unknown),
        (True, ["--lower-case"], the),
        (False, ["--cased"], unknown),
    ):
        vocab = vocabulary(tmp_path / "vocab.txt", 1000, cased=cased)
        out = tmp_path / "o.tfrecord"
        assert port("data", "glue", "sst-2", source, "-o", out, "--vocab", vocab, "--overwrite", *more).code == 0
        assert stacked(out)["input_ids"][0, 1] == first


def test_outputs_are_not_replaced_unasked(port: Port, tmp_path: Path) -> None:
    source = rows(tmp_path / "train.tsv", VARIANTS["premise"])
    words = ["data", "glue", "rte", source, "-o", tmp_path / "out", "--vocab", VOCAB]
    assert port(*words).code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert sorted(before) == ["schema.json", "train.tfrecord", "train.tfrecord.port.json"]
    assert "train.tfrecord: exists already; --overwrite" in port(*words).err
    other = rows(tmp_path / "dev.tsv", VARIANTS["premise"])
    ran = port(*words[:3], other, *words[4:], "--max-seq-length", 64)
    assert "schema.json: describes other records than those asked for" in ran.err
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert port(*words, "--overwrite", "--max-seq-length", 64).code == 0


@pytest.mark.mindspore
@pytest.mark.parametrize("task", ["cola", "sts-b"])
def test_mindrecord_holds_the_same_features(task: str, port: Port, tmp_path: Path) -> None:
    source = GOLDEN / "cola" / "dev.tsv" if task == "cola" else rows(tmp_path / "dev.tsv", EXAMPLES["sts-b"][0])
    for kind in ("tfrecord", "mindrecord"):
        options = ["--format", kind, "--pad-to", 32, "--max-seq-length", 32]
        ran = port("data", "glue", task, source, "-o", tmp_path / kind, "--vocab", VOCAB, *options)
        assert (ran.code, ran.err) == (0, "")
    from porting.backends.mindspore.mindrecord import read_mindrecord

    assert sorted(path.name for path in (tmp_path / "mindrecord").iterdir()) == [
        "dev.mindrecord", "dev.mindrecord.db", "dev.mindrecord.port.json", "schema.json",
    ]  # fmt: skip
    theirs = stacked(tmp_path / "tfrecord" / "dev.tfrecord")
    records = list(read_mindrecord(tmp_path / "mindrecord" / "dev.mindrecord"))
    assert len(records) == 32
    for name in FEATURES:
        ours = np.stack([record[name] for record in records])
        np.testing.assert_array_equal(ours, theirs[name])
        assert ours.dtype == (np.float32 if theirs[name].dtype == np.float32 else np.int32)
    schema = tmp_path / "mindrecord" / "schema.json"
    assert port("data", "inspect", tmp_path / "mindrecord" / "dev.mindrecord", "--schema", schema).code == 0
    again = ["--format", "mindrecord", "--max-seq-length", 32, "--split", "dev"]
    beside = tmp_path / "mindrecord" / "more.mindrecord"  # which the schema that lies there describes too
    assert port("data", "glue", task, source, "-o", beside, "--vocab", VOCAB, *again).err == ""


@pytest.mark.mindspore
def test_mindspore_reads_the_tfrecords_by_the_schema(port: Port, tmp_path: Path) -> None:
    assert port("data", "glue", "mrpc", GOLDEN / "mrpc", "-o", tmp_path, "--vocab", VOCAB).code == 0
    import mindspore.dataset as ds

    data = ds.TFRecordDataset(str(tmp_path / "train.tfrecord"), str(tmp_path / "schema.json"), shuffle=False)
    read = list(data.create_dict_iterator(num_epochs=1, output_numpy=True))
    ours = stacked(tmp_path / "train.tfrecord")
    assert len(read) == 24
    for name in FEATURES:
        np.testing.assert_array_equal(np.stack([record[name] for record in read]), ours[name])


def test_an_empty_selection_of_labels() -> None:
    from porting.data.tasks import task_named

    with pytest.raises(UsageError, match="wanted different names, got a,"):
        task_named("tnews", ["a", ""])


def test_many_rows_keep_their_order_over_workers(port: Port, tmp_path: Path) -> None:
    choose = random.Random(0)
    lines = [["sentence", "label"], *([" ".join(choose.choices("abcdefg", k=30)), str(n % 2)] for n in range(20000))]
    source = rows(tmp_path / "train.tsv", lines)
    for workers in (1, 3):
        out = tmp_path / f"{workers}.tfrecord"
        options = ["--vocab", VOCAB, "--max-seq-length", 8, "--workers", workers]
        assert port("data", "glue", "sst-2", source, "-o", out, *options).code == 0
        assert account(out)["texts_cut"] == 20000
    assert (tmp_path / "1.tfrecord").read_bytes() == (tmp_path / "3.tfrecord").read_bytes()
