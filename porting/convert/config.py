"""A model's config: found beside its checkpoint, or inferred as far as shapes tell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from porting.checkpoint.format import whole
from porting.convert.sizes import Bound
from porting.convert.table import Family
from porting.errors import FormatError

UNKNOWN = "unknown"
"""What stands where shapes cannot tell: a head count, an activation, an epsilon. Never a guess."""


class Config(NamedTuple):
    """A config as read. path: None for the empty one."""

    path: Path | None
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For messages."""
        return self.path.name if self.path else "config"


def read_config(path: Path) -> Config:
    """A JSON object from a file.

    Raises: FormatError if it cannot be read or is not one.
    """
    text = whole(path, 16 << 20)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(path, "", f"wanted JSON, got {error}") from None
    if not isinstance(values, dict):
        raise FormatError(path, "", f"wanted a JSON object, got {type(values).__name__}")
    return Config(path, values)


def find_config(family: Family, checkpoint: Path, given: Path | str | None) -> Config:
    """The config that the user names, or one of the family's names beside the checkpoint, or none.

    given: a path, or "none" to look for none.
    """
    if given == "none":
        return Config(None, {})
    if given is not None:
        return read_config(Path(given))
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    for name in family.config_files:
        if (folder / name).is_file():
            return read_config(folder / name)
    return Config(None, {})


def inferred(bound: Bound) -> dict[str, int | str]:
    """Config values under the family's first key for each label; `unknown` where the checkpoint does not say."""
    values: dict[str, int | str] = {}
    for label, keys in bound.model.family.labels.items():
        if keys:
            values[keys[0]] = bound.sizes.get(label, UNKNOWN)
    return values
