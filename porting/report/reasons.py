"""What judges and readers of evidence say, in another language: by templates of their English texts.

Judges write English, which is what report.json holds whatever the language of the page. A report in another language
recognises each text by its template (reasons.toml) and takes over what stands in its places: names, numbers, lines of
logs. What no template fits stays as it is.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Literal

from porting.errors import readable

Kind = Literal["reason", "name"]

PARTS = "; "
"""What stands between the parts of a reason, and in the place of none of a template."""

FULL = "\N{FULLWIDTH SEMICOLON}"

DEEPEST = 6
"""Reasons within reasons at most."""


@dataclass(frozen=True, slots=True)
class Template:
    """An English text and its translation. literals: what stands around the places; places: their names."""

    english: str
    other: str
    literals: tuple[str, ...]
    places: tuple[str, ...]

    def values(self, text: str) -> dict[str, str] | None:
        """What stands in the places of a text; None if it is no text of this template.

        Each part is looked for from the left behind the one before, which takes no longer for a text that means harm.
        """
        first, *middle, last = self.literals if len(self.literals) > 1 else (self.literals[0], "")
        if not self.places:
            return {} if text == first else None
        if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
            return None
        at, end, found = len(first), len(text) - len(last), []
        for literal in middle:
            place = text.find(literal, at + 1, end)
            if place < 0:
                return None
            found.append(text[at:place])
            at = place + len(literal)
        found.append(text[at:end])
        whole = all(found) and not any(PARTS in value for value in found)
        return dict(zip(self.places, found, strict=True)) if whole else None


@cache
def templates(kind: Kind) -> tuple[Template, ...]:
    """All of a kind, the surest first: what begins with a known name, or with text of its own; what has most of it."""
    table = tomllib.loads(files("porting.report").joinpath("reasons.toml").read_text(encoding="utf-8"))[kind]
    made = []
    for english, other in table.items():
        literals = tuple(re.split(r"{\w+}", english))
        made.append(Template(english, other, literals, tuple(re.findall(r"{(\w+)}", english))))
    return tuple(
        sorted(made, key=lambda one: ("known" not in one.places, not one.literals[0], -sum(map(len, one.literals))))
    )


@lru_cache(maxsize=4096)
def translated(text: str, kind: Kind = "reason", depth: int = 0) -> str | None:
    """A text in the other language, whole or part by part; None where nothing fits, or within another not all does."""
    if not text or depth > DEEPEST:
        return None
    for template in templates(kind):
        values = template.values(text)
        if values is not None and (filled := _filled(template, values, depth)) is not None:
            return filled
    if kind == "reason" and PARTS in text:
        parts = text.split(PARTS)
        others = [translated(part, kind, depth + 1) for part in parts]
        if all(others) or (any(others) and not depth):
            return FULL.join(other or part for part, other in zip(parts, others, strict=True))
    return None


def said(text: str, kind: Kind = "reason") -> str:
    """The same, or the text as it is."""
    short = readable(text)
    return translated(short, kind) or short


def _filled(template: Template, values: dict[str, str], depth: int) -> str | None:
    """The translation with its places filled; None where a place is to be a reason, a name or a number and is none."""
    told = {}
    for place, value in values.items():
        if place.startswith("why") or place == "known":
            known = translated(value, "name" if place == "known" else "reason", depth + 1)
            if known is None:
                return None
            told[place] = known
        elif place.startswith(("count", "step")) and " " in value:
            return None
        elif place.startswith(("what", "side")):
            told[place] = translated(value, "name", depth + 1) or value
        elif place.startswith("list"):
            told[place] = ", ".join(translated(one, "name", depth + 1) or one for one in value.split(", "))
        else:
            told[place] = value
    return re.sub(r"{(\w+)}", lambda place: told[place[1]], template.other)
