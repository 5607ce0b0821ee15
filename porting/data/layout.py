"""Where the tokens of one or two texts stand in a sequence: BERT's way, RoBERTa's and XLNet's.

BERT     [CLS] a [SEP] b [SEP] padding         mask 1 for tokens, segments 0 for a, 1 for b, padding 0
RoBERTa  <s> a </s> </s> b </s> padding        mask 1 for tokens, segments 0; padding is <pad>, which positions skip
XLNet    padding a <sep> b <sep> <cls>         mask 1 for padding (float32), segments 0, 1, 2 for <cls>, 4 for padding

Sources: google-research/bert, run_classifier.py (convert_single_example); facebookresearch/fairseq,
models/roberta/hub_interface.py (encode); zihangdai/xlnet, classifier_utils.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from porting.data.packed import beginning, count, pack
from porting.data.schema import LABEL, REAL, Column, Schema
from porting.errors import UsageError

Style = Literal["bert", "roberta", "xlnet"]
CLS_SEGMENT, PAD_SEGMENT = 2, 4
"""XLNet's segments of <cls> and of padding."""

SHORTEST = 4
"""A pair of one token each would want five; BERT's script accepts less and cuts."""


def style_of(family: str) -> Style:
    """How sequences of a model family are laid out."""
    return "roberta" if family == "roberta" else "xlnet" if family == "xlnet" else "bert"


class Laid(NamedTuple):  # made for every record: a tuple is made five times as fast as a frozen dataclass
    """A sequence without its padding. packed: its ids. first: tokens of segment 0. cut: whether a text was cut."""

    packed: bytes
    tokens: int
    first: int
    cut: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """The way of one model. length: of the padded sequence. cls, sep, pad: ids; <s> and </s> are RoBERTa's."""

    style: Style
    length: int
    cls: int
    sep: int
    pad: int = 0

    def __post_init__(self) -> None:
        if self.length < SHORTEST:
            raise UsageError(f"--max-seq-length: wanted {SHORTEST} or more, got {self.length}")

    def lay(self, a: bytes, b: bytes = b"") -> Laid:
        """One text, or two, as packed ids. A second one without tokens, or cut to none, is none, as in BERT."""
        left, right = count(a), count(b)
        between = 2 if self.style == "roberta" else 1
        marks = 2 + between if b else 2
        room = self.length - marks
        cut = left + right > room
        if cut:
            left, right = shortened(left, right, room)
            a, b = beginning(a, left), beginning(b, right)
        sep, cls = pack((self.sep,)), pack((self.cls,))
        texts = a + sep * between + b + sep if b else a + sep
        tokens = left + right + (marks if b else 2)
        if self.style == "xlnet":
            return Laid(texts + cls, tokens, left + 1, cut)
        return Laid(cls + texts, tokens, left + 2, cut)

    def padded(self, packed: bytes, tokens: int) -> bytes:
        """The packed ids of a sequence with their padding."""
        rest = pack((self.pad,)) * (self.length - tokens)
        return rest + packed if self.style == "xlnet" else packed + rest

    def mask(self, tokens: int) -> list[int]:
        """input_mask of a sequence of that many tokens."""
        rest = self.length - tokens
        return [1] * rest + [0] * tokens if self.style == "xlnet" else [1] * tokens + [0] * rest

    def segments(self, first: int, tokens: int) -> list[int]:
        """segment_ids of a sequence of `tokens` tokens, `first` of them in segment 0."""
        rest = self.length - tokens
        if self.style == "roberta":
            return [0] * self.length
        if self.style == "bert":
            return [0] * first + [1] * (tokens - first) + [0] * rest
        if not tokens:  # XLNet gives its padding examples segment 0
            return [0] * rest
        return [PAD_SEGMENT] * rest + [0] * first + [1] * (tokens - first - 1) + [CLS_SEGMENT]

    @property
    def mask_dtype(self) -> str:
        """XLNet's script writes the mask as float32."""
        return "float32" if self.style == "xlnet" else "int64"

    def schema(self, *, regression: bool) -> Schema:
        """The features of a record, in the scripts' order."""
        length = (self.length,)
        return (
            Column("input_ids", "int64", length),
            Column("input_mask", self.mask_dtype, length),
            Column("segment_ids", "int64", length),
            Column(LABEL, "float32" if regression else "int64", (1,)),
            Column(REAL, "int64", (1,)),
        )


def shortened(left: int, right: int, room: int) -> tuple[int, int]:
    """Lengths of two texts after the longer one lost its last token, and so on until both fit.

    >>> shortened(10, 4, 9)
    (5, 4)
    """
    while left + right > room:
        if left > right:
            left -= 1
        else:
            right -= 1
    return left, right
