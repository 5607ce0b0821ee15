"""Which family and dialect a checkpoint is, which models it holds, and which tensor is which row's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import NamedTuple

from porting.convert.notation import Cell
from porting.convert.slots import SlotNames, strip_slots
from porting.convert.table import Dialect, Family, Group, Row, Scope, SlotForm, Variant
from porting.errors import UsageError

_NUMBER = re.compile("[0-9]+")

Values = tuple[int, ...]
"""Field values in the order of the cell's fields: a layer's number, the position of a listed word."""


class Found(NamedTuple):
    """The tensors of one row in one model. names: by field values; ranks decide the variant later."""

    group: Group
    row: Row
    forms: tuple[Variant, ...]
    names: Mapping[Values, str]


class Model(NamedTuple):
    """One model in a checkpoint (a distillation net holds two).

    outer: what stands before the scope's own prefixes. variables: values of free name fields.
    found: per row key.
    """

    family: Family
    dialect: Dialect
    scope: Scope
    outer: str
    variables: Mapping[str, str]
    found: Mapping[str, Found]

    def prefix(self, level: str) -> str:
        """What a name of this level begins with."""
        return self.outer + self.scope.prefix(level)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups of which anything is there, in the order of the table."""
        present = {found.group.name for found in self.found.values()}
        return tuple(group.name for group in self.family.groups if group.name in present)


class Match(NamedTuple):
    """A checkpoint read as a dialect. unknown: names that no row, slot or scalar accounts for."""

    family: Family
    dialect: Dialect
    models: tuple[Model, ...]
    slots: SlotNames
    unknown: tuple[str, ...]

    @property
    def claimed(self) -> int:
        """How many names rows account for, those of slots with their parameters'."""
        found = [name for model in self.models for found in model.found.values() for name in found.names.values()]
        return len(found) + sum(len(self.slots.roles.get(name, ())) for name in found)

    @property
    def wrapped(self) -> int:
        """How much of the names before the parameters no scope of the dialect knows: `roberta.` is not BERT's."""
        return sum(len(model.outer) for model in self.models)


class _Line(NamedTuple):
    """A cell of a row, under one of the literal ends of its spellings."""

    tail: str
    cell: Cell
    group: Group
    row: Row
    forms: tuple[Variant, ...]


@cache
def _lines(family: Family, dialect: str) -> tuple[_Line, ...]:
    return tuple(
        _Line(tail, form.cell, group, row, row.cells[dialect])
        for group, row in family.rows()
        for form in row.cells.get(dialect, ())
        for tail in form.cell.tails
    )


def field_values(cell: Cell, raw: Mapping[str, str]) -> Values:
    """Values of the fields as numbers; free fields are not among them."""
    return tuple(
        field.words.index(raw[field.name]) if field.kind == "words" else int(raw[field.name]) for field in cell.valued
    )


class Parted(NamedTuple):
    """A checkpoint's names, parted by the slot names that dialects share.

    plain: those of parameters, or of what nobody knows. kinds: one of all plain names that differ in numbers only.
    """

    plain: tuple[str, ...]
    slots: SlotNames
    kinds: tuple[str, ...]


def kind_of(name: str) -> str:
    """The name without its numbers."""
    return _NUMBER.sub("#", name)


def part(names: Sequence[str], forms: Sequence[SlotForm], kind: Callable[[str], str] = kind_of) -> Parted:
    """Part names by these slot names. kind: of a name; one that remembers, where the same are parted again."""
    plain, slots = strip_slots(names, forms)
    kinds: dict[str, str] = {}
    for name in plain:
        kinds.setdefault(kind(name), name)
    return Parted(plain, slots, tuple(kinds.values()))


def match_as(names: Sequence[str], family: Family, dialect: Dialect) -> Match:
    """Read names as one dialect of one family, whatever fits and whatever does not."""
    return match_parted(part(names, dialect.slots), family, dialect)


def match_parted(names: Parted, family: Family, dialect: Dialect, wrapped: int | None = None) -> Match:
    """The same of names that were parted by this dialect's slots.

    wrapped: a match with more than so many letters before its scopes would be of no use, and is not looked for.
    """
    lines = _lines(family, dialect.name)
    left = dict.fromkeys(names.plain)
    models: list[Model] = []
    bases = [_scopes(dialect, prefix) for prefix in _base_prefixes(names.kinds, lines)]
    if wrapped is not None and all(len(outer) > wrapped for scopes in bases for _, outer in scopes):
        bases = []
    for scopes in bases:
        best = _best(left, family, dialect, lines, scopes)
        if best.found:
            models.append(best)
            for found in best.found.values():
                for name in found.names.values():
                    left.pop(name, None)
    return Match(family, dialect, tuple(models), names.slots, tuple(left))


