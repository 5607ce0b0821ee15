"""CSV tables: losses by step, times in nanoseconds, samples of nvidia-smi, results of several models."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from porting.acceptance.trajectory import Metric, Series
from porting.errors import FormatError
from porting.logs import names
from porting.logs.assemble import Draft
from porting.logs.columns import Rows
from porting.logs.dialect import Points, countable, whole
from porting.logs.dialects.smi import MIB, SAMPLES
from porting.logs.runs import split
from porting.logs.source import Source

HEADER = re.compile(r"[\w][\w .%/()\[\]-]{0,63}")
CELL = re.compile(r"\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?|[-+]?(?:nan|NaN|inf|Inf|Infinity))\s*(%|[A-Za-z]{0,4})\s*")
STEPS = {"step", "steps", "iter", "iteration", "global_step"}
TIME = re.compile(r"(.*?)_?(?:\(|\[)?(ns|us|ms|sec|seconds|s)(?:\)|\])?")
SECONDS = {"ns": 1e9, "us": 1e6, "ms": 1e3, "s": 1.0, "sec": 1.0, "seconds": 1.0}
"""How many of a unit make a second."""

UNITS = {"%": 100.0, **SECONDS}
SAMPLE_UNITS = {"%": 100.0, "MiB": 1 / MIB}
SMI = {"memory.used": "memory_mb", "power.draw": "power_watts", "utilization.gpu": "utilization"}
TOLD = re.compile(r"(?:^|[_ .])(?:loss|acc|accuracy|f1|auc|mcc|norm|lr|time|cost)(?:$|[_ .])|" + "|".join(SMI))

ROWS = 65536
"""Rows that are converted at a time."""

UNTOLD = "the table does not say how many steps one of its times spans"
MOST = 4096
"""Rows of a table of results at most: each is a run."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first line of a table."""

    names: tuple[str, ...]
    mark: str


def table_head(text: str, below: str = "") -> Head | None:
    """The head of a table whose columns this module knows; None for anything else.

    below: the line behind it. A log may begin with words and commas too: no number under them is no table.

    >>> table_head("step,gpu_loss,npu_loss", "0,12.196129,5.888282").names
    ('step', 'gpu_loss', 'npu_loss')
    """
    for mark in (",", ";", "\t"):
        cells = [cell.strip() for cell in text.split(mark)]
        if len(cells) < 2 or not all(HEADER.fullmatch(cell) for cell in cells) or len(set(cells)) < len(cells):
            continue
        row = below.split(mark)
        if any(CELL.fullmatch(cell) for cell in cells) or (below and not any(map(CELL.fullmatch, row))):
            continue
        if any(_time(cell) or TOLD.search(cell.lower()) for cell in cells):
            return Head(tuple(cells), mark)
    return None


def read_table(source: Source, head: Head) -> tuple[Draft, ...]:
    """The runs of a table.

    Columns of times (`…_ns`) or of losses (`gpu_loss`, `npu_loss`) are a run each; a table with a column of text
    has a run in each row; any other is one run.

    Raises: FormatError for a row that is not of the table.
    """
    lines = source.lines()
    next(lines, "")
    rows, units = _rows(source, head, lines)
    if not rows.count:
        raise FormatError(source.path, "", "is a table without rows")
    step = next((name for name in head.names if name.lower() in STEPS), None)
    if any(name.split(" ")[0] in SMI for name in head.names):
        made: tuple[Draft, ...] = (_samples(rows, head, units),)
    elif all(name in rows.columns or name == step for name in head.names):
        made = _columns(rows, head, step)
    else:
        made = _results(rows, head, units, source)
    return tuple(draft for draft in map(_filled, made) if draft.series or draft.metrics)


def _filled(draft: Draft) -> Draft:
    return replace(draft, series={name: one for name, one in draft.series.items() if one.steps.size})


def _rows(source: Source, head: Head, lines: Iterator[str]) -> tuple[Rows, dict[str, str]]:
    """Numbers and texts of all rows, and the unit of each column."""
    rows, units = Rows(), dict[str, str]()
    cells: dict[str, tuple[list[int], list[str]]] = {name: ([], []) for name in head.names}
    for number, row in enumerate(csv.reader(lines, delimiter=head.mark), 2):
        if len(row) != len(head.names):
            if source.tail.strip():
                source.notes.append("the last line is torn and was left out")
                break
            raise FormatError(source.path, f"line {number}", f"wanted {len(head.names)} cells, got {len(row)}")
        for name, cell in zip(head.names, row, strict=True):
            known = CELL.fullmatch(cell)
            if known:
                cells[name][0].append(rows.count)
                cells[name][1].append(known[1])
                units.setdefault(name, known[2])
            elif name not in units and len(rows.words.setdefault(name, {})) < MOST:
                rows.words[name][rows.count] = cell.strip()
        rows.count += 1
        if rows.count % ROWS == 0:
            _flush(rows, cells)
    _flush(rows, cells)
    return rows, units


