"""Tensors stored in the other byte order, swapped box by box as they are read."""

from __future__ import annotations

from typing import NamedTuple

from porting.checkpoint.dtypes import DType
from porting.checkpoint.storage import Array, Box, Storage


class Swapped(NamedTuple):
    """Another storage with the bytes of every element reversed; complex ones part by part."""

    inner: Storage
    dtype: DType

    def read(self, box: Box = ()) -> Array:
        import numpy as np

        part = self.inner.read(box)
        width = self.dtype.itemsize // (2 if self.dtype.kind == "complex" else 1)
        raw = np.ascontiguousarray(part).reshape(-1).view(np.dtype(f"u{width}")).byteswap()
        return raw.view(self.dtype.numpy()).reshape(part.shape)

    def release(self) -> None:
        self.inner.release()
