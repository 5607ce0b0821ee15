"""One pass over a tensor: its hash, its size in numbers, its sketch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xxhash

from porting.checkpoint.dtypes import from_numpy
from porting.parity.capture import Section, Summary
from porting.parity.sketch import BUCKETS, TILE, add, encode
from porting.parity.widen import float_of

Array = np.ndarray[Any, np.dtype[Any]]

CHUNK = 4 * TILE
"""Elements taken at a time: a megabyte of float32, which stays in a core's own cache between the steps."""


def tensor_hash(data: Array) -> str:
    """xxh3_128 of an array's bytes, as summaries have it. data: contiguous."""
    return f"xxh3_128:{xxhash.xxh3_128_hexdigest(data.reshape(-1).view(np.uint8).data)}"


def summarise(
    section: Section, name: str, array: Array, *, sketch: bool, stored: bool = False, out: Callable[[Array], None]
) -> Summary:
    """Summarise a contiguous little-endian array. out: is given its bytes, piece by piece, in order."""
    flat = array.reshape(-1)
    digest, buckets = xxhash.xxh3_128(), np.zeros(BUCKETS)
    square = total = largest = 0.0
    nan = inf = 0
    wide = np.empty(min(CHUNK, flat.size), np.float64)
    for at in range(0, flat.size, CHUNK):
        piece = flat[at : at + CHUNK]
        data = piece.view(np.uint8)
        digest.update(data.data)
        out(data)
        values, (nans, infs) = finite(float_of(piece))
        nan, inf = nan + nans, inf + infs
        now = wide[: values.size]
        np.copyto(now, values)
        square += float(np.dot(now, now))
        total += float(now.sum())
        largest = max(largest, float(now.max()), -float(now.min()))
        if sketch:
            add(buckets, values, at)
    count = flat.size - nan - inf
    return Summary(
        section,
        name,
        tuple(array.shape),
        from_numpy(array.dtype).name,
        "xxh3_128:" + digest.hexdigest(),
        l2=square**0.5,
        largest=largest,
        mean=total / count if count else 0.0,
        nan=nan,
        inf=inf,
        stored=stored,
        sketch=encode(buckets) if sketch else "",
    )


def finite(values: Array) -> tuple[Array, tuple[int, int]]:
    """The values with zeros for what is not finite, and the counts of NaN and of infinities. Copies only then."""
    good = np.isfinite(values)
    if good.all():
        return values, (0, 0)
    nan = int(np.isnan(values).sum())
    return np.where(good, values, 0), (nan, int(values.size - good.sum()) - nan)
