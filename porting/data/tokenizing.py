"""Which tokens a model takes: its vocabulary and how a sequence is laid out."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from porting.data.layout import Layout, Style
from porting.data.vocabulary import config_vocab_size, read_vocabulary, require_fit
from porting.errors import UsageError


class Tokenizer(Protocol):
    """Turns a text into ids, or into ids as varints."""

    def ids(self, text: str) -> list[int]: ...
    def packed(self, text: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Tokens:
    """A vocabulary and how it is used; what a worker needs to make its tokenizer.

    style: bert reads vocab.txt, xlnet a sentencepiece model. size, sha256: of the file.
    """

    style: Style
    path: Path
    lower: bool
    size: int
    sha256: str
    cls: int
    sep: int

    def tokenizer(self) -> Tokenizer:
        """Made anew: it remembers words."""
        if self.style == "bert":
            from porting.data.wordpiece import WordPiece

            return WordPiece(read_vocabulary(self.path), lower=self.lower)
        from porting.data.sentencepieces import SentencePieces

        return SentencePieces(self.path, self.lower)

    def layout(self, length: int) -> Layout:
        """How sequences of a length are laid out."""
        return Layout(self.style, length, self.cls, self.sep)

    def account(self) -> dict[str, str | int | bool]:
        """What the account of a record file says of it."""
        return {
            "layout": self.style,
            "vocabulary": str(self.path),
            "vocabulary_size": self.size,
            "vocabulary_sha256": self.sha256,
            "lower_case": self.lower,
        }


def require_library(name: str) -> None:
    """Say how to get an optional library before any work is begun.

    Raises: UsageError if it is not installed.
    """
    if find_spec(name) is None:
        raise UsageError(f"{name} is not installed; pip install 'porting-kit[data]' brings it")


def tokens_of(
    vocab: Path | None, sentencepiece: Path | None, *, lower: bool | None = None, config: Path | None = None
) -> Tokens:
    """The tokens of BERT (a vocab.txt) or of XLNet (a sentencepiece model).

    lower: None lets BERT's vocabulary decide; XLNet's is cased then.
    config: the model's; its vocab_size must be that of the vocabulary.
    Raises: UsageError for none or both, and for a vocabulary that is not the model's; FormatError for bad files.
    """
    if (vocab is None) == (sentencepiece is None):
        raise UsageError("wanted --vocab (BERT's vocab.txt) or --sentencepiece (XLNet's model), one of them")
    require_library("tokenizers" if vocab is not None else "sentencepiece")
    if vocab is not None:
        found = read_vocabulary(vocab)
        cased = not found.cased if lower is None else lower
        tokens = Tokens("bert", vocab, cased, found.size, found.sha256, found.ids["[CLS]"], found.ids["[SEP]"])
    else:
        from porting.data.sentencepieces import SentencePieces

        assert sentencepiece is not None  # noqa: S101 - one of the two is given
        model = SentencePieces(sentencepiece, bool(lower))
        tokens = Tokens("xlnet", sentencepiece, bool(lower), model.size, model.sha256, model.cls, model.sep)
    if config is not None:
        require_fit(tokens.path, tokens.size, config, config_vocab_size(config))
    return tokens
