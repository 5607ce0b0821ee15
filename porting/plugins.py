"""What is installed under an entry point group, read from the installed distributions' own files.

importlib.metadata says the same, and takes longer to import (e-mail, CSV, sockets) than a checkpoint takes to plan.
The files are those of https://packaging.python.org/specifications/entry-points/.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

GROUPS = ("porting.families", "porting.models", "porting.backends", "porting.formats")


class Plugin(NamedTuple):
    """One line of an entry point group: `name = value`, the value `module:attribute`."""

    name: str
    value: str

    def load(self) -> Any:
        """The object. Raises: what importing it raises."""
        module, _, attribute = self.value.partition(":")
        found = import_module(module)
        for part in attribute.split(".") if attribute else ():
            found = getattr(found, part)
        return found


def installed(group: str) -> tuple[Plugin, ...]:
    """The plugins of a group. Of two distributions of one name the first on the path counts, as in an import."""
    return _scan(tuple(sys.path)).get(group, ())


@cache
def _scan(path: tuple[str, ...]) -> dict[str, tuple[Plugin, ...]]:
    found: dict[str, list[Plugin]] = {}
    seen: set[str] = set()
    for folder in dict.fromkeys(entry or "." for entry in path):
        for name in sorted(_distributions(folder)):
            distribution = name.split("-")[0].lower().replace("_", "-")
            if distribution in seen:
                continue
            seen.add(distribution)
            with suppress(OSError), open(os.path.join(folder, name, "entry_points.txt"), encoding="utf-8") as file:  # noqa: PTH118, PTH123 - a hundred of them at every start
                for group, plugin in _parse(file):
                    found.setdefault(group, []).append(plugin)
    return {group: tuple(plugins) for group, plugins in found.items()}


def _distributions(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.endswith((".dist-info", ".egg-info"))]  # noqa: PTH208 - likewise
    except OSError:
        return []


def _parse(lines: Iterator[str]) -> Iterator[tuple[str, Plugin]]:
    """The lines of our groups, without what stands in brackets behind a value (extras)."""
    group = ""
    for text in lines:
        line = text.strip()
        if line.startswith("["):
            group = line.strip("[]").strip()
        elif group in GROUPS and line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield group, Plugin(name.strip(), value.partition("[")[0].strip())
