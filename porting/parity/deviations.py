"""Measures all pairs of two captures: reads each tensor once, in pieces, and holds its bytes against its hash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from porting.checkpoint.storage import Mapped
from porting.parity.capture import Summary
from porting.parity.deviation import Deviation
from porting.parity.measure import (
    PIECE,
    Measures,
    deviation,
    deviation_of,
    estimated,
    identical,
)
from porting.parity.pairs import Pair
from porting.parity.reader import Capture
from porting.parity.sketch import decode
from porting.parity.summarise import summarise
from porting.parity.widen import float_of

Array = np.ndarray[Any, np.dtype[Any]]

THREADS = 2
"""numpy lets go of Python's lock in its loops; more threads than two wait for memory."""

_HELD = 16 << 20
"""Bytes of a mapped file that are read before their pages are given back."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A pair and what was found; None with the reason where nothing could be measured."""

    pair: Pair
    deviation: Deviation | None
    reason: str = ""


def deviations_of(
    source: Capture, target: Capture, pairs: Sequence[Pair], *, measures: Measures = "all"
) -> list[Compared]:
    """Measure every pair that both sides have, in order.

    Tensors with one hash are not read. `step.weights` is measured as the change that the step made: the
    weights after it minus those before.
    Raises: FormatError if the bytes of a tensor that was read are not those that were written.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda pair: _compared(source, target, pair, measures), pairs))


def _compared(source: Capture, target: Capture, pair: Pair, measures: Measures) -> Compared:
    a, b = pair.source, pair.target
    if a is None or b is None:
        sides = ("source", "target") if a is None else ("target", "source")
        return Compared(pair, None, f"the {sides[0]} has none, the {sides[1]} does")
    if a.shape != b.shape:
        return Compared(pair, None, f"shape {a.shape} in the source, {b.shape} in the target")
    if pair.section == "step.weights":
        return _change(source, target, pair, measures)
    if (a.hash, a.dtype) == (b.hash, b.dtype):
        return Compared(pair, identical(a))
    sides_ = _Side(source, a), _Side(target, b)
    if a.stored and b.stored:
        with_logits = pair.name.endswith("logits")
        one, two = (side.array for side in sides_)
        found = deviation(one, two, logits=with_logits, measures=measures, seen=_both(*sides_))
        for side in sides_:
            side.check()
        return Compared(pair, found)
    return Compared(pair, estimated(a, b, (sides_[0].sketch(), sides_[1].sketch())))


def _change(source: Capture, target: Capture, pair: Pair, measures: Measures) -> Compared:
    """How much more or less the target's step changed a weight than the source's."""
    sides: list[_Side] = []
    for capture, after in ((source, pair.source), (target, pair.target)):
        before = capture.summaries.get(("weights", pair.name))
        if before is None or after is None or before.shape != after.shape:
            return Compared(pair, None, "its change is not known: the weights before the step were not captured")
        sides += [_Side(capture, after), _Side(capture, before)]
    hashes = [side.summary.hash for side in sides]
    if hashes[:2] == hashes[2:] and len({side.summary.dtype for side in sides}) == 1:
        return Compared(pair, identical(sides[0].summary))
    if not all(side.summary.stored for side in sides):
        return Compared(pair, None, "its change is not known: that wants whole tensors, and they were only summarised")
    found = deviation_of(_changes(sides), sides[0].summary.shape, measures=measures)
    for side in sides:
        side.check()
    return Compared(pair, found)


def _changes(sides: Sequence[_Side]) -> Iterator[tuple[Array, Array]]:
    """Pieces of both changes, float64. sides: the source's after and before, the target's after and before."""
    flat = [np.ascontiguousarray(side.array).reshape(-1) for side in sides]
    for at in range(0, flat[0].size, PIECE):
        pieces = [one[at : at + PIECE] for one in flat]
        for side, piece in zip(sides, pieces, strict=True):
            side.seen(piece)
        a, a0, b, b0 = (float_of(piece) for piece in pieces)
        yield np.subtract(a, a0, dtype=np.float64), np.subtract(b, b0, dtype=np.float64)


class _Side:
    """One tensor while it is read: hashed as it passes, its pages given back behind."""

    def __init__(self, capture: Capture, summary: Summary) -> None:
        self.capture, self.summary = capture, summary
        self.key = summary.section, summary.name
        self.place: Mapped | None = capture.stored.get(self.key)
        self._digest = xxhash.xxh3_128()
        self._done = self._released = 0

    @property
    def array(self) -> Array:
        """The stored tensor."""
        assert self.place is not None  # noqa: S101 - asked for only where it is stored
        return self.place.read()

    def seen(self, piece: Array) -> None:
        """Take note of the next piece."""
        self._digest.update(piece.view(np.uint8).data)
        self._done += piece.nbytes
        if self._done - self._released >= _HELD:
            self._release()

    def _release(self) -> None:
        """Give back what lies behind; of a view with other strides everything, when all is read."""
        if self.place is not None and self.place.strides is None:
            self.place.file.release(self.place.offset + self._released, self._done - self._released)
        self._released = self._done

    def check(self) -> None:
        """Raises: FormatError if what was read is not what was written."""
        if self.place is not None:
            self.place.release()
        if f"xxh3_128:{self._digest.hexdigest()}" != self.summary.hash:
            raise self.capture.altered(*self.key)

    def sketch(self) -> Array:
        """The tensor's sketch, made now where the tensor is stored."""
        if self.place is None:
            return decode(self.summary.sketch)
        data = np.ascontiguousarray(self.array)
        made = summarise(*self.key, data, sketch=True, out=self.seen)
        self.check()
        return decode(made.sketch)


def _both(one: _Side, two: _Side) -> Any:
    def seen(a: Array, b: Array) -> None:
        one.seen(a)
        two.seen(b)

    return seen
