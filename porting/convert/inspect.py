"""What a checkpoint is: its format, family, dialect, config and tensors. Judges nothing and changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.convert.columns import jsonable
from porting.convert.config import find_config, inferred
from porting.convert.identify import Identified, identify
from porting.convert.match import Match, Model
from porting.convert.names import grouped, listed
from porting.convert.sizes import bind
from porting.convert.stats import Stats, merged, tensor_stats
from porting.errors import FormatError


@dataclass(frozen=True, slots=True)
class ModelInspection:
    """One model of the checkpoint (a distillation net holds two).

    name: the part it plays (`teacher`), if the table names it. prefix: what its encoder's names begin with.
    config: by the family's own keys, `unknown` where shapes cannot tell. problems: why it would not convert.
    """

    name: str
    prefix: str
    groups: tuple[str, ...]
    absent: tuple[str, ...]
    config: Mapping[str, int | str]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SlotInspection:
    """The optimizer's state. optimizer: as the field calls it. roles: tensors per role. scalars: role to name."""

    optimizer: str
    roles: Mapping[str, int]
    scalars: Mapping[str, str]
    orphans: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TensorLine:
    """Tensors that differ in their layer only. name: collapsed. tied: how many share another tensor's bytes."""

    name: str
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    tied: int
    stats: Stats | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a checkpoint is.

    files: name and bytes of each. parameters: elements, shared ones once, optimizer state not counted.
    nbytes: of all tensors in memory, shared ones once. dtypes: tensors per dtype.
    unknown: names that no row accounts for. problems: what contradicts the family's table or the config.
    non_finite: a line per tensor with NaN or Inf, where statistics were asked for.
    """

    path: str
    format: str
    files: tuple[tuple[str, int], ...]
    family: str | None
    dialect: str | None
    models: tuple[ModelInspection, ...]
    parameters: int
    nbytes: int
    dtypes: Mapping[str, int]
    slots: SlotInspection | None
    unknown: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    tensors: tuple[TensorLine, ...]
    non_finite: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "path": self.path,
            "format": self.format,
            "files": [{"name": name, "bytes": count} for name, count in self.files],
            "family": self.family,
            "dialect": self.dialect,
            "models": [_model_json(model) for model in self.models],
            "parameters": self.parameters,
            "bytes": self.nbytes,
            "dtypes": dict(self.dtypes),
            "optimizer": _slots_json(self.slots),
            "unknown": list(self.unknown),
            "notes": list(self.notes),
            "problems": list(self.problems),
            "non_finite": list(self.non_finite),
            "tensors": [_line_json(line) for line in self.tensors],
        }


def inspect(
    path: str | Path,
    *,
    family: str | None = None,
    source_dialect: str | None = None,
    format: str | None = None,  # noqa: A002 - the word that users know
    config: str | Path | None = None,
    stats: bool = False,
) -> Inspection:
    """Look at a checkpoint. Contradictions are reported in `problems`, never raised.

    config: checked against; found beside the checkpoint if absent, "none" to look for none.
    stats: read every tensor, a piece at a time, for its statistics.
    Raises: FormatError if it cannot be read; UsageError for a family, dialect or format that does not exist.
    """
    found = identify(path, family=family, dialect=source_dialect, format=format)
    checkpoint, match = found.checkpoint, found.match
    entries = {**found.entries, **found.state}
    every = {name: tensor_stats(entry) for name, entry in entries.items()} if stats else {}
    models, problems = _models(found, config)
    return Inspection(
        path=str(checkpoint.path),
        format=checkpoint.format,
        files=tuple((file.name, file.stat().st_size) for file in checkpoint.files),
        family=match.family.name if match else None,
        dialect=match.dialect.name if match else None,
        models=models,
        parameters=_parameters(checkpoint, match),
        nbytes=sum(entry.nbytes for entry in entries.values() if entry.tied is None),
        dtypes=Counter(entry.dtype.name for entry in entries.values()),
        slots=_slots(found),
        unknown=match.unknown if match else (),
        notes=(*checkpoint.notes, *_constants(found)),
        problems=(*found.problems, *problems),
        tensors=tuple(tensor_lines(entries, every)),
        non_finite=tuple(_non_finite(every)),
    )


def _models(found: Identified, given: str | Path | None) -> tuple[tuple[ModelInspection, ...], list[str]]:
    match, path = found.match, found.checkpoint.path
    if match is None:
        return (), []
    problems: list[str] = []
    try:
        config = find_config(match.family, path, given)
    except FormatError as error:
        problems.append(str(error))
        config = find_config(match.family, path, "none")
    models = []
    for model in match.models:
        bound = bind(model, found.entries, config.values, config_name=config.name)
        problems += bound.problems
        models.append(
            ModelInspection(
                name=model.scope.name,
                prefix=model.prefix("base"),
                groups=model.groups,
                absent=_absent(model),
                config=inferred(bound),
                problems=bound.problems,
            )
        )
    return tuple(models), problems


def _absent(model: Model) -> tuple[str, ...]:
    """Groups that the dialect has and the model lacks; those that nobody needs are not worth a word."""
    return tuple(
        group.name
        for group in model.family.groups
        if group.name not in model.groups
        and not group.incidental
        and any(model.dialect.name in line.cells for line in group.rows)
    )


def _slot_names(match: Match) -> frozenset[str]:
    slots = match.slots
    names = [name for roles in slots.roles.values() for name in roles.values()]
    return frozenset([*names, *slots.scalars.values(), *slots.orphans])


def _parameters(checkpoint: Checkpoint, match: Match | None) -> int:
    slots = _slot_names(match) if match else frozenset()
    return sum(entry.elements for name, entry in checkpoint.items() if entry.tied is None and name not in slots)


def _slots(found: Identified) -> SlotInspection | None:
    if found.state:
        return SlotInspection("PyTorch", {"tensors": len(found.state)}, {}, ())
    slots = found.match.slots if found.match else None
    if slots is None or (slots.form is None and not slots.scalars):
        return None
    roles = Counter(role for names in slots.roles.values() for role in names)
    return SlotInspection(slots.form.optimizer if slots.form else "unknown", roles, slots.scalars, slots.orphans)


def _constants(found: Identified) -> list[str]:
    count = len(found.constants)
    return [f"{count} constants of the graph are no weights: {listed(found.constants, 3)}"] if count else []


def tensor_lines(entries: Mapping[str, TensorEntry], stats: Mapping[str, Stats | None]) -> list[TensorLine]:
    """Tensors with their layers collapsed; layers of another shape or dtype stand on lines of their own."""
    alike: dict[tuple[tuple[int, ...], str], list[str]] = {}
    for name, entry in entries.items():
        alike.setdefault((entry.shape, entry.dtype.name), []).append(name)
    lines: list[TensorLine] = []
    for (shape, dtype), members in alike.items():
        for name, names in grouped(members).items():
            tied = sum(entries[one].tied is not None for one in names)
            known = [line for one in names if (line := stats.get(one)) is not None]
            lines.append(TensorLine(name, tuple(names), shape, dtype, tied, merged(known) if known else None))
    place = {name: i for i, name in enumerate(entries)}
    return sorted(lines, key=lambda line: place[line.names[0]])


def _non_finite(stats: Mapping[str, Stats | None]) -> list[str]:
    lines = []
    for name, line in stats.items():
        if line is not None and line.nan + line.inf:
            counts = [f"{count} {what}" for count, what in ((line.nan, "NaN"), (line.inf, "Inf")) if count]
            lines.append(f"{', '.join(counts)} in {name}")
    return lines


def _model_json(model: ModelInspection) -> dict[str, Any]:
    return {
        "name": model.name,
        "prefix": model.prefix,
        "groups": list(model.groups),
        "absent": list(model.absent),
        "config": dict(model.config),
        "problems": list(model.problems),
    }


def _slots_json(slots: SlotInspection | None) -> dict[str, Any] | None:
    if slots is None:
        return None
    return {
        "name": slots.optimizer,
        "roles": dict(slots.roles),
        "scalars": dict(slots.scalars),
        "orphans": list(slots.orphans),
    }


def _line_json(line: TensorLine) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": line.name,
        "tensors": len(line.names),
        "shape": list(line.shape),
        "dtype": line.dtype,
    }
    if line.stats is not None:
        values["stats"] = jsonable(line.stats.to_json())
    return values
