"""Writes a capture: each tensor streamed to the disk as it comes, everything in place at the end or nothing.

All goes into the folder `.NAME.PID.part` beside the final one, which is renamed when it is whole. The parts of runs
that were killed are removed by the next run that writes the same name.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import numpy as np

from porting.checkpoint.dtypes import from_numpy
from porting.checkpoint.format import TensorSpec
from porting.checkpoint.output import WRITE, alive, explain
from porting.checkpoint.safetensors.header import CODES, header_bytes
from porting.errors import UsageError
from porting.parity.capture import Manifest, Section, Summary
from porting.parity.layout import (
    FILE,
    MANIFEST,
    ROOM,
    SECTIONS,
    STEPS,
    SUMMARIES,
    content_hash,
    hashed,
    line,
    manifest_text,
    summary_values,
    tensors_name,
)
from porting.parity.summarise import summarise

Array = np.ndarray[Any, np.dtype[Any]]


class CaptureWriter:
    """A capture being written. A context manager: leaving it without `finish` leaves nothing behind.

    Memory: one tensor's copy where it was not contiguous, and a few megabytes.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, whole: bool, overwrite: bool = False) -> None:
        """Open a capture. whole: store every tensor, not only summaries.

        Raises: UsageError if the folder is there already and `overwrite` is false, or is no capture; FormatError if the
        system refuses.
        """
        self.folder, self.manifest, self.whole = Path(folder), manifest, whole
        _check_target(self.folder, overwrite=overwrite)
        self._part = _part(self.folder, "part")
        _remove_stale(self.folder)
        self._summaries: dict[tuple[str, str], Summary] = {}
        self._files: dict[str, str] = {}
        self._tensors: _TensorFile | None = None
        try:
            self._part.mkdir(parents=True)
            self._lines: dict[str, IO[str]] = {
                name: (self._part / name).open("w", encoding="utf-8", newline="\n") for name in (SUMMARIES, STEPS)
            }
        except OSError as error:
            raise explain(self.folder, error) from None

    def add(self, section: Section, name: str, array: Array) -> Summary:
        """Write one tensor, or its summary.

        Raises: UsageError for a section that there is not, a name that was there before or does not fit into a header,
        a dtype that the format cannot hold; FormatError if the system refuses.
        """
        source = np.asarray(array)
        spec = self._checked(section, name, source)
        data = np.ascontiguousarray(source.astype(source.dtype.newbyteorder("<"), copy=False)).reshape(source.shape)
        try:
            out = self._room(spec, data.nbytes).write if self.whole else _nowhere
            summary = summarise(section, name, data, sketch=not self.whole, stored=self.whole, out=out)
            self._lines[SUMMARIES].write(line(summary_values(summary)))
        except OSError as error:
            raise explain(self.folder, error) from None
        self._summaries[section, name] = summary
        return summary

    def step(self, values: Mapping[str, Any]) -> None:
        """Write one training step."""
        try:
            self._lines[STEPS].write(line(values))
        except OSError as error:
            raise explain(self.folder, error) from None

    def finish(self, **changes: Any) -> Path:
        """Put the capture in place. changes: fields of the manifest that are known only now. Returns its folder."""
        try:
            self._close_tensors()
            for name, file in self._lines.items():
                file.close()
                self._files[name] = hashed((self._part / name).read_bytes())
            content = content_hash(self._summaries)
            manifest = replace(self.manifest, **changes, content=content, files=dict(sorted(self._files.items())))
            (self._part / MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")
            self._put_in_place()
        except OSError as error:
            raise explain(self.folder, error) from None
        return self.folder

    def _checked(self, section: str, name: str, array: Array) -> TensorSpec:
        """The tensor as it goes into a file. Raises: UsageError for what cannot."""
        where = f"{section}/{name}"
        if section not in SECTIONS:
            raise UsageError(f"{where}: no section {section}; there are {', '.join(SECTIONS)}")
        if (section, name) in self._summaries:
            raise UsageError(f"{where}: was written before")
        try:
            dtype = from_numpy(array.dtype)
        except KeyError:
            raise UsageError(f"{where}: a capture cannot hold {array.dtype}") from None
        if dtype.kind == "complex" or dtype.bits < 8 or dtype.name not in CODES.values():
            raise UsageError(f"{where}: a capture cannot hold {dtype}")
        spec = TensorSpec(where, array.shape, dtype)
        if 8 + _header_share(spec) > ROOM:
            raise UsageError(f"{where}: the name is too long")
        return spec

    def _room(self, spec: TensorSpec, size: int) -> _TensorFile:
        """The file that the next tensor goes to."""
        if self._tensors is not None and not self._tensors.takes(spec, size):
            self._close_tensors()
        if self._tensors is None:
            name = tensors_name(sum(name.startswith("tensors-") for name in self._files))
            self._tensors = _TensorFile(self._part / name)
        self._tensors.take(spec, size)
        return self._tensors

    def _close_tensors(self) -> None:
        if self._tensors is not None:
            self._files[self._tensors.path.name] = self._tensors.close()
            self._tensors = None

    def _put_in_place(self) -> None:
        """Rename the part. An old capture makes way first, and is removed when the new one is there."""
        old = _part(self.folder, "old")
        if os.path.lexists(self.folder) and any(self.folder.iterdir()):
            self.folder.rename(old)
        self._part.rename(self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._lines.values():
            with suppress(OSError):
                file.close()
        if self._tensors is not None:
            self._tensors.abandon()
        shutil.rmtree(self._part, ignore_errors=True)


class _TensorFile:
    """A file of tensors: they are written behind the room for a header, which is filled at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._specs: list[TensorSpec] = []
        self._size, self._header = 0, 8
        self._file = path.open("wb", buffering=0)
        self._file.seek(ROOM)

    def takes(self, spec: TensorSpec, size: int) -> bool:
        """Whether another tensor fits, in bytes and in the header."""
        return self._size + size <= FILE and self._header + _header_share(spec) <= ROOM

    def take(self, spec: TensorSpec, size: int) -> None:
        """Make room for a tensor, whose bytes come next."""
        self._specs.append(spec)
        self._size += size
        self._header += _header_share(spec)

    def write(self, data: Array) -> None:
        """Bytes at the end."""
        view = memoryview(cast("Any", data))
        while view:
            view = view[self._file.write(view[:WRITE]) :]

    def close(self) -> str:
        """Write the header. Returns its hash; those of the tensors are in their summaries."""
        text = header_bytes(self._specs, {})[8:]
        header = struct.pack("<Q", ROOM - 8) + text.ljust(ROOM - 8)
        with self._file:
            self._file.seek(0)
            self._file.write(header)
            self._file.truncate(ROOM + self._size)
        return hashed(header)

    def abandon(self) -> None:
        """Close without a header."""
        with suppress(OSError):
            self._file.close()


def _header_share(spec: TensorSpec) -> int:
    """Bytes that a tensor takes in a header at most: its entry alone, and the digits of its offsets in a full file."""
    return len(header_bytes([spec], {})) + 32


def _nowhere(data: Array) -> None:
    del data


def _part(folder: Path, kind: str) -> Path:
    """Where this process keeps a capture that is not in place."""
    return folder.parent / f".{folder.name}.{os.getpid()}.{kind}"


def _check_target(folder: Path, *, overwrite: bool) -> None:
    """Raises: UsageError for what is there and may not be replaced."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir() or folder.is_symlink():
        raise UsageError(f"{folder}: wanted a folder for a capture, got something else")
    if not any(folder.iterdir()):
        return
    if not (folder / MANIFEST).is_file():
        raise UsageError(f"{folder}: is a folder with other things in it, and is not replaced")
    if not overwrite:
        raise UsageError(f"{folder}: exists already; --overwrite replaces it")


def _remove_stale(folder: Path) -> None:
    """Remove what killed runs left that were to become this capture."""
    left = re.compile(re.escape(f".{folder.name}.") + r"([0-9]{1,9})\.(part|old)")
    with suppress(OSError):
        for path in folder.parent.iterdir():
            match = left.fullmatch(path.name)
            if match and not alive(int(match[1])):
                shutil.rmtree(path, ignore_errors=True)
