"""A strided view of a mapped file, brought into row-major order a piece at a time.

`_strided.c` does the work, in less time than numpy's copies take, and without numpy, whose import takes a tenth of
BERT-large's conversion. Where the kit was installed without a C compiler, numpy does the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from math import prod
from typing import Any

from porting.checkpoint.pieces import HELD, PIECE, row_boxes
from porting.checkpoint.scratch import Scratch
from porting.checkpoint.storage import Array, Box, Mapped, contiguous_strides

kernel: Any
"""The compiled module; None where there is none."""
try:
    kernel = import_module("porting.checkpoint._strided")
except ImportError:
    kernel = None

LARGER = 4
"""How many times the usual piece is moved at once of a tensor of which only a band is held."""


def strided_pieces(view: Mapped, piece: int = PIECE, at: int = 0) -> Iterator[memoryview]:
    """The bytes in row-major order, about `piece` at a time; each is there until the next is asked for.

    A transpose reads short runs of many rows, and the system maps whole neighbourhoods of each. So of a large tensor
    larger pieces are taken, and its pages given back after every band of source rows.
    at: where in a file they will stand: see Scratch.
    Raises: FormatError if the file has become shorter.
    """
    width = view.dtype.itemsize
    large = prod(view.shape) * width > HELD
    with Scratch() as scratch, Scratch() as tiles:
        for box in row_boxes(view.shape, width, piece * LARGER if large else piece):
            part = view.part(box)
            strides = contiguous_strides(part.shape, width)
            out = scratch.take(prod(part.shape) * width, at)
            for band in bands(part.shape, part.steps) if large else ((),):
                offset = sum(one.start * stride for one, stride in zip(band, strides, strict=False))
                _copy(out, offset, strides, part.part(band), tiles)
                if large:
                    view.release()
            yield out
            at += len(out)


def bands(shape: Sequence[int], steps: Sequence[int], box: Box | None = None) -> Iterator[Box]:
    """Boxes of a view, cut along its longest strides, each of which spans HELD bytes of the file or little more.

    steps: the view's strides in bytes. box: only of this part of it.
    """
    whole = tuple(slice(0, n) for n in shape) if box is None else box
    strides = [step if part.stop - part.start > 1 else 0 for part, step in zip(whole, steps, strict=True)]
    axis = max(range(len(strides)), key=strides.__getitem__)
    rows = max(1, HELD // max(1, strides[axis]))
    for start in range(whole[axis].start, whole[axis].stop, rows):
        one = (*whole[:axis], slice(start, min(start + rows, whole[axis].stop)), *whole[axis + 1 :])
        if strides[axis] > HELD:
            yield from bands(shape, steps, one)
        else:
            yield one


def _copy(out: memoryview, offset: int, strides: tuple[int, ...], view: Mapped, tiles: Scratch) -> None:
    """The elements of the view, to places in `out` that lie so far apart."""
    width = view.dtype.itemsize
    source = view.file.still(view.offset, view.extent, f"tensor at offset {view.offset}")
    if kernel is not None:
        kernel.copy(out, offset, strides, source, 0, view.steps, view.shape, width, tiles.take(kernel.SCRATCH, 0))
        return
    import numpy as np

    from porting.checkpoint.tiles import copy

    carrier = np.dtype(f"V{width}") if width > 8 else np.dtype(f"u{width}")
    target: Array = np.ndarray(view.shape, carrier, buffer=out, offset=offset, strides=strides)
    copy(target, np.ndarray(view.shape, carrier, buffer=source, strides=view.steps))
