"""Expected failures: a TOML file per target, parity_tests/expected/TARGET.toml.

[[expected]]
case = "bert-pretraining"        # MODEL-TASK
level = "L3"                     # of L2: `L2 free` or `L2 forced`
state = "FAIL"
reason = "why it fails, and what would mend it"
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from porting.errors import FormatError
from porting.parity.state import State

FIELDS = ("case", "level", "state", "reason")


@dataclass(frozen=True, slots=True)
class Expected:
    """One line. place: where it stands, for messages."""

    case: str
    level: str
    state: str
    reason: str
    place: str


def read_expected(path: Path, cases: Collection[str], levels: Collection[str]) -> tuple[Expected, ...]:
    """The lines of a file, none where there is no file.

    cases, levels: all that there are, whether they are run or not.
    Raises: FormatError for a file that is no ledger, and for a line of what there is not any more.
    """
    if not path.is_file():
        return ()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(path, "", f"no TOML: {error}") from None
    rows = values.get("expected", [])
    if values.keys() - {"expected"} or not isinstance(rows, list):
        raise FormatError(path, "", "wanted tables [[expected]] only")
    return tuple(_line(path, number, row, cases, levels) for number, row in enumerate(rows, 1))


def _line(path: Path, number: int, row: object, cases: Collection[str], levels: Collection[str]) -> Expected:
    place = f"line {number}"
    if not isinstance(row, dict) or row.keys() != set(FIELDS) or not all(isinstance(v, str) for v in row.values()):
        raise FormatError(path, place, f"wanted {', '.join(FIELDS)}, all of them text")
    if row["state"] not in [str(state) for state in State if state is not State.PASS]:
        raise FormatError(path, place, f"state: wanted one that is no pass, got {row['state']}")
    if not row["reason"].strip():
        raise FormatError(path, place, "reason: wanted why, got nothing")
    for field, known in (("case", cases), ("level", levels)):
        if row[field] not in known:
            raise FormatError(path, place, f"stale: {field}: there is no {row[field]}")
    return Expected(**row, place=f"{path.name}, {place}")
