"""`port bench run`: models by batch sizes by backends, a cell at a time, into one folder with one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from porting.backends.names import BackendName
from porting.bench.cell import Cell, Run, Setting, run_cells, run_here
from porting.bench.figures import Measured, measured
from porting.bench.monitor import check_period
from porting.bench.store import begin, finished, held, read_cells, read_plan, write_cell
from porting.bench.table import as_csv, as_markdown
from porting.checkpoint.output import write_text
from porting.data.tasks import task_named
from porting.errors import Interrupted, UsageError
from porting.extras import require
from porting.terminal import unsaid

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Matrix:
    """What is to be run. Raises, when it is made: UsageError for what is not known, or none at all."""

    models: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    backends: tuple[str, ...]
    setting: Setting

    def __post_init__(self) -> None:
        from porting.bench.train_job import asked_of

        for name, values in (
            ("--models", self.models),
            ("--batch-sizes", self.batch_sizes),
            ("--backend", self.backends),
        ):
            if not values:
                raise UsageError(f"{name}: wanted at least one")
        task = task_named(self.setting.task)
        for model in self.models:
            asked_of(model, task, self.setting.checkpoints, self.setting.seed)
        for backend in self.backends:
            BackendName.parse(backend)
        smallest = self.setting.data["train"] if self.setting.data["kind"] == "generated" else None
        for size in self.batch_sizes:
            if size < 1 or (smallest is not None and size > smallest):
                raise UsageError(f"--batch-sizes: wanted 1 to the {smallest or 'training'} examples, got {size}")
        check_period(self.setting.period)
        if self.setting.epochs < 1:
            raise UsageError(f"--epochs: wanted at least 1, got {self.setting.epochs}")

    @property
    def cells(self) -> list[Cell]:
        """All of them, each once."""
        return [Cell(*one) for one in dict.fromkeys(product(self.backends, self.models, self.batch_sizes))]


@dataclass(frozen=True, slots=True)
class Made:
    """What a run came to. kept: cells that were there already. cells: all that the folder has now, as asked."""

    folder: Path
    cells: tuple[Measured, ...]
    kept: int = 0

    @property
    def passed(self) -> bool:
        """Whether every cell came to its end."""
        return all(one.state == "done" for one in self.cells)


def bench(matrix: Matrix, folder: Path, *, run: Run = run_here, retry: bool = False, tell: Told | None = None) -> Made:
    """Run every cell that is not there yet, and write the table, after each as far as it is.

    run: where cells are run. retry: those that failed again. tell: takes a line for people, once a cell.
    Raises: UsageError for a folder of another matrix; FormatError where it cannot be written: what is there, stays.
    """
    _check_installed()
    say, cells = tell or unsaid, matrix.cells
    with held(folder):
        begin(folder, matrix.setting)
        known = {one.cell: one for one in read_cells(folder, whole=False)}
        there = [cell for cell in cells if cell in known and finished(known[cell], retry=retry)]
        _same_code(matrix.setting, folder, [known[cell] for cell in there])
        kept, todo = len(there), [cell for cell in cells if cell not in there]
        say(f"{len(todo)} cells to run" + (f", {kept} are there" if kept else ""))
        for found in _found(todo, matrix.setting, run, folder):
            known[found.cell] = found
            if found.state != "not_run":  # nothing to keep: it is tried again when there is a device
                write_cell(folder, found)
            there.append(found.cell)
            say(line_of(found, len(there), len(cells)))
            _tables(folder, _ordered(known, cells), page=False)
        _tables(folder, _ordered(known, cells), page=True)
    return Made(folder, tuple(_ordered(known, cells)), kept)


def _check_installed() -> None:
    """Raises: UsageError for what is missing, before anything runs that would have to do without its page."""
    for module, extra in (("psutil", "bench"), ("jinja2", "report"), ("plotly", "report")):
        require(module, extra)


def _found(todo: Sequence[Cell], setting: Setting, run: Run, folder: Path) -> Iterator[Measured]:
    """Cells as they end. Raises: Interrupted where Ctrl-C ends them."""
    try:
        for cell, result in run_cells(todo, setting, run):
            yield measured(cell, result)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; the cells in {folder} are whole, and the same command goes on") from None


def _ordered(known: Mapping[Cell, Measured], cells: Sequence[Cell]) -> list[Measured]:
    """Cells asked for in that order, as far as they have been run, then others of earlier runs."""
    asked = [known[cell] for cell in cells if cell in known]
    return asked + [one for cell, one in known.items() if cell not in cells]


def _tables(folder: Path, shown: Sequence[Measured], *, page: bool) -> None:
    plan = read_plan(folder)
    write_text(folder / "matrix.csv", as_csv(shown))
    write_text(folder / "matrix.md", as_markdown(plan, shown))
    if page:
        from porting.bench.page import as_html

        write_text(folder / "matrix.html", as_html(plan, shown))


def line_of(found: Measured, number: int, of: int) -> str:
    """A cell in a line for people."""
    cell = found.cell
    name = f"[{number}/{of}] {cell.model} batch {cell.batch_size} on {found.backend}"
    if found.state != "done":
        return f"{name}: {found.reasons['step_time']}"
    time, rate = found.values["step_time"], found.values["examples_per_second"]
    speed = (
        f"EMULATED ({found.emulated})"
        if time is None or rate is None
        else f"{1000 * time:.4g} ms a step, {rate:.4g} examples/s"
    )
    return f"{name}: {speed}, evaluated loss {found.values['eval_loss']:.4g}"


def _same_code(setting: Setting, folder: Path, there: Sequence[Measured]) -> None:
    """Raises: UsageError if cells of another version of the kit or of a model are there: they are not mixed."""
    from porting.bench.train_job import asked_of
    from porting.parity.capture_job import code_hash

    task = task_named(setting.task)
    for found in there:
        package = asked_of(found.cell.model, task, setting.checkpoints, setting.seed).spec.package
        if found.result.get("code", code_hash(package)) != code_hash(package):
            raise UsageError(f"{folder}: {found.cell.name} was measured with other code; choose another folder")
