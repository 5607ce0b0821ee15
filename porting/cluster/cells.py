"""Cells of a benchmark on the nodes of a cluster: each alone on one that has its kind of device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porting.backends.names import BackendName
from porting.bench.cell_job import QUIET
from porting.cluster.captures import checkpoint_files
from porting.cluster.engine import lost_nodes, stream
from porting.cluster.job import Job, Result, files_of
from porting.data.schema import SCHEMA

VERB = "porting.bench.cell_job:bench_cell"

SLACK = 120.0
"""Seconds beyond a cell's own limit of silence, which ends it with a better reason."""


@dataclass(frozen=True, slots=True)
class ClusterCells:
    """Runs cells on a cluster, as porting.bench.cell.Run. tell: takes a line for people: a node that was lost."""

    cluster: str | None
    tell: Callable[[str], None]

    def __call__(self, jobs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """The number and the result of each as it ends. Raises: UsageError for a device that no node has."""
        for number, found in stream([_job(job) for job in jobs], cluster=self.cluster, progress=lost_nodes(self.tell)):
            yield number, _result(found)


def _job(cell: Mapping[str, Any]) -> Job:
    inputs: dict[str, tuple[str, ...]] = {}
    setting = cell["setting"]
    if cell["model"] in setting["checkpoints"]:
        path = setting["checkpoints"][cell["model"]]["path"]
        inputs[path] = checkpoint_files(path)
    if setting["data"]["kind"] == "files":
        for each in (*setting["data"]["train"], *setting["data"]["eval"]):
            inputs[each["path"]] = (each["path"], *files_of(Path(each["path"]).parent / SCHEMA))
    name = f"{cell['model']} batch {cell['batch_size']} on {cell['backend']}"
    needs: dict[str, float] = {BackendName.parse(cell["backend"]).kind: 1}
    return Job(name, {**cell, "verb": VERB}, needs, QUIET + SLACK, inputs, alone=True)


def _result(found: Result) -> dict[str, Any]:
    """As a cell's process gives it. What was not the cell's own doing is `not_run`, and is tried again another time."""
    if found.state == "done":
        where = [*found.told, *([f"node {found.node}"] if found.node else [])]
        value: dict[str, Any] = found.value
        return {**value, "notes": [*value["notes"], *where]} if "notes" in value else value
    state = "crashed" if found.state == "crashed" else "not_run"
    return {"state": state, "reason": found.reason, "tail": list(found.tail)}
