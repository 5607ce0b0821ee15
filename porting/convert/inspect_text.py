"""An inspection as text."""

from __future__ import annotations

from collections.abc import Sequence

from porting.convert.columns import aligned, shown
from porting.convert.inspect import Inspection, ModelInspection, TensorLine
from porting.convert.names import collapse
from porting.convert.stats import Stats
from porting.terminal import number, size


def inspection_lines(found: Inspection) -> list[str]:
    """The inspection as text: what it is, what is wrong, then its tensors."""
    head = [("format", f"{found.format}  {_files(found.files)}")]
    head.append(("family", f"{found.family}, dialect {found.dialect}" if found.family else "none fits"))
    for model in found.models:
        head += _model_head(model, several=len(found.models) > 1)
    dtypes = ", ".join(f"{kind} x {count}" for kind, count in found.dtypes.items())
    head.append(("tensors", f"{sum(found.dtypes.values())}  {dtypes}"))
    head.append(("parameters", f"{found.parameters} ({number(found.parameters)}), {size(found.nbytes)} in memory"))
    if found.slots is not None:
        roles = ", ".join(f"{role} x {count}" for role, count in found.slots.roles.items())
        scalars = ", ".join(found.slots.scalars)
        head.append(("optimizer", "  ".join(part for part in (found.slots.optimizer, roles, scalars) if part)))
    head += [("unknown", name) for name in collapse(found.unknown)]
    head += [("note", note) for note in found.notes]
    head += [("problem", problem) for problem in found.problems]
    head += [("not finite", line) for line in found.non_finite]
    return [
        found.path,
        *aligned(head, indent="  "),
        "",
        *aligned(_table(found.tensors), right=(1, 4, 5, 6, 7, 8, 9, 10)),
    ]


def _model_head(model: ModelInspection, *, several: bool) -> list[tuple[str, str]]:
    lines = []
    if several or model.prefix:
        lines.append(
            ("scope", " ".join(part for part in (model.prefix, f"({model.name})" if model.name else "") if part))
        )
    lines.append(("groups", ", ".join(model.groups)))
    if model.absent:
        lines.append(("absent", ", ".join(model.absent)))
    lines.append(("config", ", ".join(f"{key} {value}" for key, value in model.config.items())))
    return lines


def _files(files: Sequence[tuple[str, int]]) -> str:
    shown_first = ", ".join(f"{name} ({size(count)})" for name, count in files[:3])
    return shown_first + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def _table(lines: Sequence[TensorLine]) -> list[tuple[str, ...]]:
    stats = any(line.stats is not None for line in lines)
    more = ("min", "max", "mean", "std", "NaN", "Inf", "zeros") if stats else ()
    rows: list[tuple[str, ...]] = [("tensor", "n", "shape", "dtype", *more)]
    for line in lines:
        tied = "tied" if line.tied == len(line.names) else f"{line.tied} tied" if line.tied else ""
        dtype = " ".join(part for part in (line.dtype, tied) if part)
        shape = " ".join(map(str, line.shape)) or "scalar"
        rows.append((line.name, str(len(line.names)), shape, dtype, *(_cells(line.stats) if stats else ())))
    return rows


def _cells(stats: Stats | None) -> tuple[str, ...]:
    if stats is None:
        return ("-",) * 7
    values = [shown(value) for value in (stats.low, stats.high, stats.mean, stats.std)]
    return (*values, str(stats.nan), str(stats.inf), str(stats.zeros))
