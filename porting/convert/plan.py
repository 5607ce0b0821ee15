"""The plan of a conversion: every target tensor with its rule and its sources, before a byte moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from porting.checkpoint.entry import TensorEntry
from porting.convert.match import Model
from porting.convert.place import plan_row
from porting.convert.planned import Dropped, Plan, Planned, Target
from porting.convert.sizes import Bound
from porting.convert.table import Dialect, Group, Row
from porting.convert.ties import copied, tie_written, tied
from porting.convert.zeros import Zeroed, implied, zeroed


def plan_model(bound: Bound, target: Target, entries: Mapping[str, TensorEntry]) -> Plan:
    """Plan one model into the target's names."""
    model = bound.model
    tensors: list[Planned] = []
    dropped: list[Dropped] = []
    problems: list[str] = []
    zeros: list[Zeroed] = []
    layered = dict(bound.sizes)
    if target.layers is not None:
        layered["layer"] = len(target.layers)
    for group in model.family.groups:
        planned: list[Planned] = []
        for row in group.rows:
            found = model.found.get(row.key)
            if found is None and implied(bound, target.dialect, group, row):
                prefix = target.prefix.get(group.at, "")
                made, wrong = zeroed(bound, target.dialect, prefix, layered, group, row)
                zeros += made
            elif found is None and (partner := copied(bound, target, group, row)) is not None:
                rows, wrong = plan_row(bound, target, layered, group, row, partner, entries)
                planned += [one._replace(tied=True) for one in rows]
            elif found is None:
                wrong = list(_lacking(bound, target, group, row))
            elif row.tie is not None and not tie_written(bound, target, group, row, found):
                gone, wrong = tied(bound, target, row, found)
                dropped += gone
            elif (reason := _left_out(model, target.dialect, group, row)) is not None:
                dropped += [Dropped(name, reason, row.zeros) for name in found.names.values()]
                continue
            else:
                rows, wrong = plan_row(bound, target, layered, group, row, found, entries)
                planned += rows
            problems += wrong
        tensors += _by_layer(planned)
    absent = tuple(g.name for g in model.family.groups if g.name not in model.groups and not g.incidental)
    return Plan(
        bound, target.dialect, tuple(tensors), tuple(zeros), tuple(dropped), absent, target.prefix, tuple(problems)
    )


def _left_out(model: Model, dialect: Dialect, group: Group, row: Row) -> str | None:
    """Why a row has no place in the target: no cell there, or a cell whose name another group has taken."""
    if dialect.name not in row.cells:
        return row.drop or f"{dialect.name} has no such tensor"
    name = row.cells[dialect.name][0].cell.template
    for other in model.family.groups:
        if other.name == group.name:
            return None
        if other.name in model.groups and group.may_share(other):
            names = [line.cells[dialect.name][0].cell.template for line in other.rows if dialect.name in line.cells]
            if name in names:
                return f"{dialect.name} has one {name} for {other.name} and {group.name}, and {other.name} took it"
    return None


def _lacking(bound: Bound, target: Target, group: Group, row: Row) -> Iterator[str]:
    """A row that the target needs and the source's dialect does not have."""
    there = group.name in bound.model.groups and target.dialect.name in row.cells
    if there and bound.model.dialect.name not in row.cells and not row.optional and row.tie is None:
        yield f"{row.cells[target.dialect.name][0].cell.template}: {bound.model.dialect.name} has no such tensor"


def _by_layer(planned: list[Planned]) -> Iterator[Planned]:
    """Rows that run over layers, layer by layer instead of row by row, as models list their parameters."""
    for _, run in groupby(planned, lambda one: one.layer is None):
        yield from sorted(run, key=lambda one: one.layer or 0)
