"""Proposes the rows of a table from two checkpoints of one model in two dialects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porting.checkpoint.entry import Checkpoint
from porting.convert.identify import identify
from porting.convert.names import collapse
from porting.convert.proposal.fingerprint import fingerprint
from porting.convert.proposal.fused import by_fusion
from porting.convert.proposal.labels import size_labels
from porting.convert.proposal.layers import by_layers
from porting.convert.proposal.patterns import Pattern, patterns
from porting.convert.proposal.search import Ambiguous, Proposed, Search
from porting.convert.proposal.whole import by_name, by_value


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Rows for the tensors of two checkpoints.

    rows: proposed, those that values prove first. ambiguous: what the user has to decide. only_a, only_b: collapsed
    names without a counterpart. labels: label to size. notes: what else a table needs.
    """

    a: str
    b: str
    rows: tuple[Proposed, ...]
    ambiguous: tuple[Ambiguous, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    labels: Mapping[str, int]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "a": self.a,
            "b": self.b,
            "labels": dict(self.labels),
            "rows": [_row_json(line) for line in self.rows],
            "ambiguous": [
                {"reason": one.reason, "options": [_row_json(line) for line in one.options], "others": list(one.others)}
                for one in self.ambiguous
            ],
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "notes": list(self.notes),
        }


def _row_json(line: Proposed) -> dict[str, Any]:
    return {"a": line.a, "b": line.b, "evidence": line.evidence, "tensors": list(line.tensors)}


def suggest(a: str | Path, b: str | Path, *, format_a: str | None = None, format_b: str | None = None) -> Suggestion:
    """Match the tensors of two checkpoints and write each match as a row.

    Values come first: tensors of the same elements are compared in every order of their axes, stacked over layers and
    fused with their kin. Names and shapes serve for the rest, and where they leave a choice, it is shown.
    Reads both checkpoints in pieces, about three times.
    Raises: FormatError, UsageError.
    """
    one, two = identify(a, format=format_a).checkpoint, identify(b, format=format_b).checkpoint
    ones, twos = patterns(one.entries), patterns(two.entries)
    labels = size_labels([*ones, *twos])
    prints = {id(each): tuple(map(fingerprint, each.entries)) for each in (*ones, *twos)}
    search = Search(list(ones), list(twos), prints, labels)
    by_value(search)
    by_layers(search)
    by_fusion(search)
    by_name(search)
    place = {line.template: i for i, line in enumerate(ones)}
    rows = sorted(
        search.rows, key=lambda line: (line.evidence == "names", place.get(line.a.split(" :")[0], len(place)))
    )
    return Suggestion(
        a=str(one.path),
        b=str(two.path),
        rows=tuple(rows),
        ambiguous=tuple(search.ambiguous),
        only_a=tuple(_left(search.a)),
        only_b=tuple(_left(search.b)),
        labels=_used(labels.sizes(), [*rows, *(line for one in search.ambiguous for line in one.options)]),
        notes=(*_notes("a", one), *_notes("b", two), *_ones([*ones, *twos])),
    )


def _left(left: Sequence[Pattern]) -> list[str]:
    return collapse([entry.name for one in left for entry in one.entries])


def _used(labels: Mapping[str, int], rows: Sequence[Proposed]) -> dict[str, int]:
    words = {word for line in rows for text in (line.a, line.b) for word in re.findall(r"\w+", text.partition(" :")[2])}
    return {label: size for label, size in labels.items() if label in words}


def _ones(found: Sequence[Pattern]) -> list[str]:
    """A warning where a size of 1 may be a size of this model only."""
    if not any(1 in one.shape for one in found):
        return []
    return ["axes of size 1 are written as 1: give a label to those of which another model may have more"]


def _notes(letter: str, checkpoint: Checkpoint) -> list[str]:
    """Prefixes that belong into a scope, and tied tensors."""
    heads = Counter(name[: name.find(mark) + 1] for name in checkpoint for mark in _first_mark(name))
    notes = [
        f"{count} of {len(checkpoint)} names of {letter} begin with {head}: a scope's prefix, to be cut off the cells"
        for head, count in heads.most_common(1)
        if 2 * count > len(checkpoint)
    ]
    tied = [f"{name} shares the bytes of {entry.tied}" for name, entry in checkpoint.items() if entry.tied]
    return [*notes, *(f"{letter}: {line}: a tie" for line in tied[:8])]


def _first_mark(name: str) -> list[str]:
    marks = [mark for mark in "./" if mark in name]
    return sorted(marks, key=name.find)[:1]


def suggestion_lines(found: Suggestion, names: tuple[str, str] = ("a", "b")) -> list[str]:
    """The rows as Python, ready for a table; what is ambiguous stays a comment until someone decides."""
    sizes = ", ".join(f"{label} {size}" for label, size in sorted(found.labels.items()))
    lines = [f"# {names[0]}: {found.a}", f"# {names[1]}: {found.b}", f"# labels: {sizes}"]
    lines += [f"# note: {note}" for note in found.notes]
    proved = [line for line in found.rows if line.evidence == "values"]
    guessed = [line for line in found.rows if line.evidence == "names"]
    if proved:
        lines += ["", "# equal values, bit for bit", *(line.text(names) for line in proved)]
    if guessed:
        lines += ["", "# by name and shape alone: the values differ", *(line.text(names) for line in guessed)]
    for one in found.ambiguous:
        lines += ["", f"# AMBIGUOUS: {one.reason}", *(f"# {line.text(names)}" for line in one.options)]
        lines += [f"#   or {names[1]}: {other}" for other in one.others]
    for letter, left in zip(names, (found.only_a, found.only_b), strict=True):
        lines += ["", f"# in {letter} only", *(f"#   {name}" for name in left)] if left else []
    return lines
