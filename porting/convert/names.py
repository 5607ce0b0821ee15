"""Names in messages: layers collapsed, long lists cut."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

_NUMBER = re.compile(r"(?<![0-9])[0-9]+(?![0-9])")


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
    """Names that differ in their first number only under one collapsed name, in the order of first sight.

    >>> grouped(["layer.0.bias", "pooler.bias", "layer.1.bias"])
    {'layer.{0-1}.bias': ['layer.0.bias', 'layer.1.bias'], 'pooler.bias': ['pooler.bias']}
    """
    found: dict[tuple[str, str], dict[str, int]] = {}
    for name in names:
        match = _NUMBER.search(name)
        key = (name[: match.start()], name[match.end() :]) if match else (name, "\0")
        found.setdefault(key, {})[name] = int(match[0]) if match else 0
    return {
        f"{head}{{{ranges(members.values())}}}{tail}" if len(members) > 1 else next(iter(members)): list(members)
        for (head, tail), members in found.items()
    }


def collapse(names: Iterable[str]) -> list[str]:
    """Names that differ in their first number only, as one.

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
