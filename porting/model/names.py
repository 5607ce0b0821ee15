"""A parameter's name in another dialect of its family."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from porting.convert.match import Found, Model, match_as
from porting.convert.notation import Cell
from porting.convert.registry import family_named, target_dialect
from porting.convert.sizes import fill
from porting.convert.table import Dialect


@dataclass(frozen=True, slots=True)
class Named:
    """A parameter in another dialect.

    layer: that its name there says, None if it says none (XLNet's r_w_bias is one tensor over all layers in google).
    """

    name: str
    layer: int | None = None


def names_in(family: str, dialect: str, wanted: str, names: Collection[str]) -> Mapping[str, Named]:
    """Each name of `dialect` in `wanted`, by the family's table; a parameter that is not there keeps its own.

    Of a tensor that the wanted dialect holds in several the first is named.
    Raises: UsageError for a family or dialect that is not known.
    """
    table = family_named(family)
    source, target = target_dialect(table, dialect), target_dialect(table, wanted)
    match = match_as(tuple(names), table, source)
    found = {name: named for model in match.models for name, named in _of_model(model, target)}
    return {name: found.get(name, Named(name)) for name in names}


def _of_model(model: Model, target: Dialect) -> Iterator[tuple[str, Named]]:
    scope = next((s for s in target.scopes if model.scope.name and s.name == model.scope.name), target.scopes[0])
    variables = {**scope.variables, **model.variables}
    for found in model.found.values():
        if target.name in found.row.cells:
            prefix = scope.prefix(found.group.at)
            yield from _of_row(found, found.row.cells[target.name][0].cell, prefix, variables)


def _of_row(found: Found, cell: Cell, prefix: str, variables: Mapping[str, str]) -> Iterator[tuple[str, Named]]:
    wanted = [field.name for field in cell.fields if field.kind != "free"]
    given = [field.name for field in found.forms[0].cell.fields if field.kind != "free"]
    for values, name in found.names.items():
        told = dict(zip(given, values, strict=True))
        spelled = fill(cell, tuple(told.get(field, 0) for field in wanted), variables)
        yield name, Named(prefix + spelled, told.get("layer") if "layer" in wanted else None)
