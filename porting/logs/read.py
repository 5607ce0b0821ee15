"""Logs in, trajectories out: every dialect is looked for in every file, by content."""

from __future__ import annotations

from os import PathLike

from porting.acceptance.trajectory import Trajectory
from porting.errors import FormatError


def read_log(path: str | PathLike[str], *, run: str | None = None) -> Trajectory:
    """The run that a log shows.

    path: a text in any mix of dialects (also gzip, CRLF, UTF-16), a CSV table, trainer_state.json, steps.jsonl, a
    TensorBoard event file; `FILE#RUN` names one of several runs, as `run` does.

    Where the file holds several runs and none is named: of ranks the lowest; of runs one after the other the last;
    both are said in the notes. Columns or rows of a table have to be named.

    Raises: FormatError for a file that cannot be read, is of no known dialect, or has no run of that name.
    """
    del run
    raise FormatError(path, "", "no known dialect of a log was found in it")


def read_logs(path: str | PathLike[str]) -> tuple[Trajectory, ...]:
    """All runs of a file: ranks, runs one after the other, columns or rows of a table. At least one.

    The name of each is `FILE`, or `FILE#RUN` where there are several: `#0` for a rank, `#gpu` for a column, `#2`
    for the second of runs one after the other.

    Raises: FormatError for a file that cannot be read or is of no known dialect.
    """
    raise FormatError(path, "", "no known dialect of a log was found in it")
