"""Can one name match two templates? Decided exactly, when a table is built."""

from __future__ import annotations

from functools import cache

from porting.convert.notation import Field, Template

_Token = tuple[str, bool]
"""(character class, may repeat): a literal character, `digit`, or `free`."""


@cache
def _tokens(parts: tuple[str | Field, ...]) -> list[_Token]:
    tokens: list[_Token] = []
    for part in parts:
        if isinstance(part, Field):
            tokens.append(("digit" if part.kind == "digits" else "free", True))
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
    for first in one.spellings():
        for second in two.spellings():
            if _reach(_tokens(first), _tokens(second)):
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
    return (touching or long[len(short) :][:1].isdigit()) and _reach(_tokens(one.parts), _tokens(two.parts))


def _ends(tokens: list[_Token], at: int) -> bool:
    """Is what may repeat here over where it stops, for the next character is none of it?"""
    return at + 1 == len(tokens) or not _meet(tokens[at][0], tokens[at + 1][0])


def _reach(a: list[_Token], b: list[_Token]) -> bool:
    """Is there a string that both automata read to the end?"""
    start = 0
    for one, two in zip(a, b, strict=False):  # what both spell out can only be read in one way
        if (one[1] or two[1]) and not (one == two and _ends(a, start) and _ends(b, start)):
            break
        if not _meet(one[0], two[0]):
            return False
        start += 1
    seen: set[tuple[int, int]] = set()
    todo = [(start, start)]
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
