"""A tensor of the target, addressed in tensors of the source: what a rule looks like when it runs.

Nothing is copied until a piece is asked for, and then only the piece. All work is done on unfolded
axes, one per label: folding is a matter of the shape that is written down, not of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import NamedTuple

from porting.checkpoint.dtypes import DType
from porting.checkpoint.pieces import HELD, row_boxes, storage_pieces
from porting.checkpoint.scratch import Scratch
from porting.checkpoint.storage import Array, Box, Mapped, Storage
from porting.checkpoint.strided import LARGER, bands


class Part(NamedTuple):
    """One source tensor's share.

    shape: of the stored tensor. dims: its size per label, unfolded (their product equals that of shape).
    taken: per label, the one element taken (a split) or None for all.
    order: which of the labels that are left comes first, second … in the target.
    """

    storage: Storage
    shape: tuple[int, ...]
    dims: tuple[int, ...]
    taken: tuple[int | None, ...]
    order: tuple[int, ...]

    def read(self, box: Box) -> Array:
        """The box, one slice per label that is left in the target's order."""
        free = [i for i, at in enumerate(self.taken) if at is None]
        want: list[slice] = [slice(None) if at is None else slice(at, at + 1) for at in self.taken]
        for position, part in zip(self.order, box, strict=False):
            want[free[position]] = part
        if self.dims == self.shape:
            taken = self.storage.read(tuple(want))
        else:
            taken = self.storage.read().reshape(self.dims)[tuple(want)]
        kept = taken.reshape([n for n, at in zip(taken.shape, self.taken, strict=True) if at is None])
        return kept.transpose(self.order)

    def mapped(self) -> Mapped | None:
        """The same as a view of the file, if it lies in one."""
        base = self.storage
        if not isinstance(base, Mapped) or not (base.row_major or self.dims == self.shape):
            return None
        unfolded = base if self.dims == self.shape else Mapped(base.file, base.offset, self.dims, base.dtype)
        taken = unfolded.part([slice(None) if at is None else slice(at, at + 1) for at in self.taken])
        free = [i for i, at in enumerate(self.taken) if at is None]
        return taken.permuted([free[position] for position in self.order])


class Arranged(NamedTuple):
    """A storage made of parts.

    dims: size per label of the target, unfolded, outermost first; shape: as written.
    stacked: which of the dims run over parts; the parts stand in row-major order over them.
    """

    parts: tuple[Part, ...]
    dims: tuple[int, ...]
    shape: tuple[int, ...]
    stacked: tuple[int, ...]
    dtype: DType

    def read(self, box: Box = ()) -> Array:
        """The box of the target's own (folded) axes. Folded axes are read whole and cut."""
        if self.dims == self.shape:
            return self.read_unfolded(box)
        return self.read_unfolded(()).reshape(self.shape)[box]

    def read_unfolded(self, box: Box) -> Array:
        """A box with one slice per label: a view where one part covers it, a copy otherwise."""
        if not self.stacked:
            return self.parts[0].read(box)
        import numpy as np

        from porting.checkpoint.tiles import raw

        full = [slice(*part.indices(n)[:2]) for part, n in zip(box, self.dims, strict=False)]
        full += [slice(0, n) for n in self.dims[len(full) :]]
        inner = tuple(part for i, part in enumerate(full) if i not in self.stacked)
        ranges = [range(full[i].start, full[i].stop) for i in self.stacked]
        strides = [prod(self.dims[i] for i in self.stacked[k + 1 :]) for k in range(len(self.stacked))]
        if all(len(r) == 1 for r in ranges):
            part = self.parts[sum(r[0] * s for r, s in zip(ranges, strides, strict=True))]
            return np.expand_dims(part.read(inner), self.stacked)
        out = np.empty([part.stop - part.start for part in full], self.dtype.numpy())
        target = raw(out)
        for at in product(*ranges):
            where = [slice(None)] * len(self.dims)
            for i, k, r in zip(self.stacked, at, ranges, strict=True):
                where[i] = slice(k - r.start, k - r.start + 1)
            part = self.parts[sum(k * s for k, s in zip(at, strides, strict=True))]
            target[tuple(where)] = np.expand_dims(raw(part.read(inner)), self.stacked)
        return out

    def pieces(self, piece: int, at: int = 0) -> Iterator[memoryview]:
        """The bytes in order, about `piece` at a time; each is there until the next is asked for, or none any more.

        A transpose reads short runs of many rows, and the system maps whole neighbourhoods of each.
        So large ones take larger pieces, and give their pages back after every band of source rows.
        """
        if not all(self.dims):
            return
        view = None if self.stacked else self.parts[0].mapped()
        if view is not None:
            yield from storage_pieces(view, view.shape, view.dtype.itemsize, piece, at=at)
            return
        from porting.checkpoint.tiles import pack

        large = prod(self.dims) * self.dtype.itemsize > HELD
        with Scratch() as scratch:
            for box in row_boxes(self.dims, self.dtype.itemsize, piece * LARGER if large else piece):
                part = self.read_unfolded(box)
                out = None if part.flags.c_contiguous else scratch.take(part.nbytes, at)
                if large and out is not None:
                    self._in_bands(part, out)
                    yield out
                else:
                    yield pack(part, out)
                at += part.nbytes

    def _in_bands(self, part: Array, out: memoryview) -> None:
        """Pack the part into `out` in bands, releasing after each."""
        import numpy as np

        from porting.checkpoint.tiles import copy, raw

        source = raw(part)
        target = np.frombuffer(out, source.dtype).reshape(source.shape)
        for band in bands(source.shape, [abs(step) for step in source.strides]):
            copy(target[band], source[band])
            self.release()

    def release(self) -> None:
        for part in self.parts:
            part.storage.release()
