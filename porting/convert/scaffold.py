"""Starts a package for a user's own model family: a table that works, and its tests."""

from __future__ import annotations

import keyword
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from porting.convert.registry import families
from porting.errors import FormatError, UsageError

_FILES = {
    "pyproject.toml": "pyproject.toml.in",
    "README.md": "README.md.in",
    "src/porting_@NAME@/__init__.py": "__init__.py.in",
    "src/porting_@NAME@/family.py": "family.py.in",
    "tests/test_family.py": "test_family.py.in",
}


def new_family(name: str, parent: str | Path = ".") -> Path:
    """Write the package into a new folder of that name, whole or not at all. Returns the folder.

    Raises: UsageError for a name that cannot be a family's or is taken, and for a folder that exists.
    """
    folder = Path(parent) / name
    problem = next(_problems(name, folder), None)
    if problem is not None:
        raise UsageError(f"family {name}: {problem}")
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder.parent))
    except OSError as error:
        raise FormatError(folder, "", f"cannot be written: {error.strerror}") from None
    try:
        _fill(made, name)
        made.chmod(0o777 & ~_umask())
        made.rename(folder)
    except OSError as error:
        raise FormatError(folder, "", f"cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _problems(name: str, folder: Path) -> Iterator[str]:
    """Why it cannot be started, the first reason first."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or name.endswith("_") or "__" in name:
        yield "wanted small letters, digits and single underscores, beginning with a letter, 40 at most"
        return
    if keyword.iskeyword(name):
        yield "is a word of Python's"
    if name in families():
        yield "is there already; see `port families`"
    if find_spec(f"porting_{name}") is not None:
        yield f"a package porting_{name} is installed already"
    if not folder.parent.is_dir():
        yield f"there is no folder {folder.parent}"
    if os.path.lexists(folder):
        yield f"{folder} exists already"


def _fill(folder: Path, name: str) -> None:
    templates = files("porting.convert").joinpath("scaffold_files")
    for target, template in _FILES.items():
        text = templates.joinpath(template).read_text("utf-8")
        file = folder / target.replace("@NAME@", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("@NAME@", name).replace("@DASHED@", name.replace("_", "-")), "utf-8")


def _umask() -> int:
    """The umask; it can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
