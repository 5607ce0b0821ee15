"""Logs in, trajectories out: every dialect is looked for in every file, by content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from porting.acceptance.trajectory import Trajectory
from porting.errors import FormatError
from porting.logs.assemble import Draft, drafts, finished, settled
from porting.logs.dialect import NothingTrained
from porting.logs.dialects import DIALECTS
from porting.logs.event_file import is_event_file, read_events
from porting.logs.ranks import by_rank
from porting.logs.scan import Scan
from porting.logs.source import Source
from porting.logs.table import read_table, table_head
from porting.logs.trainer_state import is_trainer_state, read_trainer_state

HEAD = 64 << 10
"""Bytes in which a document shows what it is."""

MOST_RANKS = 4096
"""Ranks of a file at most."""


def read_log(path: str | os.PathLike[str], *, run: str | None = None) -> Trajectory:
    """The run that a log shows.

    path: a text in any mix of dialects (also gzip, CRLF, UTF-16), a CSV table, trainer_state.json, steps.jsonl, a
    TensorBoard event file; `FILE#RUN` names one of several runs, as `run` does.

    Where the file holds several runs and none is named: of ranks the lowest; of runs one after the other the last;
    both are said in the notes. Columns or rows of a table have to be named.

    Raises: FormatError for a file that cannot be read, is of no known dialect, or has no run of that name.
    """
    file, name = _named(path) if run is None else (Path(path), run)
    found, ordered = _drafts(file)
    if name:
        for draft, trajectory in found:
            if draft.name == name:
                return trajectory
        raise FormatError(file, "", f"has no run {name}; there are {_names(found)}")
    if len(found) == 1:
        return found[0][1]
    if not ordered:
        raise FormatError(file, "", f"holds {len(found)} runs ({_names(found)}): name one, as FILE#RUN")
    draft, trajectory = _default(found)
    return replace(
        trajectory, notes=(*trajectory.notes, f"of {len(found)} runs ({_names(found)}) this is {draft.name}")
    )


def read_logs(path: str | os.PathLike[str]) -> tuple[Trajectory, ...]:
    """All runs of a file: ranks, runs one after the other, columns or rows of a table. At least one.

    The name of each is `FILE`, or `FILE#RUN` where there are several: `#rank0` for a rank, `#gpu` for a column, `#2`
    for the second of runs one after the other.

    Raises: FormatError for a file that cannot be read or is of no known dialect.
    """
    file, name = _named(path)
    return (read_log(file, run=name),) if name else tuple(trajectory for _, trajectory in _drafts(file)[0])


Found = tuple[Draft, Trajectory]


def _named(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """A file and the run in it that is meant. A file whose own name has the mark is a file."""
    text = os.fspath(path)
    file, mark, name = text.rpartition("#")
    return (Path(file), name) if mark and file and not os.path.lexists(text) else (Path(text), "")


def _names(found: list[Found]) -> str:
    names = [draft.name for draft, _ in found]
    return ", ".join(names if len(names) <= 12 else [*names[:10], f"… {len(names) - 10} more"])


def _default(found: list[Found]) -> Found:
    """The last run of the lowest rank."""
    first = found[0][0].name.partition(".")[0]
    same = [one for one in found if first.startswith("rank") and one[0].name.partition(".")[0] == first]
    return (same or found)[-1]


def _drafts(file: Path) -> tuple[list[Found], bool]:
    """Runs with their trajectories, and whether one of them stands for the file."""
    with Source(file) as source:
        made, ordered = _read(source)
        if not made:
            raise FormatError(file, "", "no line of a known dialect was found")
        read = source.input()
    found = []
    for draft in made:
        name = f"{file.name}#{draft.name}" if len(made) > 1 else file.name
        found.append((draft, finished(draft, Trajectory(name, "log", (read,), {}, notes=tuple(source.notes)))))
    return found, ordered


def _read(source: Source) -> tuple[tuple[Draft, ...], bool]:
    head = source.head(HEAD)
    if is_event_file(head):
        return read_events(source.path), True
    if is_trainer_state(head):
        return read_trainer_state(source), True
    table = table_head(*_first_lines(head))
    return (tuple(_text(source)), True) if table is None else (read_table(source, table), False)


def _first_lines(head: bytes) -> tuple[str, str]:
    """The first two lines that are not empty; nothing if the first does not end."""
    lines = head.decode("utf-8", "replace").splitlines()[: None if len(head) < HEAD else -1]
    first, second, *_ = [*filter(str.strip, lines[:100]), "", ""]
    return first, second


def _text(source: Source) -> Iterator[Draft]:
    scans: dict[int | None, Scan] = {}
    for block in source.blocks():
        for rank, text in by_rank(block).items():
            _scan(scans, rank).feed(text)
    for rank, text in by_rank(source.tail + b"\n").items() if source.tail.strip() else ():
        if note := _scan(scans, rank).last(text.rstrip(b"\n")):
            source.notes.append(note)
    named = len([rank for rank in scans if rank is not None and scans[rank].found])
    for rank in sorted(scans, key=lambda one: (one is None, one)):
        try:
            made = drafts(settled(DIALECTS, scans[rank].found))
        except NothingTrained as error:
            raise FormatError(source.path, "", str(error)) from None
        unread = sum(rows.unread for kinds in scans[rank].found.values() for rows in kinds.values())
        for draft in made:
            name = ".".join(filter(None, (f"rank{rank}" if rank is not None and named > 1 else "", draft.name)))
            notes = (f"{unread} numbers could not be read",) if unread else ()
            yield replace(
                draft, name=name or ("" if rank is not None or not named else "unnamed"), notes=(*draft.notes, *notes)
            )


def _scan(scans: dict[int | None, Scan], rank: int | None) -> Scan:
    if rank not in scans and len(scans) >= MOST_RANKS:
        rank = None
    return scans.setdefault(rank, Scan(DIALECTS)) if rank not in scans else scans[rank]
