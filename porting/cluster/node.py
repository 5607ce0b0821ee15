"""A job on the machine that this process is on: the same function here and on a node of a cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any

from porting.backends.names import BackendName
from porting.backends.process import call
from porting.cluster.job import Job, Result, placed
from porting.errors import PortError, UsageError

Progress = Callable[[Mapping[str, Any]], None]


def perform(
    job: Job,
    places: Mapping[str, str],
    *,
    folder: Path,
    progress: Progress | None = None,
    stop: Event | None = None,
    own_path: bool = True,
) -> Result:
    """Run a job in a process of its own; whatever becomes of it is the result.

    places: where its inputs and outputs lie here. folder: where the process works. own_path: whether the process
    finds modules where this one does; without, as this interpreter does when it is started.
    """
    backend = BackendName(None, "cpu", "" if own_path else sys.executable)
    try:
        ended = call(
            backend, placed(job.values, places), timeout=job.timeout, folder=folder, progress=progress, renewed=True,
            stop=stop,
        )  # fmt: skip
    except PortError as error:
        return Result.refused(error)
    except OSError as error:
        return Result.refused(denied(error, folder))
    absent = [path for path in job.outputs if not Path(places.get(path, path)).exists()]
    if ended.state == "done" and absent:
        return Result("crashed", reason=f"ended without {absent[0]}", tail=ended.tail, seconds=ended.seconds)
    return Result(ended.state, ended.result, ended.reason, tail=ended.tail, notes=ended.notes, seconds=ended.seconds)


def denied(error: OSError, place: Path) -> UsageError:
    """What the system refused, in a line."""
    return UsageError(f"{error.filename or place}: {error.strerror or error}")
