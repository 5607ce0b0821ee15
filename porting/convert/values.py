"""How the values of two tensors of one shape differ: facts, streamed, no judgement but the caller's tolerance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

import numpy as np

from porting.checkpoint.dtypes import DType
from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.equal import string_values
from porting.checkpoint.pieces import in_step
from porting.checkpoint.storage import Array
from porting.checkpoint.tiles import raw
from porting.convert.stats import exact, typed_pieces


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A value of b may be as far from that of a as absolute + relative * |a|."""

    absolute: float = 0.0
    relative: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """An element of both tensors. index: per axis."""

    index: tuple[int, ...]
    a: float | str
    b: float | str


@dataclass(frozen=True, slots=True)
class ValueDifference:
    """Facts about two tensors of one shape; distances are between finite values, a is the reference.

    count: elements (of a complex tensor, real and imaginary parts). bits: elements whose bits differ; between two
    dtypes, whose values differ. beyond: elements outside the tolerance; the same as `bits` if none was given.
    max_abs: largest |a - b|. max_relative: that over the largest |a|. l2_relative: ||a - b|| / ||a||. All three are
    None for strings. nan: NaN in a and in b. one_sided: elements that are finite on one side only, or differently not.
    worst: a one-sided element if there is one, else that of max_abs, else one whose bits differ.
    """

    count: int
    bits: int
    beyond: int
    max_abs: float | None
    max_relative: float | None
    l2_relative: float | None
    nan: tuple[int, int]
    one_sided: int
    worst: Place | None


def compare_values(a: TensorEntry, b: TensorEntry, tolerance: Tolerance | None = None) -> ValueDifference:
    """Read both tensors side by side, pieces of a quarter of a million elements at a time. Their shapes are equal."""
    if "string" in (a.dtype.kind, b.dtype.kind):
        return _strings(a, b)
    if a.dtype == b.dtype:
        same, nan = _all_equal(a, b)
        if same:
            return ValueDifference(a.elements, 0, 0, 0.0, 0.0, 0.0, (nan, nan), 0, None)
    tally = _Tally(a, b, tolerance)
    for one, two in in_step(typed_pieces(a), typed_pieces(b)):
        tally.add(one, two)
    return tally.result()


def _all_equal(a: TensorEntry, b: TensorEntry) -> tuple[bool, int]:
    """Are all bits equal, and how many NaN are there? Stops at the first difference."""
    nan = 0
    for one, two in in_step(typed_pieces(a), typed_pieces(b)):
        if not np.array_equal(one.view(np.uint8), two.view(np.uint8)):
            return False, 0
        if a.dtype.kind in ("float", "complex"):
            with np.errstate(invalid="ignore"):  # a signalling NaN of ml_dtypes' types warns even here
                nan += int(np.count_nonzero(np.isnan(one)))
    return True, nan


def _strings(a: TensorEntry, b: TensorEntry) -> ValueDifference:
    if a.dtype != b.dtype:
        return ValueDifference(a.elements, a.elements, a.elements, None, None, None, (0, 0), 0, None)
    pairs = list(zip(string_values(a), string_values(b), strict=True))
    differ = [i for i, (one, two) in enumerate(pairs) if one != two]
    worst = None
    if differ:
        one, two = (repr(value[:80]) for value in pairs[differ[0]])
        worst = Place(_index(differ[0], a.shape), one, two)
    return ValueDifference(len(pairs), len(differ), len(differ), None, None, None, (0, 0), 0, worst)


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape)) if shape else ()


