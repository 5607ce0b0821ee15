"""From a path and the user's wishes to a plan in which nothing is left open, before a byte is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from porting.checkpoint.entry import Checkpoint, TensorEntry
from porting.checkpoint.equal import equal_bits
from porting.checkpoint.registry import read
from porting.convert.config import Config, find_config
from porting.convert.ledger import Record
from porting.convert.match import Match, find
from porting.convert.moved import Carried, Moved
from porting.convert.names import allowed, collapse, ranges
from porting.convert.naming import Held, Reference, Wishes, against_reference, against_sizes, reference, target_of
from porting.convert.notation import FREE_WORD
from porting.convert.parameters import float_dtype, parameters
from porting.convert.plan import plan_model
from porting.convert.planned import Dropped, Plan
from porting.convert.registry import families, target_dialect
from porting.convert.sizes import Bound, bind
from porting.convert.source import Source, open_source
from porting.convert.table import Dialect
from porting.convert.ties import tie_pairs
from porting.convert.zeros import is_zero
from porting.errors import MismatchError


@dataclass(frozen=True)
class Request:
    """What a conversion was asked to do; the command's options by the same names.

    to: a dialect or a framework. source_framework: the left half of a direction such as tf2ms.
    """

    source: Path
    to: str
    source_framework: str | None = None
    source_format: str | None = None
    family: str | None = None
    source_dialect: str | None = None
    config: Path | str | None = None
    prefix: str | None = None
    like: Path | None = None
    layers: tuple[int, ...] | None = None
    dtype: str | None = None
    with_optimizer: bool = False
    optimizer: Path | None = None
    allow_missing: tuple[str, ...] = ()
    allow_unexpected: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A conversion ready to run: the target's entries in order, and a record of how each comes about.

    tree: what a PyTorch training checkpoint is made of (`torch_tree`); None for a plain checkpoint.
    """

    request: Request
    source: Source
    match: Match
    bounds: tuple[Bound, ...]
    dialect: Dialect
    config: Config
    entries: Mapping[str, TensorEntry]
    records: tuple[Record, ...]
    dropped: tuple[Dropped, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    absent: tuple[str, ...]
    tree: Any
    notes: tuple[str, ...]


def prepare(request: Request) -> Prepared:
    """Read, match, bind and plan.

    Raises: MismatchError with everything that does not fit; UsageError, FormatError.
    """
    source = open_source(request)
    entries = source.entries
    match = find(
        tuple(entries),
        families(),
        family=request.family,
        dialect=request.source_dialect,
        framework=None if request.source_dialect else request.source_framework,
        sizes={name: entry.shape for name, entry in entries.items()},
    )
    dialect = target_dialect(match.family, request.to)
    config = find_config(match.family, source.checkpoint.path, request.config)
    bounds = tuple(
        bind(model, entries, config.values, config_name=config.name, allow_missing=request.allow_missing)
        for model in match.models
    )
    like = reference(_state_dict(read(request.like)), match, dialect) if request.like else None
    unplannable = [problem for bound in bounds for problem in bound.problems] + _layers(request, bounds)
    unexpected, refused = _unknown(match, request.allow_unexpected)
    problems = [*unplannable, *_refusals(source, match, refused), *_required(request, match), *_fields(request, match)]
    if unplannable:
        problems += against_sizes(bounds, like, layers_chosen=request.layers is not None) if like else []
        raise MismatchError(_title(source, match, dialect), problems)
    untied = frozenset(a for bound in bounds for a, b in tie_pairs(bound) if not same(entries[a], entries[b]))
    plans = _plans(request, bounds, dialect, config, like, untied, entries)
    return _assemble(request, source, match, bounds, dialect, config, plans, like, unexpected, problems)


def _state_dict(checkpoint: Checkpoint) -> Checkpoint:
    """The parameters of a reference that may be a training checkpoint."""
    if "tree" not in checkpoint.metadata:
        return checkpoint
    from porting.convert.torch_state import state_dict_of

    return state_dict_of(checkpoint)


def _title(source: Source, match: Match, dialect: Dialect) -> str:
    return f"{source.checkpoint.path}: {match.family.name} {match.dialect.name} does not convert to {dialect.name}"


def _unknown(match: Match, patterns: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Names that no row accounts for: those allowed, and those refused."""
    fine = tuple(name for name in match.unknown if allowed(name, patterns))
    return fine, [name for name in match.unknown if name not in set(fine)]


def _refusals(source: Source, match: Match, names: Sequence[str]) -> list[str]:
    """Why names are refused: anonymous ONNX initializers by their own reason, collapsed names otherwise."""
    reasons = source.checkpoint.metadata.get("anonymous", {})
    lines = [
        f"{name}  anonymous: {reasons[name]} (--like REFERENCE names it by value)" for name in names if name in reasons
    ]
    plain = [name for name in names if name not in reasons]
    return lines + [
        f"{name}  unexpected: no row of {match.family.name} {match.dialect.name}" for name in collapse(plain)
    ]


def _required(request: Request, match: Match) -> list[str]:
    known = [group.name for group in match.family.groups]
    there = {name for model in match.models for name in model.groups}
    lacking = [name for name in request.require if name in known and name not in there]
    return [f"group {name}: required, but the checkpoint does not have it" for name in lacking] + [
        f"group {name}: not known; there are {', '.join(known)}" for name in request.require if name not in known
    ]


def _fields(request: Request, match: Match) -> list[str]:
    """Values for fields of names that the family does not have, or that could not be read back."""
    cells = (form.cell for _, row in match.family.rows() for forms in row.cells.values() for form in forms)
    known = sorted({part.name for cell in cells for part in cell.fields if part.kind == "free"})
    there = ", ".join(known) or "none"
    return [f"field {name}: not known; there are {there}" for name in request.variables if name not in known] + [
        f"field {name}: wanted a word without / . and spaces, got {value!r}"
        for name, value in request.variables.items()
        if name in known and not FREE_WORD.fullmatch(value)
    ]


def _layers(request: Request, bounds: Sequence[Bound]) -> list[str]:
    if request.layers is None:
        return []
    if not request.layers or min(request.layers) < 0:
        return [f"--layers {', '.join(map(str, request.layers))}: wanted layers from 0 on"]
    problems = []
    for bound in bounds:
        count = bound.sizes.get("layer")
        beyond = [layer for layer in request.layers if count is not None and layer >= count]
        if beyond:
            problems.append(f"--layers {ranges(beyond)}: the checkpoint has layers 0-{(count or 0) - 1}")
    return problems


def _plans(
    request: Request,
    bounds: Sequence[Bound],
    dialect: Dialect,
    config: Config,
    like: Reference | None,
    untied: frozenset[str],
    entries: Mapping[str, TensorEntry],
) -> list[Plan]:
    wishes = Wishes(request.prefix, request.variables, request.layers, config.values)
    several = len(bounds) > 1
    targets = [target_of(b, dialect, wishes, several=several, like=like, untied=untied) for b in bounds]
    return [plan_model(b, target, entries) for b, target in zip(bounds, targets, strict=True)]


def _assemble(
    request: Request,
    source: Source,
    match: Match,
    bounds: tuple[Bound, ...],
    dialect: Dialect,
    config: Config,
    plans: Sequence[Plan],
    like: Reference | None,
    unexpected: tuple[str, ...],
    known_problems: Sequence[str],
) -> Prepared:
    """Plans to entries and records; every problem that is left is raised here, all at once."""
    problems = [*known_problems, *(problem for plan in plans for problem in plan.problems)]
    absent = tuple(dict.fromkeys(name for plan in plans for name in plan.absent))
    held = Held()
    if like is not None:
        held = against_reference(plans, like, missing=request.allow_missing, unexpected=request.allow_unexpected)
        problems += held.problems
    problems += _collisions(plans)
    problems += _unequal(plans, source.entries)
    problems += _nonzero(request, plans, source.entries)
    if problems:
        raise MismatchError(_title(source, match, dialect), problems)
    dropped = [line for plan in plans for line in plan.dropped]
    dropped += [Dropped(name, "allowed to be unexpected") for name in unexpected]
    dropped += [Dropped(name, "a constant of the graph, no weight") for name in source.constants]
    dropped += _left_over(request, plans, dropped)
    plans = [_without(plan, held.left_out) for plan in plans]
    entries, records = parameters(source, plans, like, float_dtype(request.dtype))
    carried, tree = Carried(), None
    if request.with_optimizer or request.optimizer is not None or _has_state(source, match):
        moved = Moved(source, plans, dropped, dialect, like)
        carried, entries, records, tree = _with_state(request, match, moved, entries, records)
    return Prepared(
        request=request,
        source=source,
        match=match,
        bounds=bounds,
        dialect=dialect,
        config=config,
        entries={**entries, **carried.entries},
        records=(*records, *carried.records),
        dropped=(*dropped, *carried.dropped),
        missing=(*(name for bound in bounds for name in bound.allowed), *held.lacking),
        unexpected=(*unexpected, *sorted(held.left_out)),
        absent=absent,
        tree=tree,
        notes=(*source.checkpoint.notes, *carried.notes),
    )


def _has_state(source: Source, match: Match) -> bool:
    """Is there anything but parameters? Most checkpoints have nothing, and need not load what handles it."""
    slots = match.slots
    return bool(slots.roles or slots.scalars or slots.orphans or source.states or "tree" in source.checkpoint.metadata)


def _with_state(
    request: Request, match: Match, moved: Moved, entries: dict[str, TensorEntry], records: list[Record]
) -> tuple[Carried, dict[str, TensorEntry], list[Record], Any]:
    """The optimizer's state, carried or left by name, and the parameters where PyTorch's nested form puts them."""
    from porting.convert.optimizer import carry_optimizer, leave_optimizer
    from porting.convert.torch_optimizer import nested
    from porting.convert.torch_state import other_keys

    wanted = request.with_optimizer or request.optimizer is not None
    carried = carry_optimizer(moved, match) if wanted else leave_optimizer(moved.source, match)
    others = tuple(Dropped(key, "state of a training loop, no weight") for key in other_keys(moved.source.checkpoint))
    entries, records, tree = nested(entries, records, carried)
    return replace(carried, dropped=(*others, *carried.dropped)), entries, records, tree


def _without(plan: Plan, names: frozenset[str]) -> Plan:
    tensors = tuple(one for one in plan.tensors if one.name not in names)
    return replace(plan, tensors=tensors, zeros=tuple(one for one in plan.zeros if one.name not in names))


def _left_over(request: Request, plans: Sequence[Plan], dropped: Sequence[Dropped]) -> list[Dropped]:
    """Tensors of layers that --layers leaves out, and parts of what an allowed absence keeps from being made."""
    used = {name for plan in plans for one in plan.tensors for name in one.all_sources} | {
        line.name for line in dropped
    }
    found = (n for plan in plans for f in plan.bound.model.found.values() for n in f.names.values())
    why = "other parts of what it becomes are missing, as allowed"
    if request.layers is not None:
        why = f"--layers keeps {ranges(request.layers)}"
    return [Dropped(name, why) for name in found if name not in used]


def _collisions(plans: Sequence[Plan]) -> list[str]:
    counts = Counter(one.name for plan in plans for one in plan.tensors)
    counts.update(one.name for plan in plans for one in plan.zeros)
    twice = sorted(name for name, count in counts.items() if count > 1)
    return [f"{name}: two tensors would get this name" for name in collapse(twice)]


def _unequal(plans: Sequence[Plan], entries: Mapping[str, TensorEntry]) -> list[str]:
    """Targets made of several sources that must hold the same bits and do not."""
    problems = []
    for plan in plans:
        for one in plan.tensors:
            differ = [other for first, other in one.equal if not same(entries[first], entries[other])]
            if differ:
                first = one.equal[0][0]
                problems.append(
                    f"{one.name}: {plan.dialect.name} has one for all, but {', '.join(collapse(differ))} differ from {first}"
                )
    return problems


def _nonzero(request: Request, plans: Sequence[Plan], entries: Mapping[str, TensorEntry]) -> list[str]:
    """Tensors that only zeros may be left out of, and that hold something."""
    names = [line.name for plan in plans for line in plan.dropped if line.zero]
    held = [name for name in names if not allowed(name, request.allow_unexpected) and not is_zero(entries[name])]
    where = plans[0].dialect.name if plans else ""
    return [f"{name}: is not zero, and {where} has no place for it (--allow-unexpected)" for name in collapse(held)]


def same(one: TensorEntry, two: TensorEntry) -> bool:
    """Equal shape, dtype and bits; shared storages are not read."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    if two.name in (one.tied, one.name) or one.name == two.tied or (one.tied is not None and one.tied == two.tied):
        return True
    return equal_bits(one, two)
