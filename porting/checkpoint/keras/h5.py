"""Keras' HDF5 files, read only: `.weights.h5`, legacy weights, legacy whole models."""

from __future__ import annotations

from pathlib import Path

from porting.checkpoint.entry import Checkpoint
from porting.checkpoint.keras.h5_file import SIGNATURE, Source, read_h5
from porting.checkpoint.keras.names import as_checkpoint
from porting.errors import FormatError


def locate(path: Path) -> Path | None:
    """The path itself if it is a file with HDF5's signature."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            return path if file.read(len(SIGNATURE)) == SIGNATURE else None
    except OSError:
        return None


def read(path: Path) -> Checkpoint:
    """The weights in the HDF5 file at `path`.

    Raises: FormatError.
    """
    try:
        length = path.stat().st_size
    except OSError as error:
        raise FormatError(path, "", f"cannot be read: {error.strerror}") from None
    return as_checkpoint(path, read_h5(Source(path, path, 0, length)), "keras-h5", {})
