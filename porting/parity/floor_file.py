"""A floor as a JSON file: measured once, kept beside a suite, read again for every comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from porting.checkpoint.output import write_json
from porting.errors import FormatError
from porting.parity.floor import Entry, Floor

VERSION = 1

_FIELDS = ("model", "config", "build", "weights", "batch", "recipe", "backend", "replicas", "float64")
_ORIGINS = ("replicas", "float64", "rounding")
_AGAINST = ("tensor", "section")


def floor_json(floor: Floor) -> dict[str, Any]:
    """As JSON values: entries by section, then by name, in the order of computation."""
    entries: dict[str, dict[str, Any]] = {}
    for (section, name), entry in floor.entries.items():
        entries.setdefault(section, {})[name] = asdict(entry)
    values = {name: getattr(floor, name) for name in _FIELDS}
    return {"version": VERSION, **values, "replicas": list(floor.replicas), "entries": entries}


def write_floor(path: str | Path, floor: Floor) -> None:
    """Write a floor. Raises: FormatError if the system refuses."""
    write_json(Path(path), floor_json(floor))


def read_floor(path: str | Path) -> Floor:
    """Read a floor. Raises: FormatError for a file that is none, of another version, or with a floor that is no number
    above 0.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise FormatError(path, "", error.strerror or str(error)) from None
    except ValueError as error:
        raise FormatError(path, "", f"no JSON: {error}") from None
    if not isinstance(values, dict) or values.get("version") != VERSION:
        found = values.get("version") if isinstance(values, dict) else type(values).__name__
        raise FormatError(path, "version", f"wanted a floor of version {VERSION}, got {found}")
    missing = [name for name in (*_FIELDS, "entries") if name not in values]
    if missing:
        raise FormatError(path, "", f"lacks {', '.join(missing)}")
    sections = values["entries"]
    if not isinstance(sections, dict) or not all(isinstance(found, dict) for found in sections.values()):
        raise FormatError(path, "entries", "wanted an object of sections")
    entries = {
        (section, name): _entry(path, f"{section}/{name}", entry)
        for section, found in sections.items()
        for name, entry in found.items()
    }
    if not entries:
        raise FormatError(path, "entries", "holds no floor")
    fields = {name: values[name] for name in _FIELDS}
    return Floor(**{**fields, "replicas": tuple(values["replicas"])}, entries=entries)


def _entry(path: str | Path, place: str, values: object) -> Entry:
    numbers = ("rel_l2", "max_rel", "norm", "scale")
    if not isinstance(values, Mapping) or set(values) != {*numbers, "origin", "against"}:
        raise FormatError(path, place, f"wanted {', '.join(numbers)}, origin and against")
    for name in numbers:
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value <= 0:
            raise FormatError(path, place, f"{name}: wanted a number above 0, got {value!r}")
    if values["origin"] not in _ORIGINS or values["against"] not in _AGAINST:
        raise FormatError(path, place, f"origin {values['origin']!r}, against {values['against']!r}: not known")
    return Entry(**values)
