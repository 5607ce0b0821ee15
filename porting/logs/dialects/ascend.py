"""What the adapters of Ascend NPUs say beside a training: graphs compiled again, operators left to the CPU."""

from __future__ import annotations

from collections import Counter

import xxhash

from porting.logs.columns import Found, Token
from porting.logs.dialect import Dialect, Event, Part, line

COMPILED = line(r"^([^\n]*The model has been compiled on the Ascend AI processor, current graph id is: \d+)")
FALLBACK = line(
    r"The operator '(?P<operator>[^'\n]{1,200})' is not currently supported on the NPU backend and will fall back to"
)
SHOWN = 20
"""Operators that are named."""


def _line_hash(text: bytes) -> dict[str, Token]:
    return {"line": xxhash.xxh3_64_hexdigest(text)}


def _settle(found: Found) -> Part:
    counts: dict[str, int] = {}
    notes: list[str] = []
    if "compiled" in found:
        counts["recompilations"] = len(set(found["compiled"].words["line"].values()))
    if "fallback" in found:
        operators = Counter(found["fallback"].words["operator"].values())
        counts["cpu_fallbacks"] = operators.total()
        named = ", ".join(f"{name} ({count})" for name, count in operators.most_common(SHOWN))
        rest = f" and {len(operators) - SHOWN} more" if len(operators) > SHOWN else ""
        notes.append(f"operators that fell back to the CPU: {named}{rest}")
    return Part(counts=counts, notes=tuple(notes))


DIALECT = Dialect(
    "ascend",
    "Ascend adapters",
    "tf_adapter/kernels/geop_npu.cc:805] The model has been compiled on the Ascend AI processor,"
    " current graph id is: 11",
    (
        Event("compiled", b"compiled on the Ascend AI processor", COMPILED, _line_hash, frozenset({"line"})),
        Event("fallback", b"will fall back to run on the CPU", FALLBACK, words=frozenset({"operator"})),
    ),
    _settle,
)
