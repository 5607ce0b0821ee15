"""Reads a capture, and refuses one that is not what was written: cut short, edited, of another version."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from porting.checkpoint.safetensors.header import Slot, read_header
from porting.checkpoint.shard_index import parse_json
from porting.checkpoint.storage import Mapped, MappedFile
from porting.errors import FormatError
from porting.parity.capture import VERSION, Manifest, Summary
from porting.parity.layout import (
    MANIFEST,
    ROOM,
    SECTIONS,
    SELF,
    STEPS,
    SUMMARIES,
    content_hash,
    hashed,
    numbers,
    self_hash,
)
from porting.parity.summarise import tensor_hash

Array = np.ndarray[Any, np.dtype[Any]]
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture that was read. summaries: by section and name, in the order of computation. steps: in theirs."""

    folder: Path
    manifest: Manifest
    summaries: Mapping[Key, Summary]
    steps: Sequence[Mapping[str, Any]]
    stored: Mapping[Key, Mapped]

    def tensor(self, section: str, name: str) -> Array | None:
        """A whole tensor as a read-only memory map, its bytes held against its hash; None if it is only summarised.

        Raises: FormatError if the bytes are not those that were written; KeyError for a tensor that there is not.
        """
        summary = self.summaries[section, name]
        if (section, name) not in self.stored:
            return None
        array = self.stored[section, name].read()
        if tensor_hash(array) != summary.hash:
            raise self.altered(section, name)
        return array

    def altered(self, section: str, name: str) -> FormatError:
        """The error for a tensor whose bytes are not those that were written."""
        place = f"{section}/{name}"
        return FormatError(self.stored[section, name].file.path, place, "its bytes are not those that were written")

    def section(self, section: str) -> dict[str, Summary]:
        """The summaries of one section by name, in order."""
        return {name: summary for (part, name), summary in self.summaries.items() if part == section}


def read_capture(folder: str | Path) -> Capture:
    """Read a capture.

    Manifest, steps, summaries and the headers of tensor files are checked at once, a tensor's bytes when it is read.
    Raises: FormatError for a folder without a manifest, one of another version, and one in which anything is missing,
    was edited or cut short.
    """
    place = Path(folder)
    manifest = _manifest(place)
    missing = {SUMMARIES, STEPS} - manifest.files.keys()
    if missing:
        raise FormatError(place / MANIFEST, "files", f"lacks {', '.join(sorted(missing))}")
    summaries = _summaries(place / SUMMARIES, _checked(place, manifest, SUMMARIES))
    if content_hash(summaries) != manifest.content:
        raise FormatError(place / MANIFEST, "content", f"is not the hash of what {SUMMARIES} holds")
    steps = [numbers(row) for row in _rows(place / STEPS, _checked(place, manifest, STEPS))]
    return Capture(place, manifest, summaries, steps, _stored(place, manifest, summaries))


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise FormatError(folder, "", "wanted a folder with a capture, got no folder")
    if not path.is_file():
        raise FormatError(folder, "", f"is no capture: it has no {MANIFEST}; a run that was killed leaves none")
    values = parse_json(_bytes(path), path, "")
    if not isinstance(values, dict) or "version" not in values:
        raise FormatError(path, "", "wanted the manifest of a capture, a JSON object with a version")
    if values["version"] != VERSION:
        raise FormatError(path, "version", f"wanted {VERSION}, got {values['version']!r}: record it with this kit")
    claimed = values.pop(SELF, None)
    if claimed != self_hash(values):
        raise FormatError(path, "", "was changed after it was written: the hash over it does not hold")
    known = {field.name for field in fields(Manifest)}
    if values.keys() != known:
        different = ", ".join(sorted(values.keys() ^ known))
        raise FormatError(path, "", f"wanted the fields of a manifest; missing or unknown: {different}")
    return Manifest(**{**values, "taps": tuple(values["taps"]), "notes": tuple(values["notes"])})


def _checked(folder: Path, manifest: Manifest, name: str) -> bytes:
    """A file's bytes. Raises: FormatError if they are not those that the manifest knows."""
    data = _bytes(folder / name)
    if hashed(data) != manifest.files[name]:
        raise FormatError(folder / name, "", "was changed or cut short after it was written: its hash does not hold")
    return data


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(path, "", f"cannot be read: {error.strerror}") from None


def _rows(path: Path, data: bytes) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(row) for row in data.decode().splitlines()]
    except ValueError as error:
        raise FormatError(path, "", f"is no JSON Lines: {error}") from None
    if not all(isinstance(row, dict) for row in rows):
        raise FormatError(path, "", "wanted a JSON object in every line")
    return rows


def _summaries(path: Path, data: bytes) -> dict[Key, Summary]:
    found: dict[Key, Summary] = {}
    for number, row in enumerate(_rows(path, data), 1):
        try:
            summary = Summary(**{**numbers(row), "name": row["name"], "shape": tuple(row["shape"])})
        except (TypeError, KeyError):
            raise FormatError(path, f"line {number}", "wanted the fields of a summary") from None
        if summary.section not in SECTIONS or (summary.section, summary.name) in found:
            where = f"{summary.section}/{summary.name}"
            raise FormatError(path, f"line {number}", f"{where} stands there twice, or in a section that there is not")
        found[summary.section, summary.name] = summary
    return found


def _stored(folder: Path, manifest: Manifest, summaries: Mapping[Key, Summary]) -> dict[Key, Mapped]:
    """Where the whole tensors lie. Raises: FormatError unless they are just those that the summaries call stored."""
    found: dict[Key, Mapped] = {}
    for name, wanted in manifest.files.items():
        if name in (SUMMARIES, STEPS):
            continue
        file = MappedFile(folder / Path(name).name)
        if file.size < ROOM or hashed(file.view[:ROOM]) != wanted:
            raise FormatError(file.path, "header", "was changed or cut short: its hash does not hold")
        for where, slot in read_header(file).slots.items():
            section, _, tensor = where.partition("/")
            found[section, tensor] = _mapped(file, where, slot, summaries.get((section, tensor)))
    lost = [key for key, summary in summaries.items() if summary.stored and key not in found]
    if lost:
        raise FormatError(folder, "/".join(lost[0]), "is not in the files of tensors")
    return found


def _mapped(file: MappedFile, where: str, slot: Slot, summary: Summary | None) -> Mapped:
    if summary is None or not summary.stored or (slot.shape, slot.dtype.name) != (summary.shape, summary.dtype):
        raise FormatError(file.path, where, "is not the tensor of that name in the summaries")
    return Mapped(file, slot.offset, slot.shape, slot.dtype)
