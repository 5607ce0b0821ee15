"""The table of a matrix: the field case's columns first, in CSV as it had them; in Markdown with a picture per row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

from porting.bench.corpus import COLA
from porting.bench.figures import FIGURES, Measured
from porting.report.markdown import plain

UNITS: Mapping[str, tuple[float, int, str]] = {
    "eval_accuracy": (100, 2, "%"),
    "eval_loss": (1, 4, ""),
    "train_loss": (1, 4, ""),
    "epoch_time": (1, 2, "s"),
    "average_power": (1, 2, "W"),
    "average_memory": (1, 1, "MiB"),
    "average_utilization": (100, 2, "%"),
    "step_time": (1000, 3, "ms"),
    "examples_per_second": (1, 1, ""),
    "compile_time": (1, 2, "s"),
    "peak_memory": (1, 1, "MiB"),
    "peak_rss": (1, 1, "MiB"),
}
"""How a figure is shown: times what, with how many digits behind the point, in what unit."""

HEADS: Mapping[str, str] = {
    "eval_accuracy": "accuracy",
    "eval_loss": "eval loss",
    "train_loss": "train loss",
    "epoch_time": "epoch",
    "average_power": "power",
    "average_memory": "memory",
    "average_utilization": "utilisation",
    "step_time": "step",
    "examples_per_second": "examples/s",
    "compile_time": "warm-up",
    "peak_memory": "peak memory",
    "peak_rss": "peak RSS",
}

FACTS = ("backend", "device", "emulated", "state", "not_measured")
"""Columns behind the figures."""


def shown(name: str, value: float | None) -> str:
    """A figure as people read it; nothing where there is none.

    >>> shown("eval_accuracy", 0.6913), shown("epoch_time", None)
    ('69.13%', '')
    """
    factor, digits, unit = UNITS[name]
    return "" if value is None else f"{factor * value:.{digits}f}{unit}"


def as_csv(cells: Sequence[Measured]) -> str:
    """A line per cell. not_measured: `figure: reason; …` of every empty one."""
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["model", "batch_size", *FIGURES, *FACTS])
    for one in cells:
        missing = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons_of([one]).items())
        facts = [one.backend, one.result.get("device", ""), one.emulated, one.state, missing]
        values = [shown(name, one.values[name]) for name in FIGURES]
        table.writerow([one.cell.model, one.cell.batch_size, *values, *facts])
    return text.getvalue()


def reasons_of(cells: Sequence[Measured]) -> dict[str, list[str]]:
    """Why figures are not there: by reason the figures, each once."""
    found: dict[str, list[str]] = {}
    for one in cells:
        for name in FIGURES:
            if name in one.reasons and name not in found.setdefault(one.reasons[name], []):
                found[one.reasons[name]].append(name)
    return found


def numbered(cells: Sequence[Measured]) -> tuple[list[str], dict[str, int]]:
    """Notes under a table, and the number of each reason."""
    reasons = reasons_of(cells)
    numbers = {reason: number for number, reason in enumerate(reasons, 1)}
    lines = []
    for reason, names in reasons.items():
        which = "all" if len(names) == len(FIGURES) else ", ".join(HEADS[one] for one in names)
        lines.append(f"({numbers[reason]}) {which}: {reason}")
    return lines, numbers


def row_of(one: Measured, numbers: Mapping[str, int]) -> list[str]:
    """A row's texts: every figure, or the number of the reason why there is none."""
    return [
        shown(name, one.values[name]) if name not in one.reasons else f"({numbers[one.reasons[name]]})"
        for name in FIGURES
    ]


def facts_of(plan: Mapping[str, Any], cells: Sequence[Measured]) -> list[str]:
    """Lines above the table: data, recipe, devices, what is emulated."""
    lines = [data_line(plan["data"]), recipe_line(plan)]
    devices: dict[str, str] = {}
    for one in cells:
        if "device" in one.result:
            versions = ", ".join(f"{name} {version}" for name, version in one.result["versions"].items())
            emulated = f"EMULATED ({one.emulated}) on " if one.emulated else ""
            switches = ", ".join(f"{name} {value}" for name, value in one.result["switches"].items())
            line = f"{one.backend}: {emulated}{one.result['device']}; {versions}; {switches}"
            devices.setdefault(one.backend, line.removesuffix("; "))
    loads = [value for one in cells for value in one.result.get("load", ())]
    if loads:
        lines.append(
            f"load of the machines meanwhile: {min(loads):.1f} to {max(loads):.1f} processes, the cell's among them"
        )
    notes = dict.fromkeys(note for one in cells for note in one.result.get("notes", ()))
    problems = dict.fromkeys(
        f"monitor: {text}" for one in cells for text in one.result.get("monitor", {}).get("problems", ())
    )
    return [*lines, *devices.values(), *notes, *problems]


def data_line(data: Mapping[str, Any]) -> str:
    """Where the examples come from."""
    if data["kind"] == "generated":
        whole = all(data[name] == count for name, count in COLA.items())
        return (
            f"data: GENERATED from seed {data['seed']}, not CoLA{', whose row counts it has' if whole else ''}:"
            f" {data['train']} examples to train on, {data['eval']} to evaluate, {data['length']} tokens with padding;"
            " its accuracies are those of no other data"
        )
    files = [one["path"] for name in ("train", "eval") for one in data[name]]
    limit = f", the first {data['examples']} examples of each" if data["examples"] else ""
    return f"data: {', '.join(files)}{limit}"


def recipe_line(plan: Mapping[str, Any]) -> str:
    """How it was trained."""
    mode = f", {plan['mode']} mode" if plan["mode"] else ""
    return (
        f"recipe: {plan['task']}, {plan['epochs']} epochs, bert_finetune at a peak rate of {plan['learning_rate']:g},"
        f" seed {plan['seed']}, dropout as the framework draws it, {plan['compute']}{mode};"
        f" sampled every {plan['period']:g} s"
    )


def as_markdown(plan: Mapping[str, Any], cells: Sequence[Measured]) -> str:
    """The table of each backend, with what was not measured under it, and a picture per row."""
    lines = [f"# {plan['task']}: models by batch sizes", ""]
    lines += [f"- {plain(text)}" for text in facts_of(plan, cells)]
    for backend in dict.fromkeys(one.cell.backend for one in cells):
        lines += _of_backend([one for one in cells if one.cell.backend == backend])
    return "\n".join(lines) + "\n"


def _of_backend(cells: Sequence[Measured]) -> Iterator[str]:
    one = cells[0]
    name = one.cell.backend if one.cell.backend == one.backend else f"{one.cell.backend} ({one.backend})"
    notes, numbers = numbered(cells)
    heads = ["model", "batch", *(HEADS[name] for name in FIGURES), "picture"]
    yield from ("", f"## {plain(name)}{', EMULATED' if one.emulated else ''}", "")
    yield f"| {' | '.join(heads)} |"
    yield f"|---|{'---:|' * (len(heads) - 2)}---|"
    for each in cells:
        drawn = f"![over time](cells/{each.cell.name}/picture.svg)" if each.steady else each.state.replace("_", " ")
        texts = [plain(each.cell.model), str(each.cell.batch_size), *row_of(each, numbers), drawn]
        yield f"| {' | '.join(texts)} |"
    if notes:
        yield from ("", "Not measured, by the number in its place:", "")
        yield from (f"- {plain(text)}" for text in notes)
