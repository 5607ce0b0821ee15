"""The optimizer's state, carried over with the parameters it belongs to or left behind by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from porting.checkpoint.entry import TensorEntry
from porting.convert.ledger import Record
from porting.convert.match import Match
from porting.convert.plan import Dropped, Plan
from porting.convert.slots import slot_name
from porting.convert.source import Source
from porting.convert.table import Dialect
from porting.errors import UsageError


@dataclass(frozen=True)
class Carried:
    """What becomes of the optimizer's state.

    entries: target entries beside the parameters. tree: for PyTorch, the structure of a state_dict
    whose leaves are the entries; None for all others.
    """

    entries: Mapping[str, TensorEntry] = field(default_factory=dict)
    records: tuple[Record, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()
    tree: Mapping[str, Any] | None = None


def leave_optimizer(source: Source, match: Match, plans: Sequence[Plan], dialect: Dialect) -> Carried:
    """Name every slot and scalar that stays behind."""
    del source, plans, dialect
    slots = match.slots
    names = [name for roles in slots.roles.values() for name in roles.values()]
    names += [*slots.scalars.values(), *slots.orphans]
    return Carried(dropped=tuple(Dropped(name, "optimizer state: --with-optimizer carries it") for name in names))


def carry_optimizer(source: Source, match: Match, plans: Sequence[Plan], dialect: Dialect) -> Carried:
    """Slots by the rules of their parameters, scalars by role; the rest is dropped with its reason.

    Raises: UsageError if the source has no optimizer state, or the target's dialect no names for it.
    """
    form = match.slots.form
    if form is None:
        raise UsageError(f"--with-optimizer: {source.checkpoint.path} holds no optimizer state of {match.dialect.name}")
    if not dialect.slots:
        raise UsageError(f"--with-optimizer: {dialect.name} has no names for optimizer state")
    target = next((other for other in dialect.slots if other.bias_correction == form.bias_correction), dialect.slots[0])
    entries: dict[str, TensorEntry] = {}
    records: list[Record] = []
    dropped: list[Dropped] = []
    for plan in plans:
        for one in plan.tensors:
            for role in form.roles:
                slots = {share: match.slots.roles.get(share, {}).get(role) for share in one.sources}
                if role not in target.roles or None in slots.values() or one.equal or one.tied or one.rule.replicate:
                    reason = "slots do not cross where one parameter stands for several"
                    dropped += [Dropped(slot, reason) for slot in slots.values() if slot is not None]
                    continue
                name = slot_name(target, role, one.name)
                entry = one.entry({share: source.entries[slot] for share, slot in slots.items() if slot}.__getitem__, name)
                entries[name] = entry
                sources = tuple(slot for slot in slots.values() if slot is not None)
                records.append(Record(name, sources, one.rule.steps, entry.shape, entry.dtype.name, group=one.group, slot=role))
    for role, name in match.slots.scalars.items():
        if role in target.scalars:
            entry = source.entries[name]
            entries[target.scalars[role]] = TensorEntry(target.scalars[role], entry.shape, entry.dtype, entry.storage, entry.place)
            records.append(Record(target.scalars[role], (name,), ("copy",), entry.shape, entry.dtype.name, slot=role))
        else:
            dropped.append(Dropped(name, f"{target.optimizer} of {dialect.name} keeps no {role}"))
    dropped += [Dropped(name, "its parameter is not in the checkpoint") for name in match.slots.orphans]
    return Carried(entries, tuple(records), tuple(dropped))
