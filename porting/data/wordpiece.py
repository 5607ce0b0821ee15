"""Token ids of a text, as BERT's FullTokenizer gives them."""

from __future__ import annotations

from tokenizers.models import WordPiece as Model

from porting.data.characters import pieces, words
from porting.data.packed import pack, unpack
from porting.data.vocabulary import Vocabulary

LONGEST = 200
"""Characters of a word beyond which BERT takes it for unknown; the tokenizers library's own default is 100."""

REMEMBERED = 400_000
"""Distinct pieces that are kept: 60 MB or so. Then all are forgotten, and the frequent ones are back soon."""


class WordPiece:
    """Turns text into ids.

    Texts repeat their words: a piece between two spaces is worked out once, by the character tables and the
    tokenizers library's WordPiece, and looked up from then on.
    """

    def __init__(self, vocabulary: Vocabulary, *, lower: bool) -> None:
        self._known = _Known(vocabulary, lower=lower).__getitem__

    def packed(self, text: str) -> bytes:
        """The ids of a text, without [CLS] and [SEP], as varints."""
        return b"".join(map(self._known, pieces(text)))

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without [CLS] and [SEP]."""
        return unpack(self.packed(text))


class _Known(dict[str, bytes]):
    """The packed ids of every piece that was asked for."""

    def __init__(self, vocabulary: Vocabulary, *, lower: bool) -> None:
        super().__init__()
        self._vocabulary, self._lower = dict(vocabulary.ids), lower
        self._model = Model(vocab=self._vocabulary, unk_token="[UNK]", max_input_chars_per_word=LONGEST)  # noqa: S106

    def __missing__(self, piece: str) -> bytes:
        found: list[int] = []
        for word in words(piece, lower=self._lower):
            whole = self._vocabulary.get(word)  # the longest match, if it is there
            found += self._parts(word) if whole is None or len(word) > LONGEST else [whole]
        if len(self) >= REMEMBERED:
            self.clear()
        self[piece] = packed = pack(found)
        return packed

    def _parts(self, word: str) -> list[int]:
        try:
            return [token.id for token in self._model.tokenize(word)]
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can escape and no vocabulary holds
            return [self._vocabulary["[UNK]"]]
