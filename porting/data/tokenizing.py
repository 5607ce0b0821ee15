"""Which tokens a model takes: its vocabulary and how a sequence is laid out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from porting.checkpoint.format import head
from porting.data.layout import Layout, Style
from porting.data.vocabulary import config_vocab_size, read_vocabulary, require_fit
from porting.errors import UsageError
from porting.extras import require


class Tokenizer(Protocol):
    """Turns a text into ids, or into ids as varints."""

    def ids(self, text: str) -> list[int]: ...
    def packed(self, text: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Tokens:
    """A vocabulary and how it is used; what a worker needs to make its tokenizer.

    style: bert reads vocab.txt, roberta vocab.json and merges.txt, xlnet a sentencepiece model. size, sha256: of the
    file at `path`. merges: RoBERTa's second file.
    """

    style: Style
    path: Path
    lower: bool
    size: int
    sha256: str
    cls: int
    sep: int
    pad: int = 0
    merges: Path | None = None

    def tokenizer(self) -> Tokenizer:
        """Made anew: it remembers words."""
        if self.style == "bert":
            from porting.data.wordpiece import WordPiece

            return WordPiece(read_vocabulary(self.path), lower=self.lower)
        if self.merges is not None:
            from porting.data.bytepairs import BytePairs

            return BytePairs(self.path, self.merges)
        from porting.data.sentencepieces import SentencePieces

        return SentencePieces(self.path, self.lower)

    def layout(self, length: int) -> Layout:
        """How sequences of a length are laid out."""
        return Layout(self.style, length, self.cls, self.sep, self.pad)

    def account(self) -> dict[str, str | int | bool]:
        """What the account of a record file says of it."""
        merges = {} if self.merges is None else {"merges": str(self.merges)}
        return {
            "layout": self.style,
            "vocabulary": str(self.path),
            "vocabulary_size": self.size,
            "vocabulary_sha256": self.sha256,
            **merges,
            "lower_case": self.lower,
        }


def tokens_of(
    vocab: Path | None,
    sentencepiece: Path | None,
    *,
    merges: Path | None = None,
    lower: bool | None = None,
    config: Path | None = None,
) -> Tokens:
    """The tokens of BERT (a vocab.txt), RoBERTa (a vocab.json and its merges) or XLNet (a sentencepiece model).

    merges: None for the merges.txt beside the vocab.json.
    lower: None lets BERT's vocabulary decide; XLNet's is cased then, and RoBERTa's always.
    config: the model's; its vocab_size must be that of the vocabulary.
    Raises: UsageError for none or both, and for a vocabulary that is not the model's; FormatError for bad files.
    """
    if (vocab is None) == (sentencepiece is None):
        raise UsageError(
            "wanted --vocab (BERT's vocab.txt, RoBERTa's vocab.json) or --sentencepiece (XLNet's model), one of them"
        )
    require("tokenizers" if vocab is not None else "sentencepiece", "data")
    pairs = vocab is not None and head(vocab, 64).lstrip()[:1] == b"{"
    if merges is not None and not pairs:
        raise UsageError(f"--merges {merges}: goes with RoBERTa's vocab.json, given as --vocab")
    if vocab is not None:
        tokens = _byte_pairs(vocab, merges, lower=lower) if pairs else _word_pieces(vocab, lower=lower)
    else:
        from porting.data.sentencepieces import SentencePieces

        assert sentencepiece is not None  # noqa: S101 - one of the two is given
        model = SentencePieces(sentencepiece, bool(lower))
        tokens = Tokens("xlnet", sentencepiece, bool(lower), model.size, model.sha256, model.cls, model.sep)
    if config is not None:
        require_fit(tokens.path, tokens.size, config, config_vocab_size(config))
    return tokens


def _word_pieces(vocab: Path, *, lower: bool | None) -> Tokens:
    found = read_vocabulary(vocab)
    lowered = not found.cased if lower is None else lower
    return Tokens("bert", vocab, lowered, found.size, found.sha256, found.ids["[CLS]"], found.ids["[SEP]"])


def _byte_pairs(vocab: Path, merges: Path | None, *, lower: bool | None) -> Tokens:
    from porting.data.bytepairs import BytePairs

    if lower:
        raise UsageError(f"--lower-case: {vocab} is a byte-level vocabulary, which is cased")
    second = merges or vocab.with_name("merges.txt")
    model = BytePairs(vocab, second)
    return Tokens(
        "roberta", vocab, lower=False, size=model.size, sha256=model.sha256, cls=model.cls, sep=model.sep,
        pad=model.pad, merges=second,
    )  # fmt: skip
