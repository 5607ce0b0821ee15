"""Libraries that only some commands need: the extras of the package."""

from __future__ import annotations

from importlib.util import find_spec

from porting.errors import UsageError


def require(library: str, extra: str, *, option: str = "") -> None:
    """Say how to get a library before any work is begun.

    option: what asks for it, if not the command itself. Raises: UsageError if it is not installed.
    """
    if find_spec(library) is None:
        asked = f"{option}: " if option else ""
        raise UsageError(f"{asked}{library} is not installed; pip install 'porting-kit[{extra}]' brings it")
