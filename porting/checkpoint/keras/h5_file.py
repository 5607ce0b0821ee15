"""An HDF5 file's datasets as mapped tensors, listed by a child process (see `h5_index`)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.storage import Mapped, MappedFile
from porting.errors import FormatError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_RANK = 32
TIMEOUT = 600
"""Seconds that the child may take; it bounds its own processor time more tightly."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an HDF5 file is: the file itself, or a range of an archive or of an unpacked copy.

    path: as the user knows it, for messages.
    opened: what to open for its bytes; another path where the bytes are an unnamed copy's.
    length: bytes from `offset`.
    """

    path: Path
    opened: Path
    offset: int
    length: int
    fds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class H5File:
    """entries: datasets by path, in the file's order. attributes: Keras' own, by path of the group."""

    entries: dict[str, TensorEntry]
    attributes: dict[str, dict[str, Any]]


def read_h5(source: Source) -> H5File:
    """Lists and maps the datasets; those that are compressed are copied out.

    Raises: FormatError.
    """
    with tempfile.TemporaryFile() as spill:
        index = _index(source, spill.fileno())
        mapped = _mapped(source.opened, source.path)
        size = os.fstat(spill.fileno()).st_size
        copies = _mapped(Path(f"/dev/fd/{spill.fileno()}"), source.path) if size else None
        try:
            entries = {line["path"]: _entry(source, line, mapped, copies) for line in index["datasets"]}
            return H5File(entries, {str(path): dict(values) for path, values in index["attributes"].items()})
        except (KeyError, TypeError, AttributeError, ValueError):
            raise FormatError(source.path, "", "the index of its datasets is damaged") from None


def _mapped(opened: Path, path: Path) -> MappedFile:
    file = MappedFile(opened)
    file.path = path
    return file


def _index(source: Source, target: int) -> Mapping[str, Any]:
    """What the child prints.

    Raises: FormatError with the child's own line, or with how it died.
    """
    command = [sys.executable, "-P", "-m", "porting.checkpoint.keras.h5_index"]
    command += [str(source.opened), str(source.offset), str(source.length), str(target)]
    # One thread keeps the address space small; "::" keeps libhdf5 from loading filters as plug-ins.
    quiet = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"}
    try:
        done = subprocess.run(  # noqa: S603  our own module, by the interpreter that runs us
            command, capture_output=True, check=False, timeout=TIMEOUT, env=quiet, pass_fds=(target, *source.fds)
        )
    except subprocess.TimeoutExpired:
        raise FormatError(source.path, "", f"libhdf5 does not come to an end within {TIMEOUT} s") from None
    if done.returncode < 0:
        raise FormatError(source.path, "", f"libhdf5 dies on it ({signal.Signals(-done.returncode).name})")
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise FormatError(source.path, "", lines[-1] if lines else "libhdf5 cannot read it")
    try:
        result = json.loads(done.stdout)
    except ValueError:
        result = None
    if not isinstance(result, dict) or not {"datasets", "attributes"} <= result.keys():
        raise FormatError(source.path, "", "the index of its datasets is damaged")
    return result


def _entry(source: Source, line: Mapping[str, Any], mapped: MappedFile, copies: MappedFile | None) -> TensorEntry:
    """A line of the index as a tensor, checked against the bytes that are there."""
    path, shape, dtype = str(line["path"]), tuple(int(size) for size in line["shape"]), DTYPES[line["dtype"]]
    if len(shape) > MAX_RANK or any(size < 0 for size in shape) or prod(max(size, 1) for size in shape) >= 1 << 59:
        raise FormatError(source.path, path, f"shape {list(shape)} is no tensor's")
    inside = not line["copied"]
    offset = int(line["offset"]) + (source.offset if inside else 0)
    storage = Mapped(mapped if inside or copies is None else copies, offset, shape, dtype)
    if inside and storage.extent > source.length - int(line["offset"]):
        raise FormatError(source.path, path, f"wanted {storage.extent} bytes at {line['offset']}, got {source.length}")
    storage.file.bytes(offset, storage.extent, path)
    place = f"{source.path.name} at {offset}" if inside else source.path.name
    return TensorEntry(path, shape, dtype, storage, place, line.get("tied"))
