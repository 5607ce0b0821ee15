"""What both kinds of optimizer state have in common: moments by the rules of their parameters, numbers as tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.entry import TensorEntry
from porting.checkpoint.storage import InMemory
from porting.convert.ledger import Record
from porting.convert.moved import Carried, Moved
from porting.convert.names import listed
from porting.convert.optimizer_state import OptimizerState
from porting.convert.planned import Dropped, Plan, Planned
from porting.convert.source import Source
from porting.convert.table import Scalar, SlotForm
from porting.errors import UsageError


def moments(moved: Moved, state: OptimizerState, form: SlotForm, name_of: Callable[[Planned, str], str]) -> Carried:
    """Every slot by its parameter's rule; reasons for those that cannot follow it. A tied copy has none of its own."""
    entries: dict[str, TensorEntry] = {}
    records: list[Record] = []
    reasons: dict[str, str] = {line.name: line.reason for line in moved.dropped}
    why: dict[str, str] = {}
    bare: list[str] = []
    taken: set[str] = set()
    for one in (one for plan in moved.plans if trained(state, plan) for one in plan.tensors if not one.tied):
        reason = _obstacle(state, one)
        if reason is not None:
            why |= dict.fromkeys(one.all_sources, reason)
        if reason is not None or not any(share in state.slots for share in one.sources):
            bare.append(one.name)
            continue
        for role in [role for role in form.roles if all(role in state.slots[share] for share in one.sources)]:
            slots = {share: state.slots[share][role] for share in one.sources}
            name = name_of(one, role)
            entry = one.entry(lambda share, of=slots: moved.source.tensors[of[share]], name)  # type: ignore[misc]
            entries[name] = entry
            taken |= set(slots.values())
            records.append(
                Record(
                    name,
                    tuple(slots.values()),
                    one.steps,
                    entry.shape,
                    entry.dtype.name,
                    group=one.group,
                    slot=role,
                )
            )
    dropped = [
        Dropped(slot, _reason(name, role, why, reasons, form))
        for name, roles in state.slots.items()
        for role, slot in roles.items()
        if slot not in taken
    ]
    note = f"without slots, so that the optimizer begins anew with them: {listed(bare)}"
    return Carried(entries, tuple(records), tuple(dropped), (note,) if bare else ())


def trained(state: OptimizerState, plan: Plan) -> bool:
    """Has the model any slots? A teacher has none."""
    return any(name in state.slots for found in plan.bound.model.found.values() for name in found.names.values())


def _obstacle(state: OptimizerState, one: Planned) -> str | None:
    """Why a parameter's slots do not follow it."""
    if one.equal or one.rule.replicate:
        return "its parameter is one for several, and their moments are sums that do not come apart"
    partial = [share for share in one.sources if share not in state.slots]
    if partial and len(partial) < len(one.sources):
        return f"{one.name} is made of several parameters, and {partial[0]} has no slots"
    lacking = [share for share in one.sources if share in state.slots and not {"m", "v"} <= set(state.slots[share])]
    return f"{lacking[0]} has one moment of two" if lacking else None


def _reason(name: str, role: str, why: Mapping[str, str], reasons: Mapping[str, str], form: SlotForm) -> str:
    """Why a parameter's slot was not carried over."""
    if name in why:
        return why[name]
    if name in reasons:
        return f"its parameter is dropped: {reasons[name]}"
    if role not in form.roles:
        return f"{form.optimizer} keeps no {role}"
    return "its parameter is not carried over"


def scalar_value(state: OptimizerState, role: str, scalar: Scalar) -> float | None:
    """What a scalar of this role is in the target; None if the source does not tell it."""
    if role == "step":
        return state.step
    if role == "learning_rate":
        return state.rate or None  # 0 stands in a PyTorch checkpoint whose rate was not known
    power = state.betas.get(role.removesuffix("_power"))
    return power.at(state.step + scalar.ahead) if power is not None and state.step is not None else None


def scalar_entry(name: str, value: float, scalar: Scalar) -> TensorEntry:
    """A number as a tensor.

    Raises: UsageError if the dtype does not hold it.
    """
    kind = DTYPES[scalar.dtype]
    if kind.kind == "int" and int(value) >= 1 << kind.bits - 1:
        raise UsageError(f"--with-optimizer: {name} is {kind} and does not hold {int(value)}")
    array = np.full(scalar.shape, value, kind.numpy())
    return TensorEntry(name, scalar.shape, kind, InMemory(array), "derived")


def scalar_record(source: Source, entry: TensorEntry, sources: Sequence[str], role: str) -> Record:
    """How a scalar came about: copied if the bytes are those of its source."""
    first = source.tensors[sources[0]] if sources else None
    operation = "derive"
    if first is not None and first.elements == entry.elements:
        same = first.dtype == entry.dtype and first.read().tobytes() == entry.read().tobytes()
        operation = "copy" if same else "derive" if role.endswith("_power") else f"{first.dtype} -> {entry.dtype}"
    return Record(entry.name, tuple(sources), (operation,), entry.shape, entry.dtype.name, slot=role)


def difference(source: SlotForm, target: SlotForm) -> list[str]:
    """What the two optimizers do differently with the same moments."""
    corrects = {True: "corrects their bias", False: "does not correct their bias", None: "may correct their bias"}
    notes = []
    if source.bias_correction != target.bias_correction:
        notes.append(
            f"the moments are carried over as they are, but {source.optimizer} {corrects[source.bias_correction]} "
            f"and {target.optimizer} {corrects[target.bias_correction]}"
        )
    if source.epsilon_hat != target.epsilon_hat and source.bias_correction and target.bias_correction:
        hat = "to the root of the uncorrected second moment"
        plain = "to that of the corrected one"
        notes.append(
            f"{source.optimizer} adds epsilon {hat if source.epsilon_hat else plain}, "
            f"{target.optimizer} {hat if target.epsilon_hat else plain}"
        )
    return notes