def _flush(rows: Rows, cells: dict[str, tuple[list[int], list[str]]]) -> None:
    for name, (places, tokens) in cells.items():
        if tokens and (column := rows.column(name)) is not None:
            rows.unread += column.add(np.array(places), tokens)
        cells[name] = ([], [])


def _time(name: str) -> tuple[str, float] | None:
    found = TIME.fullmatch(name)
    if found is None or not (found[1] or name in SECONDS) or name[: -len(found[2])][-1:].isalnum():
        return None
    return found[1].rstrip("_ ([") or "time", SECONDS[found[2]]


def _columns(rows: Rows, head: Head, step: str | None) -> tuple[Draft, ...]:
    steps = rows.dense(step) if step else np.arange(rows.count, dtype=np.float64)
    times = {name: _time(name) for name in head.names}
    others = [name for name in head.names if name != step and times[name] is None]
    timed = {name: one for name, one in times.items() if one is not None and name != step}
    losses = [name for name in others if "loss" in name.lower()]
    if len(timed) > 1 and not others:
        return tuple(
            Draft(to, {"seconds": _one(rows, steps, name, by)}, limits=(UNTOLD,)) for name, (to, by) in timed.items()
        )
    sides = [re.sub(r"[_ .-]?loss[_ .-]?", "", name, flags=re.IGNORECASE) for name in losses]
    if len(losses) > 1 and len(losses) == len(others) and all(sides):
        return tuple(
            Draft(side, {"loss": _one(rows, steps, name, 1.0)}) for side, name in zip(sides, losses, strict=True)
        )
    series = {names.series(name): _one(rows, steps, name, 1.0) for name in others}
    for name, (to, by) in timed.items():
        series["seconds" if "seconds" not in series else to] = _one(rows, steps, name, by)
    if len(losses) == 1 and "loss" not in series:
        series["loss"] = series.pop(names.series(losses[0]))
    return (Draft("", series),)


def _one(rows: Rows, steps: np.ndarray[tuple[int], np.dtype[np.float64]], name: str, unit: float) -> Series:
    column = rows.columns[name]
    at = steps[column.rows]
    known = countable(at)
    resolution = column.digits.resolution / unit
    points = Points(at[known].astype(np.int64), column.values[known] / unit, resolution)
    return split(points).series[-1]


def _samples(rows: Rows, head: Head, units: Mapping[str, str]) -> Draft:
    """What nvidia-smi's query prints; a unit stands in the head or in each cell."""
    series = {}
    steps = np.arange(rows.count, dtype=np.float64)
    for name in head.names:
        to = SMI.get(name.split(" ")[0])
        if to is not None and name in rows.columns:
            unit = units.get(name) or name.partition("[")[2].rstrip("]")
            series[to] = _one(rows, steps, name, SAMPLE_UNITS.get(unit, 1.0))
    device = next((name for name in head.names if name in ("name", "gpu_name")), "")
    devices = sorted(set(rows.words.get(device, {}).values()))
    return Draft("", series, environment={"device": ", ".join(devices)} if devices else {}, limits=(SAMPLES,))


def _results(rows: Rows, head: Head, units: Mapping[str, str], source: Source) -> tuple[Draft, ...]:
    """A run in each row: its texts and settings are its name, the rest are metrics."""
    if rows.count > MOST:
        raise FormatError(source.path, "", f"has {rows.count} rows of text and numbers: wanted at most {MOST} results")
    texts = [name for name in head.names if name in rows.words]
    settings = [name for name in head.names if name in rows.columns and "batch" in name.lower()]
    dense = {name: rows.dense(name) for name in rows.columns}
    made = []
    for row in range(rows.count):
        environment = {name: rows.words[name].get(row, "") for name in texts}
        environment |= {name: whole(float(dense[name][row])) for name in settings}
        metrics: dict[str, Metric] = {}
        for name, values in dense.items():
            if name not in settings and not np.isnan(values[row]):
                unit = UNITS.get(units.get(name, ""), 1.0)
                resolution = rows.resolution(name) / unit
                metrics[names.metric(name) or name] = Metric(float(values[row]) / unit, None, resolution)
        made.append(Draft(" ".join(filter(None, environment.values())), {}, metrics, environment=environment))
    return _named(made)


def _named(made: Sequence[Draft]) -> tuple[Draft, ...]:
    """Rows of one name get their number too."""
    texts = [draft.name for draft in made]
    if len(set(texts)) == len(texts) and all(texts):
        return tuple(made)
    return tuple(
        Draft(f"{draft.name} {number}".strip(), {}, draft.metrics, environment=draft.environment)
        for number, draft in enumerate(made, 1)
    )
