"""BERT's vocabularies: a token a line, its id the number of the line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from porting.checkpoint.format import whole
from porting.errors import FormatError, UsageError

KNOWN = {
    30522: "BERT's uncased English vocabulary",
    28996: "BERT's cased English vocabulary",
    21128: "BERT's Chinese vocabulary",
    105879: "BERT's uncased multilingual vocabulary",
    119547: "BERT's cased multilingual vocabulary",
    50265: "RoBERTa's vocabulary",
}
"""Sizes of the vocabularies that were released with BERT and RoBERTa."""

SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[MASK]")
LARGEST = 256 << 20
"""Bytes that a file of a vocabulary may have: many times as many as BERT's, RoBERTa's or XLNet's."""

CAPITALS = 0.05
"""Share of tokens with a capital letter from which on a vocabulary is taken for a cased one: the cased English one
has a third of them, the uncased ones nothing but the five in brackets, the Chinese one less than a hundredth."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens and their ids. size: number of lines, and so the largest id and one more; sha256: of the file."""

    path: Path
    ids: Mapping[str, int]
    size: int
    sha256: str

    @property
    def cased(self) -> bool:
        """Whether it distinguishes capitals."""
        with_capitals = sum(token != token.lower() for token in self.ids if not token.startswith("["))
        return with_capitals > CAPITALS * self.size

    def words(self) -> str:
        """Its size, and its name where the size tells."""
        return vocabulary_words(self.size)


def vocabulary_words(size: int) -> str:
    """A vocabulary of a size in words.

    >>> vocabulary_words(28996)
    "28996 tokens (BERT's cased English vocabulary)"
    """
    return f"{size} tokens ({KNOWN[size]})" if size in KNOWN else f"{size} tokens"


def read_vocabulary(path: str | Path) -> Vocabulary:
    """A vocab.txt, read as BERT reads it: lines end at a line feed, spaces around a token go, of two equal tokens
    the later line gives the id.

    Raises: FormatError for a file that is not text or has no [UNK], [CLS], [SEP] or [MASK].
    """
    data = whole(Path(path), LARGEST)
    try:
        lines = data.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError(path, f"byte {error.start}", "wanted UTF-8 text") from None
    ids = {line.strip(): number for number, line in enumerate(lines)}
    absent = [token for token in SPECIAL if token not in ids]
    if absent:
        raise FormatError(path, "", f"is no vocabulary of BERT: {', '.join(absent)} not among its {len(lines)} lines")
    return Vocabulary(Path(path), ids, len(lines), hashlib.sha256(data).hexdigest())


def config_vocab_size(config: str | Path) -> int:
    """The vocab_size of a bert_config.json or config.json.

    Raises: FormatError for a file that has none.
    """
    try:
        values = json.loads(Path(config).read_text("utf-8"))
        return int(values["vocab_size"])
    except OSError as error:
        raise FormatError(config, "", f"cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError):
        raise FormatError(config, "vocab_size", "wanted a model's config with a vocab_size") from None


def require_fit(tokens: str | Path, size: int, model: str | Path, wanted: int) -> None:
    """Refuse a vocabulary, or records made with it, that is not the model's.

    tokens: the file that `size` is of. model: the file that `wanted` is of.
    Raises: UsageError that names both vocabularies.
    """
    if size != wanted:
        raise UsageError(
            f"{tokens}: holds {vocabulary_words(size)}, the model of {model} wants {vocabulary_words(wanted)}"
        )
