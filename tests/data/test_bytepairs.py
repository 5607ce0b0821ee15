"""RoBERTa's tokens and layout, held against the public tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import ODD, TEXTS, VOCAB, account, rows, stacked
from hypothesis import given, settings
from hypothesis import strategies as st

from porting.data.bytepairs import SPECIAL, BytePairs
from porting.data.layout import Layout
from porting.data.packed import pack, unpack
from porting.data.vocabulary import KNOWN
from porting.errors import FormatError, UsageError

Port = Callable[..., Any]
SIZE = 900


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a vocab.json and a merges.txt, learnt from real text."""
    from tokenizers import ByteLevelBPETokenizer

    folder = tmp_path_factory.mktemp("bpe")
    learnt = ByteLevelBPETokenizer()
    order = ["<s>", "<pad>", "</s>", "<unk>"]
    learnt.train_from_iterator(
        TEXTS, vocab_size=SIZE, special_tokens=[*order, "<mask>"], show_progress=False, min_frequency=2
    )
    learnt.save_model(str(folder))
    return folder


@pytest.fixture(scope="module")
def ours(made: Path) -> BytePairs:
    return BytePairs(made / "vocab.json", made / "merges.txt")


@pytest.fixture(scope="module")
def theirs(made: Path):
    pytest.importorskip("transformers")
    from transformers import RobertaTokenizer

    lines = (made / "merges.txt").read_text("utf-8").splitlines()[1:]
    pairs = [tuple(line.split(" ")) for line in lines]
    return RobertaTokenizer(vocab=json.loads((made / "vocab.json").read_text("utf-8")), merges=pairs)


@pytest.mark.torch
def test_byte_pairs_equal_transformers(ours: BytePairs, theirs) -> None:
    for text in (*TEXTS, *ODD):
        assert ours.ids(text) == theirs.encode(text, add_special_tokens=False)
        assert unpack(ours.packed(text)) == ours.ids(text)


@pytest.mark.torch
@settings(deadline=None)
@given(a=st.text(max_size=40), b=st.text(min_size=1, max_size=40), length=st.integers(8, 60))
def test_the_layout_of_one_text_and_of_two_equals_transformers(ours, theirs, a, b, length) -> None:
    layout = Layout("roberta", length, ours.cls, ours.sep, ours.pad)
    for pair in ((a,), (a, b)):
        laid = layout.lay(*map(ours.packed, pair))
        wanted = theirs(*pair, padding="max_length", truncation="longest_first", max_length=length)
        if laid.cut and len(pair) == 2:  # of two texts of one length, one takes the last token of the other
            assert len(unpack(laid.packed)) == sum(wanted["attention_mask"]) == length
            continue
        assert unpack(layout.padded(laid.packed, laid.tokens)) == wanted["input_ids"]
        assert layout.mask(laid.tokens) == wanted["attention_mask"]
        assert layout.segments(laid.first, laid.tokens) == [0] * length


def test_a_pair_that_is_cut_loses_the_ends_of_the_longer_text() -> None:
    layout = Layout("roberta", 9, cls=0, sep=2, pad=1)
    laid = layout.lay(pack([10, 11, 12, 13, 14]), pack([20, 21]))
    assert unpack(laid.packed) == [0, 10, 11, 12, 2, 2, 20, 21, 2]
    assert laid.cut


def test_special_tokens_in_a_text_are_text(ours: BytePairs) -> None:
    names = {"<s>", "</s>", "<pad>", "<mask>"}
    reserved = {ours.cls, ours.sep, ours.pad}
    for name in names:
        assert not reserved & set(ours.ids(f"a {name} b"))
    assert ours.ids("\ud800") == ours.ids("?")


def test_records_of_roberta(port: Port, made: Path, ours: BytePairs, tmp_path: Path) -> None:
    lines = [
        ["index", "sentence1", "sentence2", "label"],
        ["0", "a b", "c", "entailment"],
        ["1", "x", "y z", "not_entailment"],
    ]
    source = rows(tmp_path / "train.tsv", lines)
    ran = port("data", "glue", "rte", source, "-o", tmp_path, "--vocab", made / "vocab.json", "--max-seq-length", 24)
    assert (ran.code, ran.err) == (0, "")
    found = stacked(tmp_path / "train.tfrecord")
    first = [ours.cls, *ours.ids("a b"), ours.sep, ours.sep, *ours.ids("c"), ours.sep]
    assert found["input_ids"][0].tolist() == first + [ours.pad] * (24 - len(first))
    assert found["input_mask"].sum(axis=1).tolist()[0] == len(first)
    assert not np.any(found["segment_ids"])
    told = account(tmp_path / "train.tfrecord")
    assert (told["layout"], told["merges"], told["lower_case"]) == ("roberta", str(made / "merges.txt"), False)
    assert told["vocabulary_size"] == len(json.loads((made / "vocab.json").read_text("utf-8")))


