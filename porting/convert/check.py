"""What is wrong with a table in itself: asked when a family is built, before any checkpoint is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from operator import itemgetter

from porting.convert.notation import Template
from porting.convert.overlap import templates_overlap
from porting.convert.rule import lost_labels
from porting.convert.table import Family, Group

_Name = tuple[Group, Template]


def problems_of(family: Family) -> list[str]:
    """Every problem of the table, one line each."""
    checks = (_unknown_dialects, _same_keys, _overlaps, _underivable, _dangling_ties)
    return [problem for check in checks for problem in check(family)]


def _unknown_dialects(family: Family) -> Iterator[str]:
    known = {dialect.name for dialect in family.dialects}
    for _, line in family.rows():
        for name in line.cells:
            if name not in known:
                yield f"{line.key}: dialect {name} is not listed"


def _same_keys(family: Family) -> Iterator[str]:
    """Rows that could not be told apart by the names that they go by in code and messages."""
    for key, count in Counter(line.key for _, line in family.rows()).items():
        if count > 1:
            yield f"{key}: {count} rows go by this name; put a dialect first in which they differ, or name fields apart"


def _overlaps(family: Family) -> Iterator[str]:
    """Names that two rows of one dialect match, whatever prefixes stand before them."""
    for dialect in family.dialects:
        names: list[_Name] = [
            (member, template)
            for member, line in family.rows()
            for template in dict.fromkeys(t for v in line.cells.get(dialect.name, ()) for t in v.cell.templates)
        ]
        for (in_a, one), (in_b, two) in _candidates(names):
            if not in_a.may_share(in_b):
                spelling = templates_overlap(one, two)
                if spelling:
                    yield f"{dialect.name}: {spelling} matches both {one} and {two}"


def _candidates(names: list[_Name]) -> Iterator[tuple[_Name, _Name]]:
    """Pairs of which one's literal end ends as the other's does: nearly all others differ in their last letters.

    Read backwards and sorted, an end stands before all those that it ends, with nothing else between.
    """
    above: list[tuple[str, _Name]] = []
    for end, name in sorted(((name[1].tail[::-1], name) for name in names), key=itemgetter(0)):
        while above and not end.startswith(above[-1][0]):
            above.pop()
        for _, other in above:
            yield other, name
        above.append((end, name))


def _underivable(family: Family) -> Iterator[str]:
    """Cells of a row between which elements would be lost or invented."""
    for _, line in family.rows():
        for name, forms in line.cells.items():
            ranks = [form.cell.rank for form in forms]
            if len(set(ranks)) != len(ranks):
                yield f"{name}: {line.key}: variants of equal rank cannot be told apart"
        for one, two in combinations(line.cells, 2):
            for a in line.cells[one]:
                for b in line.cells[two]:
                    problem = lost_labels(a.cell, b.cell)
                    if problem:
                        yield f"{line.key}: {one} to {two}: {problem}"


def _dangling_ties(family: Family) -> Iterator[str]:
    for _, line in family.rows():
        if line.tie is None:
            continue
        for name in line.cells:
            if family.tied_row(line, name) is None:
                yield f"{name}: {line.key} is tied to {line.tie}, which is no row"
