"""Tensors of one name in every layer as one pattern, found from the names alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from porting.checkpoint.entry import TensorEntry

_NUMBER = re.compile(r"(0|[1-9][0-9]*)")


@dataclass(frozen=True)
class Pattern:
    """Tensors whose names differ in running numbers only.

    template: the name with fields, as the notation writes it. counts: how far each field runs, from 0.
    entries: row-major over the fields; all of one shape and dtype.
    """

    template: str
    counts: tuple[int, ...]
    entries: tuple[TensorEntry, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of each tensor."""
        return self.entries[0].shape

    @property
    def dtype(self) -> str:
        """Of each tensor."""
        return self.entries[0].dtype.name


@dataclass(frozen=True)
class _Name:
    """A name cut at its numbers: texts[0] numbers[0] texts[1] …. fields: which of the numbers are fields."""

    entry: TensorEntry
    texts: tuple[str, ...]
    numbers: tuple[str, ...]
    fields: tuple[int, ...] = ()

    def head(self, at: int) -> str:
        """What stands before a number, fields as marks."""
        parts = [f"{text}{'#' if i in self.fields else self.numbers[i]}" for i, text in enumerate(self.texts[:at])]
        return "".join(parts) + self.texts[at]

    def tail(self, at: int) -> tuple[str, tuple[int, ...], str]:
        """What stands after a number, and what the tensor is."""
        rest = "".join(
            number + text for number, text in zip((*self.numbers[at + 1 :], ""), self.texts[at + 1 :], strict=True)
        )
        return rest, self.entry.shape, self.entry.dtype.name


def patterns(entries: Mapping[str, TensorEntry]) -> list[Pattern]:
    """All tensors, in the order of first sight; one that repeats nowhere is a pattern of its own.

    A number is a field if it runs from 0 without a gap and what follows it is there, in one shape, for every value
    of it. So `layer_0/ff/layer_1/kernel` has one field: the inner numbers 1 and 2 do not run from 0.
    """
    names = [_cut(entry) for entry in entries.values()]
    for at in range(max((len(name.numbers) for name in names), default=0)):
        names = _with_fields(names, at)
    found: dict[tuple[str, tuple[int, ...], str], list[_Name]] = {}
    for name in names:
        found.setdefault((_template(name), name.entry.shape, name.entry.dtype.name), []).append(name)
    made: list[Pattern] = []
    for (template, _, _), members in found.items():
        made += _pattern(template, members)
    return made


def _cut(entry: TensorEntry) -> _Name:
    parts = re.split(r"([0-9]+)", entry.name)
    texts, numbers = [parts[0]], []
    for number, text in zip(parts[1::2], parts[2::2], strict=True):
        if _NUMBER.fullmatch(number):
            numbers.append(number)
            texts.append(text)
        else:
            texts[-1] += number + text
    return _Name(entry, tuple(texts), tuple(numbers))


def _with_fields(names: Sequence[_Name], at: int) -> list[_Name]:
    """The same names with this number of each a field where it runs."""
    tails: dict[str, dict[int, set[tuple[str, tuple[int, ...], str]]]] = {}
    for name in names:
        if len(name.numbers) > at:
            tails.setdefault(name.head(at), {}).setdefault(int(name.numbers[at]), set()).add(name.tail(at))
    common = {head: _common(found) for head, found in tails.items()}
    return [
        _Name(name.entry, name.texts, name.numbers, (*name.fields, at))
        if len(name.numbers) > at and name.tail(at) in common[name.head(at)]
        else name
        for name in names
    ]


def _common(found: Mapping[int, set[tuple[str, tuple[int, ...], str]]]) -> set[tuple[str, tuple[int, ...], str]]:
    """What follows every value, if the values run and most of what follows one follows all."""
    if len(found) < 2 or set(found) != set(range(len(found))):
        return set()
    shared = set.intersection(*found.values())
    return shared if 2 * len(shared) >= len(set.union(*found.values())) else set()


def field_name(at: int) -> str:
    """The first running number is the layer's; others have no name that could be known."""
    return "layer" if at == 0 else "item" if at == 1 else f"item{at}"


def _template(name: _Name) -> str:
    text = name.texts[0]
    for i, number in enumerate(name.numbers):
        text += (f"{{{field_name(name.fields.index(i))}}}" if i in name.fields else number) + name.texts[i + 1]
    return text


def _pattern(template: str, members: Iterable[_Name]) -> list[Pattern]:
    values = {tuple(int(name.numbers[i]) for i in name.fields): name for name in members}
    counts = tuple(max(at) + 1 for at in zip(*values, strict=True))
    total = 1
    for count in counts:
        total *= count
    if total == len(values):
        return [Pattern(template, counts, tuple(values[at].entry for at in sorted(values)))]
    return [Pattern(name.entry.name, (), (name.entry,)) for name in values.values()]
