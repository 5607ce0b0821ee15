"""A storage in another floating dtype: the one operation that rounds, and only when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from porting.checkpoint.dtypes import DType
from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.pieces import storage_pieces
from porting.checkpoint.scratch import Scratch
from porting.checkpoint.storage import Array, Box, Storage


@dataclass(frozen=True, slots=True)
class Cast:
    """Rounds to nearest even, as numpy and ml_dtypes do.

    overflowed: one count per piece of finite values that became infinite or NaN, as the pieces pass.
    """

    inner: Storage
    shape: tuple[int, ...]
    source: DType
    dtype: DType
    overflowed: list[int] = field(default_factory=list, compare=False)

    def read(self, box: Box = ()) -> Array:
        return self._rounded(self.inner.read(box))

    def _rounded(self, values: Array) -> Array:
        """Eight bits and fewer go by float32, which holds them exactly: ml_dtypes has no cast between some of them."""
        import numpy as np

        exact = values.astype(np.float32) if self.source.bits <= 8 else values
        with np.errstate(all="ignore"):
            return exact.astype(self.dtype.numpy())

    def pieces(self, piece: int, at: int = 0) -> Iterator[memoryview]:
        """The bytes in order."""
        import numpy as np

        carrier = self.source.numpy()
        with Scratch() as scratch:
            for part in storage_pieces(self.inner, self.shape, self.source.itemsize, piece, keep=True):
                values = np.frombuffer(part, carrier)
                rounded = self._rounded(values)
                lost = int(np.count_nonzero(np.isfinite(values) & ~np.isfinite(rounded)))
                if lost:
                    self.overflowed.append(lost)
                placed = scratch.take(rounded.nbytes, at)
                placed[:] = rounded.view(np.uint8).data
                yield placed
                at += len(placed)

    def release(self) -> None:
        self.inner.release()


def cast(entry: TensorEntry, dtype: DType) -> TensorEntry:
    """The entry in that dtype if both are floating, unchanged otherwise: integers and strings are never cast."""
    if entry.dtype.kind != "float" or dtype.kind != "float" or entry.dtype == dtype:
        return entry
    storage = Cast(entry.storage, entry.shape, entry.dtype, dtype)
    return TensorEntry(entry.name, entry.shape, dtype, storage, entry.place, entry.tied)
