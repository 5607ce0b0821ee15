"""Runs jobs: here, or on the nodes of a Ray cluster. One job's failure is its result, not the end of the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from os.path import lexists
from typing import Any, Protocol

from porting.cluster.job import Job, Result
from porting.cluster.local import LocalPlace
from porting.errors import UsageError

Told = Callable[[int, Mapping[str, Any]], None]
"""Takes the number of a job and what it tells meanwhile, JSON values, in another thread."""


def lost_nodes(tell: Callable[[str], None] | None) -> Told:
    """What passes on to people, of all that jobs tell, the nodes that were lost."""

    def heard(number: int, values: Mapping[str, Any]) -> None:
        del number
        if tell is not None and "lost" in values:
            tell(values["lost"])

    return heard


class Place(Protocol):
    """Where jobs run."""

    @property
    def at_once(self) -> int:
        """Jobs that are given to it at the same time."""
        ...

    def check(self, jobs: list[Job]) -> None:
        """Raises: UsageError for what it has not got."""
        ...

    def perform(self, job: Job, progress: Callable[[Mapping[str, Any]], None] | None) -> Result:
        """Run a job and bring its outputs. Called from several threads."""
        ...

    def stop(self) -> None:
        """End what runs."""
        ...


def run(
    jobs: Sequence[Job], *, cluster: str | None = None, workers: int = 1, progress: Told | None = None
) -> list[Result]:
    """Run jobs, and return what became of each, in their order. As `stream`."""
    found = dict(stream(jobs, cluster=cluster, workers=workers, progress=progress))
    return [found[number] for number in range(len(jobs))]


def stream(
    jobs: Sequence[Job], *, cluster: str | None = None, workers: int = 1, progress: Told | None = None
) -> Generator[tuple[int, Result], None, None]:
    """Run jobs, and give the number of each and what became of it as soon as it has ended.

    cluster: address of a Ray cluster (`HOST:PORT`, `auto`); None is this machine. workers: jobs at the same time here.
    Closing the iterator ends what still runs; outputs that are there stay.
    Raises: UsageError, before anything runs, for what no node has, an output that exists, values that are no JSON, an
    address where there is no cluster.
    """
    if workers < 1:
        raise UsageError(f"workers: wanted 1 or more, got {workers}")
    for job in jobs:
        _check(job)
    place = place_of(cluster, workers)
    place.check(list(jobs))
    return _stream(jobs, place, progress)


def place_of(cluster: str | None, workers: int = 1) -> Place:
    """Where jobs run. Raises: UsageError for an address where there is no cluster, and without Ray."""
    if cluster is None:
        return LocalPlace(workers)
    from porting.cluster.ray_place import connected

    return connected(cluster)


def _check(job: Job) -> None:
    try:
        json.dumps(job.values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{job.name}: values that do not travel as JSON: {error}") from None
    for path in job.outputs:
        if lexists(path):
            raise UsageError(f"{path}: exists already")


def _stream(jobs: Sequence[Job], place: Place, progress: Told | None) -> Generator[tuple[int, Result], None, None]:
    def one(number: int) -> tuple[int, Result]:
        told = None if progress is None else lambda values: progress(number, values)
        return number, place.perform(jobs[number], told)

    pool = ThreadPoolExecutor(max(1, min(place.at_once, len(jobs))))
    try:
        for future in as_completed([pool.submit(one, number) for number in range(len(jobs))]):
            yield future.result()
    finally:
        place.stop()
        pool.shutdown(cancel_futures=True)
