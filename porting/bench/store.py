"""A matrix on the disk.

    DIR/plan.json                   what all cells share
    DIR/cells/NAME/cell.json        the job and its result: everything that was measured
    DIR/cells/NAME/steps.csv        every step
    DIR/cells/NAME/readings.csv     every sample of the monitor, with the step that was being made
    DIR/cells/NAME/picture.svg      both over time
    DIR/matrix.{csv,md,html}        the table

A cell's folder appears under its name whole or not at all, so a run that was killed is gone on with by giving the same
command again.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from porting.bench.cell import KEPT, Cell, Setting
from porting.bench.figures import Measured, measured
from porting.bench.picture import picture
from porting.checkpoint.output import write_json
from porting.errors import FormatError, UsageError
from porting.lock import locked
from porting.version import VERSION

PLAN, CELLS, CELL = "plan.json", "cells", "cell.json"
LOCK = ".lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder if it is not there, and keep others from writing into it; a lock dies with its process.

    Raises: UsageError for a folder of something else, or one that another run works in; FormatError if refused.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: wanted a folder, got something else")
    inside = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if inside - {LOCK} and PLAN not in inside:
        raise UsageError(f"{folder}: holds other things than a matrix ({min(inside)})")
    with locked(folder / LOCK, "is at work there"):
        for part in (folder / CELLS).glob(".*.part"):  # of a run that was killed: nobody else writes here
            shutil.rmtree(part, ignore_errors=True)
        yield


def begin(folder: Path, setting: Setting) -> None:
    """Write the plan, or see that the one there is the same.

    Raises: UsageError naming what is another; FormatError for a plan that cannot be read or written.
    """
    values = setting.to_json()
    path = folder / PLAN
    if not path.exists():
        write_json(path, {"version": VERSION, **values})
        return
    known = read_plan(folder)
    different = [name for name, value in values.items() if known.get(name) != value]
    if different:
        raise UsageError(f"{folder}: was begun with another {', '.join(different)}; choose another folder")


def read_plan(folder: Path) -> dict[str, Any]:
    """What all cells share. Raises: UsageError for a folder without a matrix; FormatError for a damaged plan."""
    path = folder / PLAN
    if not path.is_file():
        raise UsageError(f"{folder}: holds no matrix: there is no {PLAN}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {**found, "data": dict(found["data"])}
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(path, "", f"is no plan of a matrix: {error}") from None


def read_cells(folder: Path, *, whole: bool = True) -> list[Measured]:
    """All cells that are there, in the order of their names.

    whole: raise for a damaged one, rather than leave it out. Raises: FormatError naming it.
    """
    found = []
    for path in sorted((folder / CELLS).glob("[!.]*")):
        try:
            found.append(read_cell(path))
        except FormatError:
            if whole:
                raise
    return found


def read_cell(path: Path) -> Measured:
    """One cell by its folder. Raises: FormatError."""
    try:
        found = json.loads((path / CELL).read_text(encoding="utf-8"))
        return measured(Cell(**found["cell"]), found["result"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, LookupError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise FormatError(path / CELL, "", f"is no cell of a matrix: {reason}") from None


def finished(found: Measured, *, retry: bool = False) -> bool:
    """Whether a cell need not be run again. retry: those that did not come to their end are."""
    return found.state in (("done",) if retry else KEPT)


def write_cell(folder: Path, found: Measured) -> None:
    """Put a cell under its name, in the place of an earlier one. Raises: FormatError if the system refuses."""
    place = folder / CELLS / found.cell.name
    part = place.with_name(f".{place.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        cell = {"backend": found.cell.backend, "model": found.cell.model, "batch_size": found.cell.batch_size}
        texts = {CELL: json.dumps({"cell": cell, "result": found.result}, allow_nan=True) + "\n"}
        if found.steady is not None:
            texts |= {"steps.csv": _steps(found), "readings.csv": _samples(found), "picture.svg": picture(found)}
        for name, text in texts.items():
            _written(part / name, text)
        shutil.rmtree(place, ignore_errors=True)
        part.rename(place)
    except OSError as error:
        raise FormatError(place, "", f"cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _written(path: Path, text: str) -> None:
    """On the disk when this returns."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _steps(found: Measured) -> str:
    result, ends = found.result, found.ends
    rows = [
        (number + 1, number // result["per_epoch"] + 1, f"{end - seconds:.6f}", f"{seconds:.6g}", loss)
        for number, (end, seconds, loss) in enumerate(zip(ends, found.seconds, result["loss"], strict=True))
    ]
    return _csv(("step", "epoch", "start_s", "seconds", "loss"), rows)


def _samples(found: Measured) -> str:
    """step: the one that was being made at that moment, from 1; empty before the first and after the last."""
    ends = found.ends
    rows = []
    for seconds, device, *values in found.result["readings"]:
        within = 0 <= seconds <= ends[-1]
        step = int(np.searchsorted(ends, seconds)) + 1 if within else ""
        rows.append((f"{seconds:.4f}", step, device, *("" if value is None else f"{value:.2f}" for value in values)))
    return _csv(("seconds", "step", "device", "power_w", "utilization_percent", "memory_mib"), rows)


def _csv(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(head)
    table.writerows(rows)
    return text.getvalue()
