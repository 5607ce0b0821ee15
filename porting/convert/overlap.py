"""Can one name match two templates? Decided exactly, when a table is built."""

from __future__ import annotations

from functools import cache

from porting.convert.notation import Field, Template

_Parts = tuple[str | Field, ...]

_Token = tuple[str, bool]
"""(character class, may repeat): a literal character, `digit`, or `free`."""


def _class(field: Field) -> str:
    return "digit" if field.kind == "digits" else "free"


@cache
def _tokens(parts: _Parts) -> list[_Token]:
    tokens: list[_Token] = []
    for part in parts:
        if isinstance(part, Field):
            tokens.append((_class(part), True))
        else:
            tokens.extend((char, False) for char in part)
    return tokens


def _meet(a: str, b: str) -> bool:
    """Is there a character in both classes?"""
    if len(a) > 1 and len(b) > 1:
        return True
    if len(b) > 1:
        a, b = b, a
    if a == "digit":
        return b.isdigit()
    if a == "free":
        return b not in "/. "
    return a == b


def templates_overlap(one: Template, two: Template) -> str | None:
    """A spelling of `one` that `two` matches too, or None.

    Walks both as automata at once. Leading zeros are let through, so `x01` may be reported where
    only `x1` exists: an overlap is never missed, and no table needs such names.

    >>> templates_overlap(Template.parse("layer.{layer}.w"), Template.parse("layer.0.w"))
    'layer.{layer}.w'
    """
    head_one, head_two = one.head, two.head
    if not (head_one.startswith(head_two) or head_two.startswith(head_one)):
        return None
    if one.plain and two.plain:
        return str(one) if _plain_overlap(one, two) else None
    for first in map(_joined, one.spellings()):
        for second in map(_joined, two.spellings()):
            if _reach(first, second):
                return "".join(f"{{{part.name}}}" if isinstance(part, Field) else part for part in first)
    return None


def _plain_overlap(one: Template, two: Template) -> bool:
    """The same for templates without fields or with one number, where it can be read off."""
    for literal, other in ((one, two), (two, one)):
        if not literal.fields:
            return other.match(literal.tail) is not None
    short, long = sorted((one.head, two.head), key=len)
    touching = one.tail[:1].isdigit() or two.tail[:1].isdigit()
    if not touching and short == long:
        return one.tail == two.tail
    return (touching or long[len(short) :][:1].isdigit()) and _reach(one.parts, two.parts)


@cache
def _joined(parts: _Parts) -> _Parts:
    """The same with what is spelled out one after the other in one piece."""
    joined: list[str | Field] = []
    for part in parts:
        if joined and isinstance(part, str) and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return tuple(joined)


def _apart(one: _Parts, two: _Parts) -> bool:
    """Do they spell out different letters at a place that both come to together?"""
    for at, (a, b) in enumerate(zip(one, two, strict=False)):
        if isinstance(a, str) and isinstance(b, str):
            if a != b:
                return not (a.startswith(b) or b.startswith(a))
        elif not (_ends(one, at) and _ends(two, at) and a[1:] == b[1:]):
            return False
    return False


def _ends(parts: _Parts, at: int) -> bool:
    """Is this a field that is over where the next letters begin, for it can hold none such?"""
    field, following = parts[at], parts[at + 1] if at + 1 < len(parts) else "\0"
    return isinstance(field, Field) and isinstance(following, str) and not _meet(_class(field), following[0])


def _reach(one: _Parts, two: _Parts) -> bool:
    """Is there a string that both automata read to the end?"""
    if _apart(one, two):
        return False
    a, b = _tokens(one), _tokens(two)
    seen: set[tuple[int, int]] = set()
    todo = [(0, 0)]
    while todo:
        i, j = todo.pop()
        if (i, j) in seen:
            continue
        seen.add((i, j))
        if i == len(a) and j == len(b):
            return True
        if i == len(a) or j == len(b) or not _meet(a[i][0], b[j][0]):
            continue
        todo.append((i + 1, j + 1))
        if a[i][1]:
            todo.append((i, j + 1))
        if b[j][1]:
            todo.append((i + 1, j))
    return False
