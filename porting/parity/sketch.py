"""Count sketches: a tensor of any size in 1021 numbers, from which the norm of a difference can be estimated.

Every element is added to one bucket with a sign, both drawn from its flat index alone (Charikar, Chen and
Farach-Colton, Finding frequent items in data streams, 2002), so the sketch of a difference is the difference of the
sketches, and the squared norm of a sketch is, on average over the signs, that of the tensor. Its relative standard
error is sqrt(2 / 1021) = 4.4 % of the square, 2.2 % of the norm, where the weight is spread over the buckets.

The draw is made to be fast: a tile of 64 rows of 1021 elements, a prime, goes to the buckets column by column under
one table of signs, and is then rotated by the tile's own shift and given its own sign. A stripe of a tensor (one hidden
unit in every token) meets another bucket in every row, because no size that models have is a multiple of 1021; only
what repeats every 1021 elements is estimated badly. A tensor of up to 1021 elements has a bucket for each: there the
estimate is exact.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

BUCKETS = 1021
ROWS = 64
TILE = ROWS * BUCKETS
"""Elements that share a shift and a sign."""

_SHIFTS, _SIGNS = 1 << 62, 1 << 63


def mixed(numbers: Array) -> Array:
    """uint64 hashed to uint64: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    x = (numbers + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: Array = x ^ (x >> np.uint64(31))
    return result


def _signs(first: int, count: int, domain: int) -> Array:
    """+1 and -1, float64. domain: keeps draws for different purposes apart."""
    return 1.0 - 2.0 * (mixed(np.arange(first, first + count, dtype=np.uint64) + np.uint64(domain)) & np.uint64(1))


_TABLE = {np.dtype(kind): _signs(0, TILE, _SIGNS).reshape(ROWS, BUCKETS).astype(kind) for kind in ("f4", "f8")}


def add(sketch: Array, elements: Array, first: int) -> None:
    """Add elements to a sketch in place.

    sketch: (1021,) float64. elements: flat, finite, float32 or float64. first: flat index of the first of them in its
    tensor, a multiple of TILE.
    """
    if first % TILE:
        raise ValueError(f"wanted the index of a tile's first element, got {first}")
    tiles, rest = divmod(elements.size, TILE)
    if tiles:
        _add_tiles(sketch, elements[: tiles * TILE].reshape(tiles, ROWS, BUCKETS), first // TILE)
    if rest:
        last = np.zeros((1, -(-rest // BUCKETS), BUCKETS), elements.dtype)
        last.reshape(-1)[:rest] = elements[tiles * TILE :]
        _add_tiles(sketch, last, first // TILE + tiles)


def _add_tiles(sketch: Array, tiles: Array, first: int) -> None:
    """tiles: (count, rows, buckets), of the last one only the rows that there are. first: number of the first."""
    columns = np.einsum("trb,rb->tb", tiles, _TABLE[tiles.dtype][: tiles.shape[1]]).astype(np.float64)
    columns *= _signs(first, len(tiles), 0)[:, None]
    shifts = mixed(np.arange(first, first + len(tiles), dtype=np.uint64) + np.uint64(_SHIFTS)) % np.uint64(BUCKETS)
    for column, shift in zip(columns, shifts.tolist(), strict=True):
        sketch[shift:] += column[: BUCKETS - shift]
        sketch[:shift] += column[BUCKETS - shift :]


def sketch_of(array: Array) -> Array:
    """The sketch of a float32 or float64 array, (1021,) float64.

    >>> a, b = np.arange(5.0), np.ones(5)
    >>> float(np.linalg.norm(sketch_of(a) - sketch_of(b))) == float(np.linalg.norm(a - b))
    True
    """
    sketch = np.zeros(BUCKETS)
    add(sketch, np.ascontiguousarray(array).reshape(-1), 0)
    return sketch


def encode(sketch: Array) -> str:
    """Base64 of little-endian float32; values beyond its range become infinite."""
    with np.errstate(over="ignore"):
        return base64.b64encode(sketch.astype("<f4").tobytes()).decode("ascii")


def decode(text: str) -> Array:
    """The sketch again, float64. Raises: ValueError for what is none."""
    values = np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float64)
    if values.shape != (BUCKETS,):
        raise ValueError(f"wanted {BUCKETS} buckets, got {values.size}")
    return values
