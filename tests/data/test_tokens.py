"""Tokens: equal to the originals' and to the public tokenizers; XLNet's layout."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_support import GOLDEN, ODD, TEXTS, VOCAB, golden, rows, same, stacked
from hypothesis import given
from hypothesis import strategies as st

from porting.data.characters import pieces, words
from porting.data.example import varints
from porting.data.layout import Layout
from porting.data.packed import beginning, count, pack, unpack
from porting.data.sentencepieces import SentencePieces, cleaned
from porting.data.vocabulary import read_vocabulary
from porting.data.wordpiece import WordPiece
from porting.errors import FormatError

Port = Callable[..., Any]
XLNET = GOLDEN / "xlnet.model"


@pytest.mark.torch
@pytest.mark.parametrize("lower", [True, False])
def test_wordpiece_equals_transformers(lower: bool) -> None:
    """The plain one and the fast one. Both differ from BERT's own on words over 100 letters, which are not here."""
    from transformers import BertTokenizer
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    vocabulary = read_vocabulary(VOCAB)
    ours = WordPiece(vocabulary, lower=lower)
    slow = BertTokenizerLegacy(str(VOCAB), do_lower_case=lower)
    fast = BertTokenizer(dict(vocabulary.ids), do_lower_case=lower)
    for text in (*TEXTS, *(odd for odd in ODD if "[SEP]" not in odd)):  # they take [SEP] in a text for the token
        ids = ours.ids(text)
        assert ids == slow.encode(text, add_special_tokens=False)
        assert ids == fast.encode(text, add_special_tokens=False)


@pytest.fixture(scope="module")
def wordpiece() -> WordPiece:
    return WordPiece(read_vocabulary(VOCAB), lower=True)


def tokens(model: WordPiece, text: str) -> list[str]:
    names = {number: token for token, number in read_vocabulary(VOCAB).ids.items()}
    return [names[number] for number in model.ids(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a" * 200, ["a", *["##a"] * 199]),
        ("a" * 201, ["[UNK]"]),
        ("[SEP] the", ["[", "s", "##e", "##p", "]", "the"]),
        ("THE thé", ["the", "the"]),
        ("中the文", ["中", "the", "文"]),
        ("t\x00h\u200be\ufffd", ["the"]),
        ("the\x0bof", ["the", "##o", "##f"]),
        ("the\u2028of", ["the", "of"]),
        ("$a+b", ["$", "a", "+", "b"]),
        ("\ud800", ["[UNK]"]),
        ("s\u03a3", ["s", "##\u03c2"]),  # the last sigma of a word has a small letter of its own
    ],
)
def test_the_rules_of_bert(text: str, found: list[str], wordpiece: WordPiece) -> None:
    assert tokens(wordpiece, text) == found


def test_every_character_is_sorted_as_bert_sorts_it() -> None:
    """The tables against the conditions, spelt out, over all of Unicode."""
    for code in range(0x110000):
        char = chr(code)
        category = unicodedata.category(char)
        gone = char in "\0\ufffd" or (category in {"Cc", "Cf"} and char not in "\t\n\r")
        space = char in " \t\n\r\u2028\u2029" or category == "Zs"
        assert pieces(f"a{char}b") == (["ab"] if gone else ["a", "b"] if space else pieces(f"a{char}b"))
        mark = category.startswith("P") or (
            char.isascii() and char.isprintable() and not char.isalnum() and char != " "
        )
        if not gone and not space:
            assert (words(f"a{char}b", lower=False) == ["a", char, "b"]) == mark


@given(st.text())
def test_pieces_can_be_looked_up_one_by_one(text: str) -> None:
    """What makes the cache right: a text's ids are those of its pieces."""
    model = WordPiece(read_vocabulary(VOCAB), lower=True)
    assert model.ids(text) == [number for piece in pieces(text) for number in model.ids(piece)]
    assert model.ids(text) == model.ids(text)


def test_a_full_cache_forgets_and_goes_on(monkeypatch: pytest.MonkeyPatch, wordpiece: WordPiece) -> None:
    wanted = [wordpiece.ids(text) for text in TEXTS]
    monkeypatch.setattr("porting.data.wordpiece.REMEMBERED", 10)
    small = WordPiece(read_vocabulary(VOCAB), lower=True)
    assert [small.ids(text) for text in TEXTS] == wanted


@pytest.mark.parametrize(("task", "more"), [("sts-b", []), ("rte", ["--lower-case"])])
def test_xlnets_records_are_those_of_xlnet(task: str, more: list[str], port: Port, tmp_path: Path) -> None:
    options = ["--sentencepiece", XLNET, "--max-seq-length", 48, "--pad-to", 48, *more]
    ran = port("data", "glue", task, GOLDEN / task / "dev.tsv", "-o", tmp_path, *options)
    assert (ran.code, ran.err) == (0, "")
    same(stacked(tmp_path / "dev.tfrecord"), golden(f"xlnet/{task}"))


