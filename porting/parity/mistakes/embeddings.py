"""Mistakes of embeddings: rows of a table that are taken for others, or not added."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from porting.parity.mistakes.mistake import Mistake
from porting.parity.mistakes.weights import changing, patterns, transposed
from porting.parity.state import Level
from porting.parity.variation import Case, Variation

if TYPE_CHECKING:
    from porting.backends.protocol import Array

SPECIAL = 5
"""Rows that stand first and may be left where they are: padding, unknown, classifier, separator, mask."""

_WORDS = re.compile(r"word_embeddings?\.")
_POSITIONS = re.compile(r"position_embeddings?\.")
_TYPES = re.compile(r"(token_type|segment)_embeddings?\.")


def _tables(case: Case, named: re.Pattern[str], changes: dict[str, Callable[[Array], Array]]) -> Iterator[Variation]:
    for pattern, names in patterns(case.weights).items():
        if named.search(pattern):
            for form, change in changes.items():
                yield Variation(f"{pattern}: {form}", weights=changing(names, change))


def _reversed(case: Case) -> Iterator[Variation]:
    changes: dict[str, Callable[[Array], Array]] = {
        "rows in reverse": lambda table: table[::-1],
        "columns in reverse": lambda table: table[:, ::-1],
        "read transposed": transposed,
        "the first half in reverse": lambda table: _turned(table, 0, len(table) // 2),
        "the second half in reverse": lambda table: _turned(table, len(table) // 2, len(table)),
        "one row too far": partial(np.roll, shift=-1, axis=0),
        "one row too few": partial(np.roll, shift=1, axis=0),
    }
    for first in range(1, SPECIAL + 1):
        changes[f"rows from {first} on in reverse"] = partial(_turned, start=first, stop=None)
        changes[f"rows up to the last {first} in reverse"] = partial(_turned, start=0, stop=-first)
    yield from _tables(case, _WORDS, changes)


def _turned(table: Array, start: int, stop: int | None) -> Array:
    return np.concatenate([table[:start], table[start:stop][::-1], table[stop:] if stop is not None else table[:0]])


def _shifted_positions(case: Case) -> Iterator[Variation]:
    changes: dict[str, Callable[[Array], Array]] = {
        "one too far": partial(np.roll, shift=-1, axis=0),
        "one too few": partial(np.roll, shift=1, axis=0),
        "two too far": partial(np.roll, shift=-2, axis=0),
        "two too few": partial(np.roll, shift=2, axis=0),
        "one too few, the first twice": lambda table: np.concatenate([table[:1], table[:-1]]),
        "not added": np.zeros_like,
        "in reverse": lambda table: table[::-1],
        "those of the batch in reverse": partial(_of_batch_reversed, _length(case)),
    }
    yield from _tables(case, _POSITIONS, changes)


def _length(case: Case) -> int:
    return next((value.shape[1] for value in case.batch.values() if value.ndim > 1), 0)


def _of_batch_reversed(length: int, table: Array) -> Array:
    return _turned(table, 0, length)


def _types_not_added(case: Case) -> Iterator[Variation]:
    yield from _tables(case, _TYPES, {"not added": np.zeros_like})


MISTAKES = (
    Mistake("embeddings_reversed", "The word embeddings stand in reverse.", Level.FORWARD, _reversed),
    Mistake("positions_shifted", "Position ids are off by one.", Level.FORWARD, _shifted_positions, alike="positions"),
    Mistake("token_types_off", "Token types are not used, or not as they are meant.", Level.FORWARD, _types_not_added),
)
