"""A cell of the matrix: one model at one batch size on one backend, trained and evaluated in a process of its own.

A cell travels as a job of JSON values with the verb `bench_cell`, and comes back as a result of JSON values, so that it
may be run here or on a node of a cluster: `run_cells` does not know which.

A result has `state`, one of STATES, and `reason` of all but `done`; what else it has is in porting.bench.cell_job.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from porting.model.spec import Compute

Job = Mapping[str, Any]
Result = Mapping[str, Any]

Run = Callable[[Sequence[Job]], Iterable[tuple[int, Result]]]
"""Does jobs, in any order, and gives the number and the result of each as soon as it has ended."""

State = Literal["done", "out_of_memory", "crashed", "refused", "not_run"]
STATES: tuple[State, ...] = get_args(State)
"""refused: asked for what the model or the backend cannot do. not_run: there is no such device: nothing was tried."""

KEPT: tuple[State, ...] = ("done", "out_of_memory", "crashed", "refused")
"""Results that stay when a matrix is gone on with."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all cells of a matrix share.

    task: of GLUE. data: where examples come from, as JSON values (porting.bench.corpus). checkpoints: by model,
    each with `path` and `hash`; other models begin from weights drawn by `seed`. epochs: over the training
    examples; what is left over of the last batch of an epoch is not used in it. learning_rate: the schedule's peak.
    seed: of weights, order and dropout. mode: eager or graph; `` for what a framework trains in as a rule.
    period: seconds between samples of the monitor.
    """

    task: str
    data: Mapping[str, Any]
    checkpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    epochs: int = 5
    learning_rate: float = 2e-5
    seed: int = 0
    compute: Compute = "float32"
    mode: str = ""
    period: float = 0.2

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. backend: as it was asked for, so perhaps an alias."""

    backend: str
    model: str
    batch_size: int

    @property
    def name(self) -> str:
        """Of its folder.

        >>> Cell("torch:npu,cube=hf32", "bert-tiny", 2).name
        'torch-npu-cube-hf32.bert-tiny.2'
        """
        return ".".join(
            re.sub(r"[^A-Za-z0-9_]+", "-", part) for part in (self.backend, self.model, str(self.batch_size))
        )

    def job(self, setting: Setting) -> dict[str, Any]:
        """What a worker is told."""
        return {"verb": "bench_cell", **asdict(self), "setting": setting.to_json()}


def run_cells(cells: Sequence[Cell], setting: Setting, run: Run) -> Iterator[tuple[Cell, Result]]:
    """Run cells, and give each with its result as it ends."""
    for number, result in run([cell.job(setting) for cell in cells]):
        yield cells[number], result


def run_here(jobs: Sequence[Job], tell: Callable[[str], None] | None = None) -> Iterator[tuple[int, Result]]:
    """One after the other on this machine: two at once would measure each other. tell: takes how far a cell is."""
    from porting.bench.cell_job import bench_cell

    for number, job in enumerate(jobs):
        name = f"{job['model']} batch {job['batch_size']} on {job['backend']}"

        def step(values: Mapping[str, Any], name: str = name) -> None:
            if tell is not None:
                tell(f"{name}: step {values['step']} of {values['of']}")

        yield number, bench_cell(job, step)
