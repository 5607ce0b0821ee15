"""The installed families, through the entry points `porting.families`."""

from __future__ import annotations

from functools import cache

from porting.convert.table import Dialect, Family
from porting.errors import TableError, UsageError
from porting.plugins import installed


@cache
def families() -> dict[str, Family]:
    """All installed families by name.

    Raises: TableError naming the distribution whose family does not load.
    """
    found: dict[str, Family] = {}
    for point in installed("porting.families"):
        family = point.load()
        if not isinstance(family, Family):
            raise TableError(f"entry point {point.name} = {point.value}: wanted a Family, got {type(family).__name__}")
        found[family.name] = family
    return dict(sorted(found.items()))


def family_named(name: str) -> Family:
    """Raises: UsageError listing the families there are."""
    known = families()
    if name not in known:
        raise UsageError(f"family {name}: not known; there are {', '.join(known)}")
    return known[name]


def target_dialect(family: Family, want: str) -> Dialect:
    """A dialect by its name, or the one that a framework's name means.

    Raises: UsageError listing the dialects there are.
    """
    for dialect in family.dialects:
        if dialect.name == want:
            return dialect
    found = family.dialect_for(want)
    if found is None:
        there = ", ".join(f"{dialect.name} ({dialect.framework})" for dialect in family.dialects)
        raise UsageError(f"{family.name} has no dialect for {want}; there are {there}")
    return found
