"""What a node of a Ray cluster does with a job: takes its inputs, runs it, and sends back what became of it.

Runs inside a Ray worker, which is not where the job runs: that has a process of its own, as everywhere.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any

from porting.checkpoint.output import alive
from porting.cluster.job import Job, Result
from porting.cluster.node import denied, perform
from porting.cluster.parcel import Message, Unpacking, packed_path
from porting.errors import PortError, UsageError
from porting.version import VERSION

LOOK = 0.2
"""Seconds between looks at whether a job has ended."""

ROOM = "port-node-"


def task(values: Mapping[str, Any], version: str, inputs: Sequence[Mapping[str, Any]]) -> Iterator[Message]:
    """`work` as a task of Ray."""
    import ray

    yield {"began": ray.get_runtime_context().get_node_id(), "name": socket.gethostname()}
    yield from work(values, version, inputs, ray.get)


def work(
    values: Mapping[str, Any], version: str, inputs: Sequence[Mapping[str, Any]], get: Callable[[Any], Message]
) -> Iterator[Message]:
    """Messages: {"progress": …} any number of times, {"result": …}, the files of its outputs, {"end": true}.

    version: of the kit that sends the job. inputs: of each folder of inputs its path there, and its pieces, which
    `get` fetches one by one.
    """
    job, node = Job.from_json(values), socket.gethostname()
    if version != VERSION:
        error = UsageError(f"node {node}: has porting kit {VERSION}; wanted {version}, as the driver has")
        yield {"result": Result.refused(error).to_json()}
        yield {"end": True}
        return
    _own_threads()
    try:
        with _room() as room:
            yield from _worked(job, room, inputs, get)
    except PortError as error:
        yield {"result": Result.refused(error).to_json()}
    except OSError as error:
        refused = UsageError(f"node {node}: {denied(error, Path(tempfile.gettempdir()))}")
        yield {"result": Result.refused(refused).to_json()}
    yield {"end": True}


def _worked(
    job: Job, room: Path, inputs: Sequence[Mapping[str, Any]], get: Callable[[Any], Message]
) -> Iterator[Message]:
    places = {path: str(room / "out" / str(number) / Path(path).name) for number, path in enumerate(job.outputs)}
    for place in places.values():
        Path(place).parent.mkdir(parents=True)
    for number, each in enumerate(inputs):
        _fetched(each, room / "in" / str(number), get)
        for path in each["paths"]:
            places[path] = str(room / "in" / str(number) / Path(path).relative_to(each["root"]))
    events: SimpleQueue[Message] = SimpleQueue()
    stop = Event()
    with ThreadPoolExecutor(1) as beside:
        try:
            running = beside.submit(
                perform, job, places, folder=room / "work", stop=stop, own_path=False,
                progress=lambda told: events.put({"progress": dict(told)}),
            )  # fmt: skip
            yield from _heard(events, running)
        finally:
            stop.set()
    result = running.result()
    yield {"result": result.to_json()}
    for number, path in enumerate(job.outputs):
        if result.state == "done":
            yield from packed_path(Path(places[path]), number)


def _heard(events: SimpleQueue[Message], running: Future[Result]) -> Iterator[Message]:
    """What a job tells, until it has ended."""
    while True:
        ended = running.done()
        try:
            while True:
                yield events.get_nowait() if ended else events.get(timeout=LOOK)
        except Empty:
            if ended:
                return


def _fetched(each: Mapping[str, Any], folder: Path, get: Callable[[Any], Message]) -> None:
    """The files of an input, written piece by piece."""
    folder.mkdir(parents=True)
    unpacking = Unpacking([folder])
    try:
        for piece in each["pieces"]:
            unpacking.take(get(piece))
    finally:
        unpacking.close()


@contextmanager
def _room() -> Iterator[Path]:
    """A folder for one job; those that killed workers left behind are removed first."""
    own = f"{ROOM}{socket.gethostname()}-"
    for left in Path(tempfile.gettempdir()).glob(f"{own}*"):
        found = re.match("([0-9]{1,9})-", left.name.removeprefix(own))
        if found and left.lstat().st_uid == os.getuid() and not alive(int(found[1])):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{own}{os.getpid()}-", ignore_cleanup_errors=True) as room:
        yield Path(room)


def _own_threads() -> None:
    """Ray sets OMP_NUM_THREADS to the task's CPUs; a job has what the node was started with, as it has without Ray."""
    try:
        environment = Path(f"/proc/{os.getppid()}/environ").read_bytes().split(b"\0")
        found = next((line for line in environment if line.startswith(b"OMP_NUM_THREADS=")), None)
    except OSError:  # the worker's parent is another user's, or this is no Linux
        found = None
    os.environ.pop("OMP_NUM_THREADS", None)
    if found is not None:
        os.environ["OMP_NUM_THREADS"] = found.partition(b"=")[2].decode()
