"""Names in messages: layers collapsed, long lists cut."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

_NUMBER = re.compile(r"(?<![0-9])([0-9]{1,9})(?![0-9])")


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as ranges.

    >>> ranges([0, 1, 2, 5])
    '0-2,5'
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


def grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """Names that differ in one number only under one collapsed name, in the order of first sight.

    The number is the first in which the names of a pattern differ: a wrapper's own number does not hide the layers'.

    >>> grouped(["net2.layer.0.bias", "pooler.bias", "net2.layer.1.bias"])
    {'net2.layer.{0-1}.bias': ['net2.layer.0.bias', 'net2.layer.1.bias'], 'pooler.bias': ['pooler.bias']}
    """
    patterns: dict[tuple[str, ...], list[list[str]]] = {}
    for name in dict.fromkeys(names):
        parts = _NUMBER.split(name)
        patterns.setdefault(tuple(parts[0::2]), []).append(parts)
    return {shown: members for found in patterns.values() for shown, members in _runs(found)}


def _runs(found: list[list[str]]) -> Iterator[tuple[str, list[str]]]:
    """Names of one pattern, each cut into text and numbers by turns: the collapsed name and its members."""
    columns = enumerate(zip(*found, strict=True))
    at = next((i for i, values in columns if len(set(values)) > 1), None)
    runs: dict[tuple[str, ...], list[list[str]]] = {}
    for parts in found:
        runs.setdefault(tuple(part for i, part in enumerate(parts) if i != at), []).append(parts)
    for run in runs.values():
        shown = list(run[0])
        if at is not None and len(run) > 1:
            shown[at] = f"{{{ranges(int(parts[at]) for parts in run)}}}"
        yield "".join(shown), ["".join(parts) for parts in run]


def collapse(names: Iterable[str]) -> list[str]:
    """Names that differ in one number only, as one.

    >>> collapse(["layer.0.bias", "layer.1.bias", "pooler.bias"])
    ['layer.{0-1}.bias', 'pooler.bias']
    """
    return list(grouped(names))


def listed(names: Sequence[str], most: int = 12) -> str:
    """Collapsed names in one line, the rest counted."""
    short = collapse(names)
    more = f" and {len(short) - most} more" if len(short) > most else ""
    return ", ".join(short[:most]) + more


def allowed(name: str, patterns: Sequence[str]) -> bool:
    """Does the name, or a shell pattern, stand in the list?"""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)
