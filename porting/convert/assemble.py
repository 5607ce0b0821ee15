"""From plans to what is written: entries, records, what is dropped, and every problem that is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.equal import equal_bits
from porting.convert.ledger import Record
from porting.convert.match import Match
from porting.convert.moved import Carried, Moved
from porting.convert.names import allowed, collapse, ranges
from porting.convert.naming import Held, against_reference
from porting.convert.parameters import float_dtype, parameters
from porting.convert.planned import Dropped, Plan
from porting.convert.request import Prepared, Request, Setting
from porting.convert.source import Source
from porting.convert.zeros import is_zero
from porting.errors import MismatchError


def assemble(setting: Setting, plans: Sequence[Plan], known_problems: Sequence[str]) -> Prepared:
    """Plans to entries and records.

    Raises: MismatchError with every problem, those that are known and those that planning has found.
    """
    request, source, match, like = setting.request, setting.source, setting.match, setting.like
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
        raise MismatchError(setting.title, problems)
    dropped = [line for plan in plans for line in plan.dropped]
    dropped += [Dropped(name, "allowed to be unexpected") for name in setting.unexpected]
    dropped += [Dropped(name, "a constant of the graph, no weight") for name in source.constants]
    dropped += _left_over(request, plans, dropped)
    plans = [_without(plan, held.left_out) for plan in plans]
    entries, records = parameters(source, plans, like, float_dtype(request.dtype))
    carried, tree = Carried(), None
    if request.with_optimizer or request.optimizer is not None or _has_state(source, match):
        moved = Moved(source, plans, dropped, setting.dialect, like)
        carried, entries, records, tree = _with_state(request, match, moved, entries, records)
    return Prepared(
        request=request,
        source=source,
        match=match,
        bounds=setting.bounds,
        dialect=setting.dialect,
        config=setting.config,
        entries={**entries, **carried.entries},
        records=(*records, *carried.records),
        dropped=(*dropped, *carried.dropped),
        missing=(*(name for bound in setting.bounds for name in bound.allowed), *held.lacking),
        unexpected=(*setting.unexpected, *sorted(held.left_out)),
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
    return carried._replace(dropped=(*others, *carried.dropped)), entries, records, tree


def _without(plan: Plan, names: frozenset[str]) -> Plan:
    tensors = tuple(one for one in plan.tensors if one.name not in names)
    return plan._replace(tensors=tensors, zeros=tuple(one for one in plan.zeros if one.name not in names))


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
                names = ", ".join(collapse(differ))
                problems.append(f"{one.name}: {plan.dialect.name} has one for all, but {names} differ from {first}")
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
