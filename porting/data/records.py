"""Sequences as the records that run_classifier writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from porting.data.example import INT64_LIST, float_entry, int64_entry, joined, number_entry
from porting.data.layout import Laid, Layout
from porting.data.packed import unpack
from porting.data.schema import LABEL, REAL
from porting.data.tfrecord import frame

Label = int | float
"""A class's number, or the value of a regression."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """Encodes sequences of one layout. Everything but the ids recurs, so it is encoded once and looked up."""

    layout: Layout
    regression: bool
    _shapes: dict[tuple[int, int], bytes] = field(init=False, default_factory=dict)

    def tfrecord(self, laid: Laid, label: Label, *, real: bool = True) -> bytes:
        """A sequence as a framed TFRecord."""
        return frame(
            joined(
                self.ids(laid.packed, laid.tokens),
                self.shape(laid.first, laid.tokens),
                _label(label, self.regression),
                _REAL if real else _PADDING,
            )
        )

    def ids(self, packed: bytes, tokens: int) -> bytes:
        """The entry of the ids with their padding."""
        return number_entry("input_ids", INT64_LIST, self.layout.padded(packed, tokens))

    def shape(self, first: int, tokens: int) -> bytes:
        """The entries of mask and segments, which two numbers decide."""
        found = self._shapes.get((first, tokens))
        if found is None:
            mask, segments = self.layout.mask(tokens), self.layout.segments(first, tokens)
            if self.layout.mask_dtype == "float32":
                found = float_entry("input_mask", mask)
            else:
                found = number_entry("input_mask", INT64_LIST, bytes(mask))  # each number is its own varint
            found += number_entry("segment_ids", INT64_LIST, bytes(segments))
            self._shapes[first, tokens] = found
        return found

    def arrays(self, laid: Laid, label: Label, *, real: bool = True) -> dict[str, Any]:
        """A sequence as the values of a MindRecord's columns."""
        return {
            "input_ids": unpack(self.layout.padded(laid.packed, laid.tokens)),
            "input_mask": self.layout.mask(laid.tokens),
            "segment_ids": self.layout.segments(laid.first, laid.tokens),
            LABEL: [label],
            REAL: [int(real)],
        }

    def padding(self) -> Laid:
        """The sequence of a padding example: no tokens at all."""
        return Laid(b"", 0, 0, cut=False)


_REAL, _PADDING = int64_entry(REAL, (1,)), int64_entry(REAL, (0,))


@lru_cache(1 << 12)
def _label(label: Label, regression: bool) -> bytes:  # noqa: FBT001 - a cache takes its key as it comes
    if regression:
        return float_entry(LABEL, (label,))
    return int64_entry(LABEL, (int(label),))
