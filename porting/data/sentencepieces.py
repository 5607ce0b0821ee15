"""Token ids of a text, as XLNet gives them: its own clean-up, then sentencepiece.

Source of the rules: zihangdai/xlnet, prepro_utils.py (preprocess_text, encode_pieces) and data_utils.py.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from porting.checkpoint.format import whole
from porting.data.packed import pack
from porting.data.vocabulary import LARGEST
from porting.errors import FormatError

UNDERLINE = "▁"
"""How sentencepiece writes a space."""

SPECIAL = ("<cls>", "<sep>", "<pad>", "<mask>")


def cleaned(text: str, *, lower: bool) -> str:
    r"""White space collapsed, typed quotation marks made one, compatibility forms unfolded, accents gone.

    >>> cleaned("  ``Caf\u00e9''  x", lower=False)
    '"Cafe" x'
    """
    collapsed = " ".join(text.split()).replace("``", '"').replace("''", '"')
    if not collapsed.isascii():
        unfolded = unicodedata.normalize("NFKD", collapsed)
        collapsed = "".join(char for char in unfolded if not unicodedata.combining(char))
    return collapsed.lower() if lower else collapsed


@dataclass(slots=True)
class SentencePieces:
    """Turns text into ids by a sentencepiece model.

    lower: XLNet's `uncased`. Its released models are cased.
    """

    path: Path
    lower: bool
    cls: int = field(init=False)
    sep: int = field(init=False)
    size: int = field(init=False)
    sha256: str = field(init=False)
    _model: Any = field(init=False)
    _with_comma: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        from sentencepiece import SentencePieceProcessor

        data = whole(self.path, LARGEST)
        self._model = SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(data)
        except RuntimeError:
            raise FormatError(self.path, "", "is no sentencepiece model") from None
        self.size, self.sha256 = self._model.GetPieceSize(), hashlib.sha256(data).hexdigest()
        absent = [name for name in SPECIAL if self._model.PieceToId(name) == self._model.unk_id()]
        if absent:
            raise FormatError(self.path, "", f"is no vocabulary of XLNet: {', '.join(absent)} not in it")
        self.cls, self.sep = self._model.PieceToId("<cls>"), self._model.PieceToId("<sep>")
        every = ((number, self._model.IdToPiece(number)) for number in range(self.size))
        self._with_comma = frozenset(number for number, piece in every if _number_and_comma(piece))

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without <sep> and <cls>."""
        clean = cleaned(text, lower=self.lower).encode("utf-8", "replace").decode()  # no halves of surrogate pairs
        ids: list[int] = self._model.EncodeAsIds(clean)
        if self._with_comma.isdisjoint(ids):
            return ids
        return [part for number in ids for part in self._parts(number)]

    def packed(self, text: str) -> bytes:
        """The same as varints."""
        return pack(self.ids(text))

    def _parts(self, number: int) -> list[int]:
        """A piece that is a number and a comma is cut before the comma: `▁2000,` is not one word."""
        if number not in self._with_comma:
            return [number]
        piece: str = self._model.IdToPiece(number)
        parts: list[str] = self._model.EncodeAsPieces(piece[:-1].replace(UNDERLINE, ""))
        if not piece.startswith(UNDERLINE) and parts[0].startswith(UNDERLINE):
            parts = parts[1:] if len(parts[0]) == 1 else [parts[0][1:], *parts[1:]]
        return [self._model.PieceToId(part) for part in (*parts, piece[-1])]


def _number_and_comma(piece: str) -> bool:
    return len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit()