def test_xlnets_layout() -> None:
    layout = Layout("xlnet", 8, cls=3, sep=4)
    laid = layout.lay(pack([10, 11]), pack([12]))
    assert unpack(layout.padded(laid.packed, laid.tokens)) == [0, 0, 10, 11, 4, 12, 4, 3]
    assert layout.mask(laid.tokens) == [1, 1, 0, 0, 0, 0, 0, 0]
    assert layout.segments(laid.first, laid.tokens) == [4, 4, 0, 0, 0, 1, 1, 2]


@given(st.lists(st.integers(0, 2**21)), st.integers(0, 30))
def test_packed_ids_are_counted_cut_and_read(ids: list[int], tokens: int) -> None:
    packed = pack(ids)
    assert packed == varints(ids)
    assert (unpack(packed), count(packed)) == (ids, len(ids))
    assert unpack(beginning(packed, tokens)) == ids[:tokens]


@pytest.mark.torch
def test_sentencepieces_equal_transformers() -> None:
    """On text without a number before a comma, which only the original cuts there. Two ways of cutting a run of
    zeros have one score; there the two libraries choose differently, and the scores are compared."""
    from sentencepiece import SentencePieceProcessor
    from transformers import XLNetTokenizer

    model = SentencePieceProcessor(model_file=str(XLNET))
    scored = [(model.IdToPiece(number), model.GetScore(number)) for number in range(model.GetPieceSize())]
    theirs, ours = XLNetTokenizer(vocab=scored), SentencePieces(XLNET, lower=False)
    checked = tied = 0
    for text in TEXTS:
        plain = " ".join(text.split())
        if plain and plain.isascii() and not any(f"{digit}," in plain for digit in "0123456789") and "<" not in plain:
            ids, wanted = ours.ids(plain), theirs.encode(plain, add_special_tokens=False)
            if ids != wanted:
                assert sum(map(model.GetScore, ids)) == pytest.approx(sum(map(model.GetScore, wanted)), rel=1e-6)
                tied += 1
            checked += 1
    assert checked > 500
    assert tied < checked / 100


def test_a_number_before_a_comma_is_cut_off() -> None:
    model = SentencePieces(XLNET, lower=False)
    assert model.ids("in 2000, then")[-2:] == model.ids("then")[-2:]
    comma = model.ids("2000,")[-1]
    assert model.ids("a,")[-1] == comma


def test_cleaning() -> None:
    assert cleaned(" a\u3000b\n``c'' ﬁ é", lower=False) == 'a b "c" fi e'
    assert cleaned("ÀB", lower=True) == "ab"


def test_what_is_no_model_of_xlnet(port: Port, tmp_path: Path) -> None:
    source = rows(tmp_path / "train.tsv", [["sentence", "label"], ["the", "1"]])
    model = tmp_path / "x.model"
    words = ["data", "glue", "sst-2", source, "-o", tmp_path / "o.tfrecord", "--sentencepiece", model]
    assert "cannot be read" in port(*words).err
    model.write_bytes(b"\x00nonsense")
    assert "is no sentencepiece model" in port(*words).err
    assert "one of them" in port(*words, "--vocab", VOCAB).err
    config = tmp_path / "config.json"
    config.write_text('{"vocab_size": 32000}')
    ran = port(*words[:-1], XLNET, "--config", config)
    assert ran.code == 2
    assert "xlnet.model: holds 600 tokens" in ran.err
    assert "wants 32000 tokens" in ran.err


def test_a_model_without_xlnets_symbols(tmp_path: Path) -> None:
    from sentencepiece import SentencePieceTrainer

    text = tmp_path / "text"
    text.write_text("\n".join(TEXTS[:300]))
    SentencePieceTrainer.Train(input=str(text), model_prefix=str(tmp_path / "m"), vocab_size=200, minloglevel=2)
    with pytest.raises(FormatError, match="is no vocabulary of XLNet: <cls>, <sep>, <pad>, <mask> not in it"):
        SentencePieces(tmp_path / "m.model", lower=False)


def test_lines_of_a_vocabulary(tmp_path: Path) -> None:
    """Spaces go, of two equal tokens the later line counts, and a line may be empty."""
    path = tmp_path / "vocab.txt"
    path.write_bytes("[UNK]\n[CLS] \n[SEP]\r\n[MASK]\nthe\n\nthe\n\u00a0of".encode())
    found = read_vocabulary(path)
    assert (found.size, found.ids["the"], found.ids["of"], found.ids["[SEP]"]) == (8, 6, 7, 2)


def test_a_library_that_is_not_installed(port: Port, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("porting.extras.find_spec", lambda _: None)
    source = rows(tmp_path / "train.tsv", [["sentence", "label"], ["the", "1"]])
    ran = port("data", "glue", "sst-2", source, "-o", tmp_path / "o.tfrecord", "--vocab", VOCAB)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "port: error: tokenizers is not installed; pip install 'porting-kit[data]' brings it\n"
    monkeypatch.undo()
    monkeypatch.setattr("porting.backends.mindspore.mindrecord.find_spec", lambda _: None)
    words = ["--format", "mindrecord", "--vocab", VOCAB]
    ran = port("data", "glue", "sst-2", source, "-o", tmp_path / "o.mindrecord", *words)
    assert ran.code == 2
    assert "which is not installed here" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["train.tsv"]
