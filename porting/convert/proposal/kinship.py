"""How alike two names are, whatever their framework."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from difflib import SequenceMatcher
from functools import cache
from typing import TypeVar

_Left = TypeVar("_Left", bound=Hashable)
_Right = TypeVar("_Right", bound=Hashable)

_SAME = {
    "kernel": "weight",
    "gamma": "weight",
    "embedding_table": "weight",
    "table": "weight",
    "layernorm": "norm",
    "ln": "norm",
    "beta": "bias",
}


@cache
def plain(name: str) -> str:
    """Lower case, dots between parts, and the frameworks' words for one thing as one word.

    >>> plain("encoder/layer_{layer}/LayerNorm/gamma")
    'encoder.layer.norm.weight'
    """
    text = (
        name.replace("embedding_table", "kernel").replace("LayerNorm", "layernorm").replace("layer_norm", "layernorm")
    )
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", ".", re.sub(r"\{\w+\}", "", text))
    parts = [part for part in re.split(r"[./_]+", text.lower()) if part]
    return ".".join(_SAME.get(part, part) for part in parts)


@cache
def kinship(a: str, b: str) -> float:
    """From 0 to 1: how much of the two names is the same, in order."""
    one, two = plain(a), plain(b)
    words = SequenceMatcher(None, one.split("."), two.split("."), autojunk=False).ratio()
    letters = SequenceMatcher(None, one, two, autojunk=False).ratio()
    return (words + letters) / 2


def closest(
    ones: Sequence[_Left], twos: Sequence[_Right], score: Callable[[_Left, _Right], float | None]
) -> list[tuple[_Left, _Right]]:
    """Pairs by falling score, each member once; None for pairs that cannot be."""
    scored = [
        (value, i, j)
        for i, one in enumerate(ones)
        for j, two in enumerate(twos)
        if (value := score(one, two)) is not None
    ]
    taken_a: set[int] = set()
    taken_b: set[int] = set()
    pairs = []
    for _, i, j in sorted(scored, key=lambda line: (-line[0], line[1], line[2])):
        if i not in taken_a and j not in taken_b:
            taken_a.add(i)
            taken_b.add(j)
            pairs.append((ones[i], twos[j]))
    return pairs


def clear(best: float, others: Iterable[float], margin: float = 0.05) -> bool:
    """Is the best score ahead of all the others?"""
    return all(best - other >= margin for other in others)
