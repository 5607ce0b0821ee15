"""Tied copies: when they are written, when they may be left out, and when they are copies no longer."""

from __future__ import annotations

from collections.abc import Iterator

from porting.convert.match import Found, Values
from porting.convert.notation import Cell
from porting.convert.planned import Dropped, Target
from porting.convert.sizes import Bound, spellings
from porting.convert.table import Group, Row


def tie_pairs(bound: Bound) -> Iterator[tuple[str, str]]:
    """Pairs of source tensors of which the first is a tied copy of the second, by the table."""
    for found in bound.model.found.values():
        partner = partner_of(bound, found.row) if found.row.tie is not None else None
        if partner is not None:
            for values, name in found.names.items():
                if values in partner.names:
                    yield name, partner.names[values]


def partner_of(bound: Bound, row: Row) -> Found | None:
    """The tensors that a tied row's are copies of, if the checkpoint holds them."""
    other = bound.model.family.tied_row(row, bound.model.dialect.name)
    return bound.model.found.get(other.key) if other else None


def tie_written(bound: Bound, target: Target, group: Group, row: Row, found: Found) -> bool:
    """A tied copy is written if the target wants it, if its bits differ, or if it has no partner here."""
    if target.dialect.name not in row.cells:
        return False
    if target.wanted is not None or target.dialect.stores_ties:
        return any(_copy_wanted(target, group, row, values) for values in found.names)
    return partner_of(bound, row) is None or not target.untied.isdisjoint(found.names.values())


def _copy_wanted(target: Target, group: Group, row: Row, values: Values = ()) -> bool:
    """Does the reference list the tied copy, or without a reference, do all files of the dialect hold it?"""
    if target.wanted is None:
        return target.dialect.stores_ties
    return wanted_name(target, group, row.cells[target.dialect.name][0].cell, values) is not None


def wanted_name(target: Target, group: Group, cell: Cell, values: Values) -> str | None:
    """The full name in the spelling that the reference uses, None if it lists none or there is no reference."""
    if target.wanted is None:
        return None
    prefix = target.prefix.get(group.at, "")
    names = (prefix + name for name in spellings(cell, values, target.variables))
    return next((name for name in names if name in target.wanted), None)


def copied(bound: Bound, target: Target, group: Group, row: Row) -> Found | None:
    """What a tied copy is made from that the target wants and the source does not hold."""
    there = group.name in bound.model.groups and target.dialect.name in row.cells
    if row.tie is None or not there or not _copy_wanted(target, group, row):
        return None
    return partner_of(bound, row)


def tied(bound: Bound, target: Target, row: Row, found: Found) -> tuple[list[Dropped], list[str]]:
    """Tied copies that are left out, and those that cannot be because they are copies no longer."""
    dropped: list[Dropped] = []
    problems: list[str] = []
    pairs = dict(tie_pairs(bound))
    for name in found.names.values():
        if name in target.untied:
            problems.append(
                f"{name}: differs from {pairs[name]}, and {target.dialect.name} has room for one of them only"
            )
        elif name in pairs:
            dropped.append(Dropped(name, f"tied: equal to {pairs[name]} bit for bit"))
        else:
            dropped.append(Dropped(name, f"{target.dialect.name} ties it to {row.tie}"))
    return dropped, problems