class _Tally:
    """What is known after some pieces: the running sums of a `ValueDifference`."""

    def __init__(self, a: TensorEntry, b: TensorEntry, tolerance: Tolerance | None) -> None:
        self.a, self.b, self.tolerance = a, b, tolerance
        self.parts = 2 if "complex" in (a.dtype.kind, b.dtype.kind) else 1
        self.seen = self.bits = self.beyond = self.one_sided = 0
        self.nan_a = self.nan_b = 0
        self.distance = self.largest = self.squares = self.reference = 0.0
        self.rank = -1.0
        self.worst: Place | None = None

    def add(self, one: Array, two: Array) -> None:
        """The next elements of both."""
        x, y = self._real(one, self.a.dtype), self._real(two, self.b.dtype)
        nan_x, nan_y = np.isnan(x), np.isnan(y)
        both = np.isfinite(x) & np.isfinite(y)
        equal = (x == y) | (nan_x & nan_y)
        odd = ~both & ~equal
        with np.errstate(invalid="ignore", over="ignore"):
            delta = np.where(both, np.abs(x - y), 0)
        other = self._other_bits(one, two) if self.a.dtype == self.b.dtype else ~equal
        self.bits += int(np.count_nonzero(other))
        self.beyond += int(np.count_nonzero(self._outside(x, delta, odd, other)))
        self.one_sided += int(np.count_nonzero(odd))
        self.nan_a += int(np.count_nonzero(nan_x))
        self.nan_b += int(np.count_nonzero(nan_y))
        self._sums(x, delta)
        self._place(x, y, delta, odd, other)
        self.seen += x.size

    def _real(self, values: Array, dtype: DType) -> Array:
        """The values as real numbers; where the other side is complex, each with an imaginary part of 0."""
        numbers = exact(values, dtype)
        if self.parts == 1 or dtype.kind == "complex":
            return numbers
        return numbers.astype(np.complex128).view(np.float64)

    def _other_bits(self, one: Array, two: Array) -> Array:
        if self.parts == 2:
            one, two = one.view(one.real.dtype), two.view(two.real.dtype)
        return np.asarray(raw(one) != raw(two))

    def _outside(self, x: Array, delta: Array, odd: Array, other: Array) -> Array:
        if self.tolerance is None:
            return other
        allowed = self.tolerance.absolute + self.tolerance.relative * np.where(np.isfinite(x), np.abs(x), 0)
        return np.asarray(odd | (delta > allowed))

    def _sums(self, x: Array, delta: Array) -> None:
        finite = np.where(np.isfinite(x), np.abs(x), 0)
        self.largest = max(self.largest, float(finite.max(initial=0)))
        self.distance = max(self.distance, float(delta.max(initial=0)))
        with np.errstate(over="ignore"):
            self.reference += float(np.square(finite).sum())
            self.squares += float(np.square(delta).sum())

    def _place(self, x: Array, y: Array, delta: Array, odd: Array, other: Array) -> None:
        """Keep the worst place so far: one-sided, then farthest, then of other bits only."""
        rank, found = next(self._candidates(delta, odd, other), (-1.0, 0))
        if rank > self.rank:
            self.rank = rank
            at = (self.seen + found) // self.parts
            self.worst = Place(_index(at, self.a.shape), _python(x[found]), _python(y[found]))

    def _candidates(self, delta: Array, odd: Array, other: Array) -> Iterator[tuple[float, int]]:
        if odd.any():
            yield inf, int(np.argmax(odd))
        if delta.any():
            at = int(np.argmax(delta))
            yield float(delta[at]), at
        if other.any():
            yield 0.0, int(np.argmax(other))

    def result(self) -> ValueDifference:
        """The facts over all that was added."""
        return ValueDifference(
            count=self.seen,
            bits=self.bits,
            beyond=self.beyond,
            max_abs=self.distance,
            max_relative=_over(self.distance, self.largest),
            l2_relative=_over(sqrt(self.squares), sqrt(self.reference)),
            nan=(self.nan_a, self.nan_b),
            one_sided=self.one_sided,
            worst=self.worst,
        )


def _over(part: float, whole: float) -> float:
    return part / whole if whole else (inf if part else 0.0)


def _python(value: Any) -> float:
    number = float(value)
    return int(value) if np.isfinite(value) and number.is_integer() and abs(number) >= 2**53 else number
