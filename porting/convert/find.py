"""Which family and dialect a checkpoint is: the one that accounts for most of its names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from porting.convert.match import Match, Parted, kind_of, match_parted, part
from porting.convert.names import listed
from porting.convert.table import Dialect, Family
from porting.errors import MismatchError, UsageError


def find(
    names: Sequence[str],
    families: Mapping[str, Family],
    *,
    family: str | None = None,
    dialect: str | None = None,
    framework: str | None = None,
    sizes: Mapping[str, tuple[int, ...]] | None = None,
) -> Match:
    """The family and dialect that account for most names.

    family, dialect, framework: narrow the choice. sizes: shapes by name, for families that only a size tells apart.
    Raises: MismatchError if nothing fits; UsageError if several fit equally.
    """
    columns = [
        (candidate, column)
        for candidate in _narrow(families, family)
        for column in candidate.dialects
        if (dialect is None or column.name == dialect) and (framework is None or column.framework == framework)
    ]
    tried, refused = _tried(names, columns)
    if refused and not any(match.models for match in tried):
        raise refused[0]
    if not columns:
        known = ", ".join(f"{f.name}: {' '.join(d.name for d in f.dialects)}" for f in families.values())
        raise UsageError(f"no dialect {dialect or framework} of {family or 'any family'}; there are {known}")
    most = max(match.claimed for match in tried)
    if not most or not any(match.models for match in tried):
        raise MismatchError(
            "no family fits these names",
            [f"{len(names)} tensors: {listed(names)}", f"tried {', '.join(families)}; see `port families`"],
        )
    best = [match for match in tried if match.claimed == most]
    best = [match for match in best if match.wrapped == min(other.wrapped for other in best)]
    best = _by_evidence(best, sizes or {})
    general = {match.family.specialises for match in best} & {match.family.name for match in best}
    if general:
        best = [match for match in best if match.family.specialises not in general]
    if len({match.family.name for match in best}) > 1:
        raise UsageError(f"the names fit {' and '.join(sorted({m.family.name for m in best}))}: pass --family")
    return min(best, key=lambda match: len(match.unknown))


def _tried(names: Sequence[str], columns: Iterable[tuple[Family, Dialect]]) -> tuple[list[Match], list[UsageError]]:
    """The names read as each dialect, and what was said of those that they cannot be."""
    tried: list[Match] = []
    refused: list[UsageError] = []
    parted: dict[tuple[int, ...], Parted] = {}
    kind = {name: kind_of(name) for name in names}.__getitem__
    wrapped: int | None = None
    for family, dialect in columns:
        forms = tuple(map(id, dialect.slots))  # dialects of one framework have the same ones
        if forms not in parted:
            parted[forms] = part(names, dialect.slots, kind)
        try:
            match = match_parted(parted[forms], family, dialect, wrapped)
        except UsageError as error:
            refused.append(error)
            continue
        tried.append(match)
        if match.claimed == len(names):  # no other accounts for more
            wrapped = match.wrapped if wrapped is None else min(wrapped, match.wrapped)
    return tried, refused


def _narrow(families: Mapping[str, Family], name: str | None) -> list[Family]:
    if name is None:
        return list(families.values())
    if name not in families:
        raise UsageError(f"family {name}: not known; there are {', '.join(families)}")
    return [families[name]]


def _by_evidence(matches: list[Match], shapes: Mapping[str, tuple[int, ...]]) -> list[Match]:
    """Families whose evidence the shapes contradict go; families whose evidence they bear out win."""

    def verdict(match: Match) -> bool | None:
        votes: Counter[tuple[str, int]] = Counter()
        for model in match.models:
            for found in model.found.values():
                for name in found.names.values():
                    for axis, size in zip(found.forms[0].cell.axes, shapes.get(name, ()), strict=False):
                        if len(axis) == 1:
                            votes[(axis[0], size)] += 1
        seen = dict(iter(votes))  # label to the size seen last
        known = [seen[label] == size for label, size in match.family.evidence.items() if label in seen]
        return all(known) if known else None

    if len({match.family.name for match in matches}) < 2:
        return matches
    verdicts = [verdict(match) for match in matches]
    borne_out = [match for match, ok in zip(matches, verdicts, strict=True) if ok]
    return borne_out or [match for match, ok in zip(matches, verdicts, strict=True) if ok is None] or matches
