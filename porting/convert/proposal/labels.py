"""Labels for axes: a name per size, the field's own where it can be recognised."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from porting.convert.proposal.axes import Order
from porting.convert.proposal.patterns import Pattern

_WORDS = (
    (re.compile(r"token_type|segment|seg_embed", re.IGNORECASE), "token_types"),
    (re.compile(r"position", re.IGNORECASE), "positions"),
    (re.compile(r"word|embed_tokens|wte|lookup|vocab", re.IGNORECASE), "vocab"),
    (re.compile(r"intermediate|inner|ffn?|fc|mlp|feed_forward", re.IGNORECASE), "inner"),
)
"""What a matrix whose one axis is the hidden size is called when its other axis has a name of its own."""


_LOCAL = ("token_types", "positions")
"""Labels that only tensors of such a name carry: another axis of size 2 is not made of token types."""


@dataclass(frozen=True, slots=True)
class Labels:
    """A label per size. everywhere: for all tensors. local: label to size, for tensors whose name says so."""

    everywhere: Mapping[int, str]
    local: Mapping[str, int]

    def of(self, *templates: str) -> dict[int, str]:
        """Size to label in a row of these names."""
        words = {label for template in templates for label in [_word(template)] if label in self.local}
        return {**self.everywhere, **{self.local[label]: label for label in words if label is not None}}

    def sizes(self) -> dict[str, int]:
        """All labels with their sizes."""
        return {**{label: size for size, label in self.everywhere.items()}, **self.local}


def _word(template: str) -> str | None:
    return next((label for pattern, label in _WORDS if pattern.search(template)), None)


def size_labels(patterns: Sequence[Pattern]) -> Labels:
    """`hidden` is the most frequent size; the rest are named by the words of the names, else `d` and the size.

    A label stands for one size. Sizes that are equal by chance share it: two checkpoints cannot tell them apart.
    """
    seen = Counter(size for one in patterns for size in one.shape if size > 1 for _ in one.entries)
    labels = {size: f"d{size}" for size in seen}
    if not seen:
        return Labels(labels, {})
    hidden = max(seen, key=lambda size: (seen[size], size))
    claims: dict[str, set[int]] = {}
    for one in patterns:
        other = [size for size in one.shape if size != hidden]
        word = _word(one.template)
        if word is not None and len(one.shape) == 2 and len(other) == 1 and other[0] > 1:
            claims.setdefault(word, set()).add(other[0])
    sure = {word: sizes.pop() for word, sizes in claims.items() if len(sizes) == 1}
    for word, size in sure.items():
        if word not in _LOCAL and labels[size] == f"d{size}":
            labels[size] = word
    labels[hidden] = "hidden"
    return Labels(labels, {word: size for word, size in sure.items() if word in _LOCAL})


class Namer:
    """Gives the axes of one row their labels: the size's label, with primes for a second axis of that size."""

    def __init__(self, labels: Mapping[int, str]) -> None:
        self._labels = labels
        self._used: Counter[str] = Counter()

    def label(self, size: int) -> str:
        """The next label of that size."""
        base = self._labels.get(size, f"d{size}")
        self._used[base] += 1
        return base + "'" * (self._used[base] - 1)


Tokens = tuple[str, ...]
"""The axes of a cell, one word or parenthesis each."""


def axis_tokens(a: Sequence[int], b: Sequence[int], order: Order, labels: Mapping[int, str]) -> tuple[Tokens, Tokens]:
    """The axes of both cells, labels given in the order in which a has them."""
    namer = Namer(labels)
    fine_shape, coarse_shape = (a, b) if order.fine_is_a else (b, a)
    sizes = [size for size in fine_shape if size != 1]
    reading = range(len(sizes)) if order.fine_is_a else order.flat
    names = {axis: namer.label(sizes[axis]) for axis in reading}
    fine = _tokens(fine_shape, [names[i] for i in range(len(sizes))])
    groups = [" ".join(names[i] for i in group) for group in order.groups]
    coarse = _tokens(coarse_shape, [f"({text})" if " " in text else text for text in groups])
    return (fine, coarse) if order.fine_is_a else (coarse, fine)


def _tokens(shape: Sequence[int], names: Sequence[str]) -> Tokens:
    """With `1` for axes of size 1."""
    left = iter(names)
    return tuple("1" if size == 1 else next(left) for size in shape)


def cell_text(template: str, tokens: Sequence[str]) -> str:
    """A cell of the table."""
    return f"{template} : {' '.join(tokens)}" if tokens else template
