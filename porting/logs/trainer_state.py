"""Hugging Face's trainer_state.json: the Trainer's entries with their steps."""

from __future__ import annotations

import json

import numpy as np

from porting.errors import FormatError
from porting.logs.assemble import Draft, drafts
from porting.logs.columns import Rows
from porting.logs.dialects.json_lines import Number
from porting.logs.dialects.trainer import settle_rows
from porting.logs.source import Source

MARK = b'"log_history"'
LIMIT = 256 << 20
"""Bytes of the document at most: it has to be parsed as a whole."""


def is_trainer_state(head: bytes) -> bool:
    """Whether a file with that beginning is one."""
    return head.lstrip().startswith(b"{") and MARK in head


def read_trainer_state(source: Source) -> tuple[Draft, ...]:
    """Its run. Raises: FormatError if it is no JSON, or has no entries."""
    try:
        state = json.loads(source.whole(LIMIT), parse_float=Number, parse_int=Number, parse_constant=Number)
        entries = state["log_history"]
    except (ValueError, KeyError, RecursionError) as error:
        raise FormatError(source.path, "", f"is no whole trainer_state.json: {error}") from None
    if not isinstance(entries, list) or not entries:
        raise FormatError(source.path, "log_history", "has no entries")
    rows = Rows()
    found: dict[str, tuple[list[int], list[str]]] = {}
    for entry in entries:
        for name, value in entry.items() if isinstance(entry, dict) else ():
            if isinstance(value, Number):
                places, tokens = found.setdefault(name, ([], []))
                places.append(rows.count)
                tokens.append(value)
        rows.count += 1
    for name, (places, tokens) in found.items():
        if (column := rows.column(name)) is not None:
            column.add(np.array(places), tokens)
    made = drafts({"trainer": settle_rows(rows)})
    size = state.get("train_batch_size")
    environment = {"batch_size": str(size)} if isinstance(size, Number) else {}
    return tuple(
        Draft(d.name, d.series, d.metrics, d.counts, {**d.environment, **environment}, limits=d.limits, notes=d.notes)
        for d in made
    )
