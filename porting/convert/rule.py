"""The operation between two cells, derived from their labels.

The set of operations is closed. From the fields and axes of two cells follow, and nothing else:

    permute    the labels of the axes stand in another order
    split      an axis here is a field of the name there: one tensor becomes several
    stack      a field here is an axis there: several tensors become one
    fold       labels share an axis (row-major, outer first) on one side only
    replicate  a field there that is nowhere here: every value gets the same tensor
    equal      a field here that is nowhere there: all values must hold the same bits

Tie and drop belong to rows. Each is index arithmetic on elements, so its inverse is the rule derived
with the two cells exchanged.
"""

from __future__ import annotations

from typing import NamedTuple

from porting.convert.notation import Cell, show_axis
from porting.errors import TableError

COPY = ("copy",)
"""The steps of a target that has its source's bytes."""


class Rule(NamedTuple):
    """How a target cell comes from a source cell. All tuples hold labels.

    split: source axes that are target fields. stack: source fields that are target axes, in target order.
    kept: labels that are axes on both sides, in target order. permuted: their order in memory changes.
    replicate, equal: fields without a counterpart. steps: all this in words, in the order in which it applies, with
    the axes that are taken apart and put together; `("copy",)` if nothing is needed.
    """

    source: Cell
    target: Cell
    split: tuple[str, ...]
    stack: tuple[str, ...]
    kept: tuple[str, ...]
    permuted: bool
    replicate: tuple[str, ...]
    equal: tuple[str, ...]
    steps: tuple[str, ...]


def lost_labels(source: Cell, target: Cell) -> str:
    """Why two cells cannot be derived from each other, in either direction; empty if they can."""
    if set(source.labels) == set(target.labels):
        return ""
    lost = [label for label in source.labels if label not in target.labels and label not in target.numbered]
    made = [label for label in target.labels if label not in source.labels and label not in source.numbered]
    sides = [f"{label} is an axis of the source only" for label in lost]
    return "; ".join(sides + [f"{label} is an axis of the target only" for label in made])


def derive(source: Cell, target: Cell) -> Rule:
    """The rule from one cell to another.

    Raises: TableError if a label is an axis on one side and nowhere on the other: elements would be
    lost or invented.

    >>> derive(Cell.parse("k : hidden inner"), Cell.parse("w : inner hidden")).steps
    ('transpose',)
    >>> derive(Cell.parse("w : (proj out) hidden"), Cell.parse("{proj[q k v]} : out hidden")).steps
    ('unfold (proj out)', 'split proj')
    """
    problem = lost_labels(source, target)
    if problem:
        raise TableError(problem)
    source_fields, target_fields = set(source.numbered), set(target.numbered)
    split = tuple(label for label in source.labels if label in target_fields)
    stack = tuple(label for label in target.labels if label in source_fields)
    kept = tuple(label for label in target.labels if label in source.labels)
    before = tuple(label for label in source.labels if label in target.labels)
    replicate = tuple(f.name for f in target.fields if f.name in target_fields - source_fields - set(source.labels))
    equal = tuple(f.name for f in source.fields if f.name in source_fields - target_fields - set(target.labels))
    rule = Rule(source, target, split, stack, kept, kept != before, replicate, equal, ())
    return rule._replace(steps=_steps(rule))


def _steps(rule: Rule) -> tuple[str, ...]:
    words: list[str] = []
    out_axes = {axis for axis in rule.target.axes if len(axis) > 1}
    in_axes = {axis for axis in rule.source.axes if len(axis) > 1}
    words += [f"unfold {show_axis(axis)}" for axis in rule.source.axes if axis in in_axes - out_axes]
    words += [f"split {label}" for label in rule.split]
    if rule.permuted:
        plain = len(rule.source.axes) == len(rule.target.axes) == len(rule.kept) == 2
        before = [label for label in rule.source.labels if label in rule.kept]
        words.append("transpose" if plain else f"permute {' '.join(before)} -> {' '.join(rule.kept)}")
    words += [f"stack {label}" for label in rule.stack]
    words += [f"fold {show_axis(axis)}" for axis in rule.target.axes if axis in out_axes - in_axes]
    words += [f"replicate over {label}" for label in rule.replicate]
    words += [f"equal over {label}" for label in rule.equal]
    if not words and rule.source.axes != rule.target.axes:
        words.append("reshape by axes of 1")
    return tuple(words) or COPY
