"""Measures of a pair of tensors: one pass over pieces that stay in a core's cache, sums in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import inf, isfinite, nan, prod, sqrt
from typing import Any, Literal

import numpy as np

from porting.parity.capture import Summary
from porting.parity.deviation import Deviation
from porting.parity.divergence import divergences
from porting.parity.hidden import apart, hidden_from
from porting.parity.histogram import LogHistogram
from porting.parity.sketch import decode
from porting.parity.ulp import distances, is_floating
from porting.parity.widen import float_of

Array = np.ndarray[Any, np.dtype[Any]]
Measures = Literal["core", "all"]
Seen = Callable[[Array, Array], None]

PIECE = 1 << 18
"""Elements taken at a time: with two float64 buffers, six megabytes in float32. With less, threads wait for Python's
lock; with more, the buffers leave a core's cache."""

_EVERY = 7
"""Of a full piece, each seventh element counts for p95 and the mean ULP: 37,000 of them say as much as 262,144, and all
measures cost a third less. Seven divides no width of a model, so the elements are of all columns."""

_RUN = 1 << 13
"""Elements of a dot product. OpenBLAS, numpy's, takes threads for more than 10,000 and lets them wait for each other,
which on a busy machine made a comparison four times slower."""


def deviation(
    source: Array, target: Array, *, logits: bool = False, measures: Measures = "all", seen: Seen | None = None
) -> Deviation:
    """Measure what target deviates from source.

    source, target: of one shape, memory maps or arrays of any real dtypes. logits: rows of the last axis are those of a
    softmax. measures: `core` leaves out mean and p95, ULP and KL. seen: is given each two flat pieces before
    they are measured. What a mask has hidden is measured apart (`porting.parity.hidden`). Squares are summed as they
    are: of float64 values beyond 1e154 they are infinite.
    Raises: ValueError for different shapes.
    """
    if source.shape != target.shape:
        raise ValueError(f"wanted two tensors of one shape, got {source.shape} and {target.shape}")
    a, b = np.ascontiguousarray(source).reshape(-1), np.ascontiguousarray(target).reshape(-1)
    classes = source.shape[-1] if logits and source.ndim and source.size else 1
    step = max(PIECE // classes, 1) * classes

    def pieces(tell: Seen | None) -> Iterator[tuple[Array, Array]]:
        for at in range(0, a.size, step):
            one, two = a[at : at + step], b[at : at + step]
            if tell is not None:
                tell(one, two)
            yield one, two

    def measured(some: Iterable[tuple[Array, Array]]) -> Deviation:
        return deviation_of(some, source.shape, classes=classes if logits else 0, measures=measures)

    whole = measured(pieces(seen))
    limit = None if whole.bitwise else hidden_from(a)
    if limit is None:
        return whole
    split = apart(lambda: pieces(None), limit, measured)
    return replace(split, nan=whole.nan, inf=whole.inf, unlike=whole.unlike, norm_ratio=whole.norm_ratio)


def deviation_of(
    pieces: Iterable[tuple[Array, Array]], shape: tuple[int, ...], *, classes: int = 0, measures: Measures = "all"
) -> Deviation:
    """Measure tensors that come in flat pieces of source and target, in order; together they have this shape.

    classes: of logits, whose rows the pieces then hold whole; 0 for what is none.
    """
    sums = _Sums(measures == "all", classes if classes > 1 and measures == "all" else 0)
    buffers = np.empty((2, 0))
    with np.errstate(over="ignore", invalid="ignore"):
        for one, two in pieces:
            if one.size > buffers.shape[1]:
                buffers = np.empty((2, one.size))
            sums.add(one, two, buffers[:, : one.size])
    return sums.deviation(shape)


@dataclass(slots=True)
class _Sums:
    """What has been found so far.

    square: of source, target and difference. worst: flat index of the largest difference, and both values there.
    """

    everything: bool
    classes: int
    elements: int = 0
    ulp: bool = True
    square: Array = field(default_factory=lambda: np.zeros(3))
    scale: float = 0.0
    largest: float = -1.0
    worst: tuple[int, float, float] = (0, 0.0, 0.0)
    total: float = 0.0
    sizes: LogHistogram = field(default_factory=LogHistogram)
    ulps: float = 0.0
    most_ulps: int = 0
    nan: Array = field(default_factory=lambda: np.zeros(2, np.int64))
    inf: Array = field(default_factory=lambda: np.zeros(2, np.int64))
    left_out: int = 0
    unlike: int = 0
    rows: list[Array] = field(default_factory=list)
    equal: bool = True

    def add(self, one: Array, two: Array, buffers: Array) -> None:
        """Take the next two flat pieces. buffers: (2, elements) float64."""
        s, t = buffers
        values = float_of(one)
        np.copyto(s, values)
        np.copyto(t, float_of(two))
        if self.classes:
            self.rows.append(divergences(s.reshape(-1, self.classes), t.reshape(-1, self.classes)))
        squares = _dot(s, s), _dot(t, t)
        good = None
        if not isfinite(sum(squares)):
            good, values = self._set_aside(s, t), s
            squares = _dot(s, s), _dot(t, t)
        self.scale = max(self.scale, float(values.max()), -float(values.min()))
        np.subtract(t, s, out=t)
        apart = _dot(t, t)
        self.square += (*squares, apart)
        self.equal = self.equal and not apart and one.tobytes() == two.tobytes()
        np.abs(t, out=t)
        self._largest(one, two, t, good)
        if self.everything:
            self._extras(one, two, t, s, good)
        self.elements += one.size

    def _set_aside(self, s: Array, t: Array) -> Array:
        """Count what is not finite and put zeros there. Returns which elements are finite on both sides."""
        for side, values in enumerate((s, t)):
            self.nan[side] += np.isnan(values).sum()
            self.inf[side] += np.isinf(values).sum()
        good: Array = np.isfinite(s) & np.isfinite(t)
        same = (s == t) | (np.isnan(s) & np.isnan(t))
        self.left_out += int((~good).sum())
        self.unlike += int((~good & ~same).sum())
        s[~good] = t[~good] = 0
        return good

    def _largest(self, one: Array, two: Array, apart: Array, good: Array | None) -> None:
        """apart: |difference|, zero where an element does not count."""
        here = int(apart.argmax())
        if apart[here] > self.largest:
            if good is not None and not good[here]:  # all that counts is zero here: show an element that counts
                if not good.any():
                    return
                here = int(good.argmax())
            self.largest = float(apart[here])
            self.worst = self.elements + here, float(one[here]), float(two[here])

    def _extras(self, one: Array, two: Array, apart: Array, scratch: Array, good: Array | None) -> None:
        self.total += float(apart.sum())
        every = _EVERY if apart.size == PIECE else 1
        counted = apart if good is None else apart[good]
        self.sizes.add(counted[::every], every)
        self.ulp = self.ulp and one.dtype == two.dtype and is_floating(one.dtype)
        if self.ulp:
            total, most = distances(one, two, good, every=every, scratch=scratch)
            self.ulps += total
            self.most_ulps = max(self.most_ulps, most)

    def deviation(self, shape: tuple[int, ...]) -> Deviation:
        """The measures."""
        ss, tt, dd = (float(x) for x in self.square)
        count = self.elements - self.left_out
        most = max(self.largest, 0.0)
        place, *values = self.worst
        index = tuple(int(i) for i in np.unravel_index(place, shape)) if self.largest >= 0 else ()
        found = Deviation(
            elements=self.elements,
            rel_l2=ratio(sqrt(dd), sqrt(ss)),
            norm_ratio=ratio(sqrt(tt), sqrt(ss), both_zero=1.0),
            l2=sqrt(dd),
            cosine=_cosine(ss, tt, dd),
            max_abs=most,
            max_rel=ratio(most, self.scale),
            nan=(int(self.nan[0]), int(self.nan[1])),
            inf=(int(self.inf[0]), int(self.inf[1])),
            unlike=self.unlike,
            worst=(index, values[0], values[1]) if self.largest >= 0 else None,
            bitwise=self.equal,
        )
        return self._with_extras(found, count) if self.everything else found

    def _with_extras(self, found: Deviation, count: int) -> Deviation:
        rows = np.concatenate(self.rows) if self.rows else np.empty(0)
        mean = self.total / count if count else 0.0
        p95 = min(self.sizes.quantile(0.95), found.max_abs or 0.0)
        return replace(
            found,
            mean_rel=ratio(mean, self.scale),
            p95_rel=ratio(p95, self.scale),
            mean_ulp=(self.ulps / count if count else 0.0) if self.ulp else None,
            max_ulp=self.most_ulps if self.ulp else None,
            kl_mean=float(rows.mean()) if rows.size else None,
            kl_p95=float(np.quantile(rows, 0.95)) if rows.size else None,
        )


def _dot(a: Array, b: Array) -> float:
    whole = a.size - a.size % _RUN
    runs = np.matmul(a[:whole].reshape(-1, 1, _RUN), b[:whole].reshape(-1, _RUN, 1))
    return float(runs.sum() + np.dot(a[whole:], b[whole:]))


def _cosine(ss: float, tt: float, dd: float) -> float:
    """Of the angle between s and t, from the squares of both and of their difference (the law of cosines).

    Its error is that of float64 times the ratio of the norms, so it is not given beyond 1e6.
    """
    if not ss or not tt or not isfinite(ss + tt) or not 1e-12 < tt / ss < 1e12:
        return nan
    return max(-1.0, min(1.0, (ss + tt - dd) / 2 / sqrt(ss) / sqrt(tt)))


def ratio(part: float, whole: float, *, both_zero: float = 0.0) -> float:
    """One over the other; infinite where only the whole is zero."""
    if whole:
        return part / whole
    return inf if part else both_zero


def identical(summary: Summary) -> Deviation:
    """The deviation of a tensor from one with the same bytes."""
    return Deviation(
        elements=prod(summary.shape),
        rel_l2=0.0,
        norm_ratio=1.0,
        max_abs=0.0,
        max_rel=0.0,
        nan=(summary.nan, summary.nan),
        inf=(summary.inf, summary.inf),
        bitwise=True,
    )


def estimate(source: Summary, target: Summary) -> Deviation:
    """The deviation of two tensors of one shape, of which nothing but summaries is known.

    The relative L2 is that of the sketches: see `porting.parity.sketch` for its standard error. Their float32 buckets
    cannot tell less than 1e-7 from zero.
    Raises: ValueError for different shapes, or a summary without a sketch.
    """
    if source.shape != target.shape:
        raise ValueError(f"wanted two tensors of one shape, got {source.shape} and {target.shape}")
    if (source.hash, source.dtype) == (target.hash, target.dtype):
        return identical(source)
    return estimated(source, target, (decode(source.sketch), decode(target.sketch)))


def estimated(source: Summary, target: Summary, sketches: tuple[Array, Array]) -> Deviation:
    """The deviation by sketches that were made or read elsewhere."""
    a, b = sketches
    apart = float(np.linalg.norm(b - a))
    return Deviation(
        elements=prod(source.shape),
        rel_l2=ratio(apart, source.l2),
        norm_ratio=ratio(target.l2, source.l2, both_zero=1.0),
        l2=apart,
        nan=(source.nan, target.nan),
        inf=(source.inf, target.inf),
        estimated=True,
    )
