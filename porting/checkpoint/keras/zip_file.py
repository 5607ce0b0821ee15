"""Keras 3's `.keras` files, read only: a zip of config.json, metadata.json and model.weights.h5."""

from __future__ import annotations

import json
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from porting.checkpoint.entry import Checkpoint
from porting.checkpoint.keras.h5_file import Source, read_h5
from porting.checkpoint.keras.names import as_checkpoint
from porting.errors import FormatError

WEIGHTS, CONFIG, METADATA = "model.weights.h5", "config.json", "metadata.json"
MAX_TEXT = 64 << 20
"""Bytes of a config that are held in memory."""

_LOCAL = struct.Struct("<4s22xHH")
"""Local file header: signature, then the lengths of name and extra field (APPNOTE.TXT, 4.3.7)."""

_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    struct.error,
)
"""What zipfile raises for archives that are damaged, encrypted or packed by methods it lacks."""


def locate(path: Path) -> Path | None:
    """The path itself if it is a zip that holds model.weights.h5."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                return None
        with zipfile.ZipFile(path) as archive:
            return path if WEIGHTS in archive.NameToInfo else None
    except _BROKEN:
        return None


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _BROKEN as error:
        raise FormatError(path, "", f"damaged zip: {' '.join(str(error).split())}") from None


def read(path: Path) -> Checkpoint:
    """The weights of the model at `path`; metadata holds config.json as the text `model_config`.

    Raises: FormatError.
    """
    with _opened(path) as archive, tempfile.TemporaryFile() as spill:
        config = _text(path, archive, CONFIG)
        told: dict[str, Any] = {} if config is None else {"model_config": config}
        noted = _json(_text(path, archive, METADATA))
        told |= {key: noted[key] for key in ("keras_version", "date_saved") if key in noted}
        source = _weights(path, archive, spill)
        return as_checkpoint(path, read_h5(source), "keras-zip", told)


def verify(checkpoint: Checkpoint) -> Iterator[str]:
    """Compare the CRC-32 of every member: a stored HDF5 file is mapped where it lies, and not checked by reading."""
    with _opened(checkpoint.path) as archive:
        wrong = archive.testzip()
    if wrong is not None:
        yield f"{checkpoint.path}: {wrong}: its bytes do not have the CRC-32 that the archive stores"


def _text(path: Path, archive: zipfile.ZipFile, name: str) -> str | None:
    if name not in archive.NameToInfo:
        return None
    with archive.open(name) as member:
        data = member.read(MAX_TEXT + 1)
    if len(data) > MAX_TEXT:
        raise FormatError(path, name, f"longer than {MAX_TEXT} bytes")
    return data.decode("utf-8", "replace")


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _weights(path: Path, archive: zipfile.ZipFile, spill: IO[bytes]) -> Source:
    """The HDF5 member where it lies if it is stored; else unpacked into `spill`."""
    info = archive.getinfo(WEIGHTS)
    if info.flag_bits & 1:
        raise FormatError(path, WEIGHTS, "encrypted")
    if info.compress_type == zipfile.ZIP_STORED:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = os.pread(file.fileno(), _LOCAL.size, info.header_offset)
        signature, name_length, extra_length = _LOCAL.unpack(header)
        start = info.header_offset + _LOCAL.size + name_length + extra_length
        if signature != b"PK\x03\x04" or start + info.file_size > size:
            raise FormatError(path, WEIGHTS, f"wanted {info.file_size} bytes at {start}, the file has {size}")
        return Source(path, path, start, info.file_size)
    with archive.open(info) as member:
        length = 0
        while block := member.read(1 << 20):
            length += len(block)
            if length > info.file_size:
                raise FormatError(path, WEIGHTS, f"longer than the {info.file_size} bytes it claims")
            spill.write(block)
    spill.flush()
    return Source(path, Path(f"/dev/fd/{spill.fileno()}"), 0, length, (spill.fileno(),))
