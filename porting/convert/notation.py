"""The notation of a table's cells: a name and its axes.

    encoder/layer_{layer}/intermediate/dense/kernel : hidden inner
    layer.{layer}.self_attn.in_proj_weight          : (proj out) hidden
    {proj[query key value]}.weight | {proj[q k v]}.weight : out hidden

Left of the colon stands a name. `{layer}` is a field of digits, `{proj[query key value]}` one of the
listed words, `{task*}` any word without separators. Names after a `|` are read as well, the first
is the one that is written. Right of it stand the axes, outermost first: a label, a fold of labels
in parentheses (outer first), or `1` for an axis that is always 1. `hidden'` is another axis of the
same size as `hidden`. A cell without a colon is a scalar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise, product
from typing import Literal, NamedTuple

from porting.errors import TableError

FieldKind = Literal["digits", "words", "free"]

_FIELD = re.compile(r"\{([a-z]\w*)(\*|\[[^\]]*\])?\}", re.ASCII)
_LABEL = re.compile(r"[a-z]\w*'*", re.ASCII)
_DIGITS = r"(?:0|[1-9][0-9]{0,8})"
_FREE = r"[^/.\s]+"

_NUMBER = re.compile(_DIGITS)
_SPACE = re.compile(r"\s")
_AXIS = re.compile(r"\([^()]*\)|[^\s()]+|[()]")

FREE_WORD = re.compile(_FREE)
"""What a free field of a name may hold."""


class Field(NamedTuple):
    """A varying part of a name. `words` are its values in order, for kind `words` only."""

    name: str
    kind: FieldKind
    words: tuple[str, ...] = ()

    def pattern(self) -> str:
        """As a regular expression with a named group."""
        body = {"digits": _DIGITS, "free": _FREE}.get(self.kind) or "|".join(map(re.escape, self.words))
        return f"(?P<{self.name}>{body})"


@dataclass(frozen=True)
class Template:
    """A name with fields.

    >>> Template.parse("layer.{layer}.weight").fill({"layer": "3"})
    'layer.3.weight'
    """

    parts: tuple[str | Field, ...]

    @classmethod
    @cache
    def parse(cls, text: str) -> Template:
        """Raises: TableError for braces that are no field, a field twice or touching another, spaces."""
        parts: list[str | Field] = []
        at = 0
        for match in _FIELD.finditer(text):
            if match.start() > at:
                parts.append(text[at : match.start()])
            parts.append(_field(match, text))
            at = match.end()
        if at < len(text):
            parts.append(text[at:])
        template = cls(tuple(parts))
        names = [field.name for field in template.fields]
        literal = "".join([part for part in parts if isinstance(part, str)])
        if "{" in literal or "}" in literal:
            raise TableError(f"{text}: braces that are no field")
        if _SPACE.search(literal):
            raise TableError(f"{text}: a name has no spaces; axes stand after ' : '")
        if len(set(names)) != len(names):
            raise TableError(f"{text}: a field occurs twice")
        if any(isinstance(a, Field) and isinstance(b, Field) for a, b in pairwise(parts)):
            raise TableError(f"{text}: two fields without a letter between them")
        return template

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The fields in order."""
        return tuple(part for part in self.parts if isinstance(part, Field))

    @cached_property
    def valued(self) -> tuple[Field, ...]:
        """Those that have numbers or listed words for values, free ones left out."""
        return tuple(field for field in self.fields if field.kind != "free")

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Matches a full name and nothing else."""
        return re.compile("".join(p.pattern() if isinstance(p, Field) else re.escape(p) for p in self.parts))

    @cached_property
    def tail(self) -> str:
        """The literal end, which a name must have to match: a cheap first test."""
        last = self.parts[-1] if self.parts else ""
        return last if isinstance(last, str) else ""

    @cached_property
    def head(self) -> str:
        """The literal beginning; empty if it begins with a field."""
        first = self.parts[0] if self.parts else ""
        return first if isinstance(first, str) else ""

    def match(self, name: str) -> dict[str, str] | None:
        """The values of the fields if the full name matches."""
        if len(self.fields) < 2 and self.plain:
            found = self.match_end(name)
            return found[1] if found is not None and not found[0] else None
        hit = self.regex.fullmatch(name)
        return None if hit is None else hit.groupdict()

    def match_end(self, name: str) -> tuple[str, dict[str, str]] | None:
        """What stands before the end of the name that matches, and the values of the fields.

        The names of most tables have one field of digits at most, and are read without a regular
        expression: compiling one per name would take longer than everything else about them.
        """
        if not name.endswith(self.tail):
            return None
        if not self.plain:
            hit = self._ending.fullmatch(name)
            return None if hit is None else (hit["_before"], {key: hit[key] for key in (f.name for f in self.fields)})
        if not self.fields:
            return name[: len(name) - len(self.tail)], {}
        rest = name[: len(name) - len(self.tail)]
        digits = rest[len(rest.rstrip("0123456789")) :]
        before = rest[: len(rest) - len(digits)]
        if not _NUMBER.fullmatch(digits) or not before.endswith(self.head):
            return None
        return before[: len(before) - len(self.head)], {self.fields[0].name: digits}

    @cached_property
    def plain(self) -> bool:
        """No field, or one of digits with a name that does not end in a digit before it."""
        if not self.fields:
            return True
        one_number = len(self.fields) == 1 and self.fields[0].kind == "digits"
        return one_number and bool(self.head) and not self.head[-1].isdigit()

    @cached_property
    def _ending(self) -> re.Pattern[str]:
        return re.compile(f"(?P<_before>.*?){self.regex.pattern}", re.DOTALL)

    def fill(self, values: dict[str, str]) -> str:
        """The name with these values. Raises: KeyError for a field without one."""
        return "".join(values[part.name] if isinstance(part, Field) else part for part in self.parts)

    def spellings(self) -> Iterator[tuple[str | Field, ...]]:
        """The template with every listed word in place: only digit and free fields are left."""
        choices = [p.words if isinstance(p, Field) and p.kind == "words" else (p,) for p in self.parts]
        yield from product(*choices)

    def __str__(self) -> str:
        return "".join(f"{{{part.name}}}" if isinstance(part, Field) else part for part in self.parts)


def _field(match: re.Match[str], text: str) -> Field:
    name, rest = match[1], match[2]
    if rest is None:
        return Field(name, "digits")
    if rest == "*":
        return Field(name, "free")
    words = tuple(rest[1:-1].split())
    if not words or len(set(words)) != len(words):
        raise TableError(f"{text}: field {name} needs different words")
    return Field(name, "words", words)


Axis = tuple[str, ...]
"""The labels folded into one axis, outer first; one label for a plain axis, none for an axis of size 1."""


@dataclass(frozen=True)
class Cell:
    """A name, its other spellings, and its axes."""

    templates: tuple[Template, ...]
    axes: tuple[Axis, ...]

    @classmethod
    @cache
    def parse(cls, text: str) -> Cell:
        """Raises: TableError naming the cell and what is wrong in it.

        >>> Cell.parse("w : (proj out) hidden").axes
        (('proj', 'out'), ('hidden',))
        """
        names, _, axes = text.partition(" :")
        templates = tuple(Template.parse(name.strip()) for name in names.split(" | "))
        if not all(template.parts for template in templates):
            raise TableError(f"{text!r}: a cell needs a name")
        cell = cls(templates, _axes(axes, text))
        first = {(field.name, field.kind, len(field.words)) for field in templates[0].fields}
        for other in templates[1:]:
            if {(field.name, field.kind, len(field.words)) for field in other.fields} != first:
                raise TableError(f"{text}: every spelling needs the same fields")
        labels = [*cell.labels, *(field.name for field in templates[0].fields)]
        if len(set(labels)) != len(labels):
            twice = sorted({label for label in labels if labels.count(label) > 1})
            raise TableError(
                f"{text}: {', '.join(twice)} occurs twice in one cell; a second axis of that size is {twice[0]}'"
            )
        return cell

    @property
    def template(self) -> Template:
        """The name that is written."""
        return self.templates[0]

    @property
    def fields(self) -> tuple[Field, ...]:
        """Of the name that is written."""
        return self.templates[0].fields

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """All labels of the axes, unfolded, in memory order."""
        return tuple(label for axis in self.axes for label in axis)

    @property
    def valued(self) -> tuple[Field, ...]:
        """Those of the name that is written that have numbers or listed words for values, free ones left out."""
        return self.templates[0].valued

    @cached_property
    def numbered(self) -> tuple[str, ...]:
        """The names of these."""
        return tuple(field.name for field in self.valued)

    @cached_property
    def tails(self) -> tuple[str, ...]:
        """The literal ends of the spellings, each once."""
        return tuple(dict.fromkeys(template.tail for template in self.templates))

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.axes)

    def match(self, name: str) -> dict[str, str] | None:
        """Field values if one of the spellings matches, words translated to those of the first spelling."""
        for template in self.templates:
            if not name.endswith(template.tail):
                continue
            hit = template.match(name)
            if hit is not None:
                return hit if template is self.templates[0] else self._translate(template, hit)
        return None

    def _translate(self, template: Template, values: dict[str, str]) -> dict[str, str]:
        own = {field.name: field for field in self.fields}
        for field in template.fields:
            if field.kind == "words":
                values[field.name] = own[field.name].words[field.words.index(values[field.name])]
        return values

    def __str__(self) -> str:
        return f"{self.template} : {' '.join(show_axis(axis) for axis in self.axes)}".rstrip(" :")


def show_axis(axis: Axis) -> str:
    """An axis as the notation writes it."""
    return axis[0] if len(axis) == 1 else f"({' '.join(axis)})" if axis else "1"


def _axes(text: str, cell: str) -> tuple[Axis, ...]:
    axes: list[Axis] = []
    for word in _AXIS.findall(text):
        axis = _axis(word)
        if axis is None:
            raise TableError(f"{cell}: {word!r} is not a label, a fold of labels in parentheses, or 1")
        axes.append(axis)
    return tuple(axes)


@cache
def _axis(word: str) -> Axis | None:
    """The labels of one axis; None if it is no axis."""
    if word == "1":
        return ()
    labels = tuple(word[1:-1].split()) if word.startswith("(") and word.endswith(")") else (word,)
    return labels if labels and all(map(_LABEL.fullmatch, labels)) else None


def size_label(label: str) -> str:
    """The label whose size this one has: `hidden'` has that of `hidden`."""
    return label.rstrip("'")