def test_roberta_takes_records_of_its_own_layout_only(port: Port, made: Path, tmp_path: Path) -> None:
    from porting.model.registry import model_named
    from porting.testing.tiny import tiny
    from porting.train.examples import check_account

    source = rows(tmp_path / "train.tsv", [["sentence", "label"], ["the", "1"]])
    for vocab, name in ((made / "vocab.json", "own"), (VOCAB, "berts")):
        assert port("data", "glue", "sst-2", source, "-o", tmp_path / f"{name}.tfrecord", "--vocab", vocab).code == 0
    spec = model_named("roberta")
    for name, right in (("own", True), ("berts", False)):
        config = tiny(spec, vocab_size=account(tmp_path / f"{name}.tfrecord")["vocabulary_size"])
        file = tmp_path / f"{name}.tfrecord"
        if right:
            check_account(file, spec, config, task="sst-2", labelled=True)
            continue
        with pytest.raises(UsageError, match="is laid out as bert wants it, roberta wants roberta's layout") as caught:
            check_account(file, spec, config, task="sst-2", labelled=True)
        assert "\n" not in str(caught.value)


def test_what_is_no_vocabulary_of_roberta(port: Port, made: Path, tmp_path: Path) -> None:
    source = rows(tmp_path / "train.tsv", [["sentence", "label"], ["the", "1"]])
    vocab, merges = tmp_path / "vocab.json", tmp_path / "merges.txt"
    words = ["data", "glue", "sst-2", source, "-o", tmp_path / "o.tfrecord", "--vocab", vocab]
    good, pairs = (made / "vocab.json").read_text("utf-8"), (made / "merges.txt").read_text("utf-8")
    for text, second, message in (
        (good, None, "merges.txt: cannot be read"),
        ('{"a": 1', pairs, "vocab.json: is no JSON"),
        ('{"a": "b"}', pairs, "vocab.json: wanted an object of tokens with a whole number each"),
        ('{"a": 1, "b": 1}', pairs, "no two the same"),
        ('{"a": 1}', pairs, f"is no byte-level vocabulary of RoBERTa: {' '.join(SPECIAL)} and 255 more not in it"),
        (good, "#version: 0.2\nt h e\n", "merges.txt: line 2: wanted two tokens of the vocabulary that make a third"),
    ):
        vocab.write_text(text, "utf-8")
        merges.unlink(missing_ok=True)
        if second is not None:
            merges.write_text(second, "utf-8")
        ran = port(*words)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert message in ran.err
    vocab.write_text(good, "utf-8")
    ran = port(*words, "--merges", made / "merges.txt", "--lower-case")
    assert (ran.code, "which is cased" in ran.err) == (2, True)
    ran = port(*words[:-1], VOCAB, "--merges", made / "merges.txt")
    assert (ran.code, "goes with RoBERTa's vocab.json" in ran.err) == (2, True)
    assert not list(tmp_path.glob("o.tfrecord*"))


def test_masked_lm_data_wants_berts_vocabulary(port: Port, made: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("a b\n")
    ran = port("data", "pretraining", text, "-o", tmp_path / "o.tfrecord", "--vocab", made / "vocab.json")
    assert (ran.code, ran.err) == (2, "port: error: --vocab: masked-LM data wants BERT's vocab.txt\n")


def test_the_released_vocabulary_is_known_by_its_size() -> None:
    assert KNOWN[50265] == "RoBERTa's vocabulary"


def test_files_of_two_vocabularies_do_not_go_together(made: Path, tmp_path: Path) -> None:
    smaller = json.loads((made / "vocab.json").read_text("utf-8"))
    longest = max((token for token in smaller if token not in SPECIAL), key=len)
    del smaller[longest]
    (tmp_path / "vocab.json").write_text(json.dumps(smaller), "utf-8")
    with pytest.raises(FormatError, match="wanted two tokens of the vocabulary"):
        BytePairs(tmp_path / "vocab.json", made / "merges.txt")
