"""Do two tensors hold the same bits? Streamed, whatever storages they lie in."""

from __future__ import annotations

from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.pieces import entry_pieces, in_step


def string_values(entry: TensorEntry) -> list[bytes]:
    """The elements of a string tensor, row-major; text as UTF-8."""
    return [v.encode() if isinstance(v, str) else bytes(v) for v in entry.read().reshape(-1).tolist()]


def equal_bits(one: TensorEntry, two: TensorEntry) -> bool:
    """Equal shape, dtype and bits: NaN equals itself, and -0.0 differs from 0.0. Stops at the first difference."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    if one.dtype.kind == "string":
        return string_values(one) == string_values(two)
    # Copied while they are in the cache: bytes are compared as words, what a memoryview shows one by one.
    return all(bytes(a) == bytes(b) for a, b in in_step(entry_pieces(one), entry_pieces(two)))