def _best(
    names: Mapping[str, None],
    family: Family,
    dialect: Dialect,
    lines: Sequence[_Line],
    scopes: Iterable[tuple[Scope, str]],
) -> Model:
    """The scope that accounts for most parameters, and of those the longest (`teacher.bert.` rather than `bert.`).

    After one that accounts for all no other is asked, nor what it would have refused.
    """
    tried: list[tuple[int, Model]] = []
    for scope, outer in sorted(scopes, key=lambda one: len(one[1])):
        model = _claim(names, family, dialect, lines, scope, outer)
        count = sum(len(found.names) for found in model.found.values())
        tried.append((count, model))
        if count == len(names):
            break
    return max(tried, key=itemgetter(0))[1]


def _base_prefixes(kinds: Sequence[str], lines: Sequence[_Line]) -> list[str]:
    """Prefixes before the required rows, the most complete first; accidental hits of one or two rows are left out."""
    hits: dict[str, set[str]] = {}
    needed = [line for line in lines if line.group.required]
    near: dict[str, list[_Line]] = {}
    for name in kinds:
        if (end := name[-_END:]) not in near:
            near[end] = _near(end, needed)
        for line in near[end]:
            for prefix in _prefixes(line.cell, name):
                hits.setdefault(prefix, set()).add(line.row.key)
    most = max((len(keys) for keys in hits.values()), default=0)
    full = [prefix for prefix, keys in hits.items() if len(keys) * 2 > most]
    return sorted(full, key=lambda prefix: (-len(hits[prefix]), prefix))


def _prefixes(cell: Cell, name: str) -> Iterator[str]:
    """What can stand before a cell's name in this one: nothing, or something that ends at a boundary."""
    for template in cell.templates:
        found = template.match_end(name)
        if found is not None and (not found[0] or found[0][-1] in "./_"):
            yield found[0]


def _scopes(dialect: Dialect, prefix: str) -> list[tuple[Scope, str]]:
    """Scopes that this base prefix can be, with what stands before them."""
    fits = [
        (s, prefix[: len(prefix) - len(s.prefix("base"))]) for s in dialect.scopes if prefix.endswith(s.prefix("base"))
    ]
    return fits or [(Scope({}), prefix)]


def _claim(
    names: Iterable[str], family: Family, dialect: Dialect, lines: Sequence[_Line], scope: Scope, outer: str
) -> Model:
    """Every name that a row has under this scope."""
    left = dict.fromkeys(names)
    by_key: dict[str, tuple[_Line, dict[Values, str]]] = {}
    variables: dict[str, set[str]] = {}
    for level in dict.fromkeys(line.group.at for line in lines):
        prefix = outer + scope.prefix(level)
        here = [line for line in lines if line.group.at == level]
        near: dict[str, list[_Line]] = {}
        for name in [name for name in left if name.startswith(prefix)]:
            short = name[len(prefix) :]
            if (end := short[-_END:]) not in near:
                near[end] = _near(end, here)
            hit = _hit(short, near[end])
            if hit is None:
                continue
            del left[name]
            line, raw = hit
            by_key.setdefault(line.row.key, (line, {}))[1].setdefault(field_values(line.cell, raw), name)
            for field in line.cell.fields:
                if field.kind == "free":
                    variables.setdefault(field.name, set()).add(raw[field.name])
    for key, values in variables.items():
        if len(values) > 1:
            raise UsageError(f"{family.name}: {key} has {len(values)} values ({', '.join(sorted(values))}), wanted one")
    found = {key: Found(line.group, line.row, line.forms, hits) for key, (line, hits) in by_key.items()}
    named = {key: next(iter(words)) for key, words in variables.items()}
    return Model(family, dialect, scope, outer, named, _with_copies(family, dialect, found))


def _with_copies(family: Family, dialect: Dialect, found: dict[str, Found]) -> dict[str, Found]:
    """A tied copy takes the place of a tensor of its own group that is not there: exporters keep either name."""
    taken = dict(found)
    for key, copy in found.items():
        row = family.tied_row(copy.row, dialect.name) if copy.row.tie is not None else None
        if row is not None and row.key not in found and row in copy.group.rows:
            del taken[key]
            taken[row.key] = Found(copy.group, row, row.cells[dialect.name], copy.names)
    return taken


_END = 8
"""Letters at the end of a name by which the cells are sorted out that cannot match it."""


def _near(end: str, lines: Sequence[_Line]) -> list[_Line]:
    """The lines that can match a name with this end."""
    return [line for line in lines if end.endswith(line.tail) or line.tail.endswith(end)]


def _hit(name: str, lines: Sequence[_Line]) -> tuple[_Line, dict[str, str]] | None:
    for line in lines:
        raw = line.cell.match(name)
        if raw is not None:
            return line, raw
    return None
