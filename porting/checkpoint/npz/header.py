"""The header of a .npy file: parsed by its fixed notation, never evaluated.

Reference: numpy/lib/format.py, "Format Version 1.0" to 3.0.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from porting.checkpoint.dtypes import DTYPES, DType, Kind
from porting.checkpoint.shape import checked_shape
from porting.errors import FormatError

MAGIC = b"\x93NUMPY"

LIMIT = 65536
"""Bytes of a header at most."""

_USUAL = 128
"""Bytes of the headers of nearly all arrays."""

_ALIGNMENT = 64

_HEADER = re.compile(
    r"\s*\{\s*'descr'\s*:\s*(?P<descr>'[^']*'|\[.*\])\s*,\s*'fortran_order'\s*:\s*(?P<order>True|False)\s*,"
    r"\s*'shape'\s*:\s*\((?P<shape>[0-9, L]*)\)\s*,?\s*\}\s*",
    re.DOTALL,
)

_KINDS: dict[str, Kind] = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
_LETTERS = {kind: letter for letter, kind in _KINDS.items()}


class Header(NamedTuple):
    """What a .npy file says of its array.

    dtype: of the elements; `string` for fixed-width text.
    width: bytes of an element in the file.
    letter: numpy's kind of it (f, i, u, c, b, S, U or V).
    swapped: whether its bytes are in big-endian order.
    fortran: whether the first axis varies fastest.
    size: bytes of the header, so the offset of the data.
    """

    dtype: DType
    width: int
    letter: str
    swapped: bool
    fortran: bool
    shape: tuple[int, ...]
    size: int


def parse(take: Callable[[int], bytes], path: Path, place: str, note: str) -> Header:
    """The header at the beginning of a file.

    take: the first so many bytes of the file, or as many as there are.
    note: the dtype's name where the file itself cannot tell it (see `npz`), or "".
    Raises: FormatError naming `path` and `place`.
    """
    opening = take(_USUAL)
    if not opening.startswith(MAGIC) or len(opening) < 10:
        raise FormatError(path, place, "is not a .npy file")
    version = opening[6]
    if not 1 <= version <= 3:
        raise FormatError(path, place, f"wanted .npy version 1 to 3, got {version}")
    begin = 10 if version == 1 else 12
    if len(opening) < begin:
        raise FormatError(path, place, "its header is cut off")
    length = int.from_bytes(opening[8:begin], "little")
    if length > LIMIT:
        raise FormatError(path, place, f"wanted a header of at most {LIMIT} bytes, got {length}")
    size = begin + length
    text = (opening if size <= len(opening) else take(size))[begin:size]
    if len(text) < length:
        raise FormatError(path, place, "its header is damaged")
    try:
        described = _described(text, "utf-8" if version == 3 else "latin-1", note)
    except ValueError as error:
        raise FormatError(path, place, str(error)) from None
    dtype, width, letter, swapped, fortran, sizes = described
    shape = checked_shape(sizes, max(width, dtype.itemsize), path, place)
    return Header(dtype, width, letter, swapped, fortran, shape, size)


@lru_cache(256)
def _described(text: bytes, encoding: str, note: str) -> tuple[DType, int, str, bool, bool, tuple[int, ...]]:
    """Dtype, width in the file, numpy's letter, whether it is big-endian, Fortran order, sizes as they stand there.

    A model has many arrays of one shape. Raises: ValueError saying what is wrong.
    """
    match = _HEADER.fullmatch(text.decode(encoding, "replace"))
    if match is None:
        raise ValueError("its header is damaged")
    described = _dtype(match["descr"], note)
    sizes = re.findall(r"\d+", match["shape"])
    if any(len(size) > 19 for size in sizes):
        raise ValueError("its header is damaged: a shape beyond 64 bits")
    return *described, match["order"] == "True", tuple(map(int, sizes))


def _dtype(descr: str, note: str) -> tuple[DType, int, str, bool]:
    """Dtype, width in the file, numpy's letter, whether it is big-endian. Raises: ValueError saying what is wrong."""
    match = re.fullmatch(r"'([<>|=]?)([biufcSUVOmM])(\d{0,9})(?:\[.*)?'", descr)
    if match is None:
        raise ValueError(f"a structured array or an unknown type: {descr[:60]}")
    order, letter, digits = match[1], match[2], match[3]
    if letter == "O":
        raise ValueError("an array of Python objects: it is a pickle, and pickles are never run")
    if letter in "mM":
        raise ValueError(f"dates have no place in a checkpoint: {descr[:60]}")
    width = int(digits or 0) * (4 if letter == "U" else 1)
    if letter in "SU":
        return DTYPES["string"], width, letter, order == ">"
    # numpy spells ml_dtypes' types as untyped bytes, or as floats that it has not: <V2, <f1.
    name = note or f"{_KINDS[letter]}{8 * width}" if letter != "V" or note else ""
    name = "bool" if letter == "b" and width == 1 else name
    if name not in DTYPES or DTYPES[name].itemsize != width:
        raise ValueError(f"type {descr[:60]} is unknown: numpy does not keep the names of types that are not its own")
    return DTYPES[name], width, letter, order == ">"


def encode(dtype: DType, shape: tuple[int, ...]) -> bytes:
    """The header of a row-major array, little-endian, as numpy.save writes it.

    The types of ml_dtypes are spelled as numpy does for an array of them.
    """
    descr = _descr(dtype)
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    # Room for the first axis to grow in place (numpy/lib/format.py, GROWTH_AXIS_MAX_DIGITS).
    text += " " * (21 - len(repr(shape[0])) if shape else 0)
    padding = -(10 + len(text) + 1) % _ALIGNMENT
    return (
        MAGIC
        + b"\x01\x00"
        + struct.pack("<H", len(text) + padding + 1)
        + text.encode("latin-1")
        + b" " * padding
        + b"\n"
    )


def _descr(dtype: DType) -> str:
    """The type as numpy spells it; its own without asking it, as it takes longer to import than a header to write."""
    if not dtype.native:
        return dtype.numpy().str
    return f"{'<' if dtype.itemsize > 1 else '|'}{_LETTERS[dtype.kind]}{dtype.itemsize}"
